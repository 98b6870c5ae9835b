package train

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
)

var (
	someModules = []string{"v_proj", "o_proj", "up_proj", "down_proj"}
	ia3Modules  = []string{"k_proj", "v_proj", "down_proj"}
)

// curveTolerance is the relative difference allowed in a loss. A weight decay or a
// clipping bound that is not applied moves a curve by less than 1e-3.
const curveTolerance = 1e-5

// TestCurves compares 20 steps with PyTorch, transformers and PEFT.
func TestCurves(t *testing.T) {
	raw, err := os.ReadFile("testdata/curves.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Tokens []int32
		Curves map[string][]float64
	}
	if err := json.Unmarshal(raw, &ref); err != nil {
		t.Fatal(err)
	}
	for i, v := range ref.Tokens {
		if got := curveData(0).Tokens[i]; got != v {
			t.Fatalf("token %d is %d, in Python %d", i, got, v)
		}
	}
	lora := Trainable{Kind: LoRA, Modules: someModules, Rank: 8, Alpha: 16}
	rs, plus, dora := lora, lora, lora
	rs.Modules, rs.RSLoRA = []string{AllLinear}, true
	plus.Ratio = 16
	dora.Kind, dora.Modules = DoRA, []string{AllLinear}
	all := lora
	all.Modules = []string{AllLinear}
	g, _ := openModel(t, demoModel, curveTokens)
	shapes := map[string][]int{}
	for name, id := range g.Weights() {
		shapes[name] = g.Shape(id)
	}
	cases := map[string]struct {
		what Trainable
		how  TrainOptions
	}{
		"full adamw":     {Trainable{Kind: Full}, TrainOptions{LR: 1e-3, Optimizer: Optimizer{WeightDecay: 0.1}, Schedule: Linear, Warmup: 4, Steps: 20, Clip: 1}},
		"full sgd":       {Trainable{Kind: Full}, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: SGD, Momentum: 0.9}, Schedule: Cosine, Steps: 20}},
		"full adafactor": {Trainable{Kind: Full}, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: Adafactor}}},
		"full lion":      {Trainable{Kind: Full}, TrainOptions{LR: 1e-4, Optimizer: Optimizer{Method: Lion, WeightDecay: 0.1}}},
		"full lamb":      {Trainable{Kind: Full}, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: LAMB, WeightDecay: 0.01}}},
		"full muon":      {Trainable{Kind: Full}, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: Muon, RestRatio: 0.1}}},
		"lora embedding": {Trainable{Kind: LoRA, Modules: []string{"embed_tokens", "q_proj"}, Rank: 8, Alpha: 16}, TrainOptions{LR: 2e-3}},
		"soft prompt":    {Trainable{Kind: SoftPrompt, Virtual: 6}, TrainOptions{LR: 3e-2}},
		"lora":           {lora, TrainOptions{LR: 2e-3, Clip: 1}},
		"rslora":         {rs, TrainOptions{LR: 1e-3}},
		"lora+":          {plus, TrainOptions{LR: 5e-4}},
		"dora":           {dora, TrainOptions{LR: 2e-3}},
		"full shampoo":   {Trainable{Kind: Full}, TrainOptions{LR: 2e-3, Optimizer: Optimizer{Method: Shampoo, WeightDecay: 0.1, Eps: 1e-4}}},
		"full row-col":   {Trainable{Kind: Full}, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: RowCol, WeightDecay: 0.1}, Clip: 1}},
		"full pair":      {Trainable{Kind: Full}, TrainOptions{LR: 1e-3, Optimizer: Optimizer{Method: Pair, WeightDecay: 0.1}, Clip: 1, Scales: curveScales(shapes)}},
		"lora row-col":   {lora, TrainOptions{LR: 2e-3, Optimizer: Optimizer{Method: RowCol}}},
		"qlora nf4":      {all, TrainOptions{LR: 2e-3}},
		"qlora nf4-dq":   {all, TrainOptions{LR: 2e-3}},
		"ia3":            {Trainable{Kind: IA3, Modules: ia3Modules, FeedForward: []string{"down_proj"}}, TrainOptions{LR: 1e-2}},
	}
	adam := TrainOptions{LR: 3e-3, Optimizer: Optimizer{WeightDecay: 0.1}, Schedule: Linear, Warmup: 4, Steps: 20, Clip: 1}
	for family, modules := range map[string][]string{"gpt2": {"c_attn", "c_proj", "c_fc"}, "mamba": {"in_proj", "x_proj"}} {
		for name, how := range map[string]TrainOptions{
			"full adamw": adam, "full sgd": {LR: 1e-2, Clip: 1, Optimizer: Optimizer{Method: SGD, Momentum: 0.9}},
			"lora": {LR: 5e-3, Clip: 1}, "dora": {LR: 5e-3},
		} {
			c := cases[name]
			if c.how = how; c.what.Kind != Full {
				c.what = Trainable{Kind: Kind(name), Modules: modules, Rank: 8, Alpha: 16}
			}
			cases[family+" "+name] = c
		}
	}
	if len(ref.Curves) != len(cases) {
		t.Errorf("%d curves, expected %d", len(ref.Curves), len(cases))
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			want := ref.Curves[name]
			_, base, _ := strings.Cut(name, "qlora ")
			dir := demoModel
			if family, _, _ := strings.Cut(name, " "); family == "gpt2" || family == "mamba" {
				dir = "../../arch/testdata/" + family
			}
			got := curve(t, dir, len(want), Options{Trainable: c.what, Workers: 2, Base: base}, c.how)
			worst := 0.0
			for i, w := range want {
				d := math.Abs(got[i]-w) / w
				worst = max(worst, d)
				if !(d <= curveTolerance) {
					t.Fatalf("step %d: loss %.6f, in PyTorch %.6f", i, got[i], w)
				}
			}
			t.Logf("largest relative difference %.1e over %d steps", worst, len(want))
		})
	}
}

// curveScales are powers of two by rows and columns.
func curveScales(shapes map[string][]int) func(name string) (rows, cols []float32) {
	factors := func(name string, n int) []float32 {
		at, out := start(0, name), make([]float32, n)
		for i := range out {
			out[i] = float32(math.Exp2(math.Floor(7*unit(at+uint64(i)) - 3)))
		}
		return out
	}
	return func(name string) (rows, cols []float32) {
		s := shapes[name]
		if len(s) == 2 {
			rows = factors(name+".rows", s[0])
		}
		return rows, factors(name+".cols", s[len(s)-1])
	}
}
