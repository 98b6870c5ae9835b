package train

import (
	"encoding/json"
	"math"
	"os"
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
		"ia3":            {Trainable{Kind: IA3, Modules: ia3Modules, FeedForward: []string{"down_proj"}}, TrainOptions{LR: 1e-2}},
	}
	if len(ref.Curves) != len(cases) {
		t.Errorf("%d curves, expected %d", len(ref.Curves), len(cases))
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			want := ref.Curves[name]
			got := curve(t, demoModel, len(want), Options{Trainable: c.what, Workers: 2}, c.how)
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
