package neuroseal

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// TestAdapter: what a converted adapter adds to the sealed weights is what the
// seal makes of what the adapter adds to the original's, element by element, in
// every family; and converting back gives the same bytes.
func TestAdapter(t *testing.T) {
	families := []string{"llama", "llama-tied", "qwen2", "gpt2", "phi3", "mixtral", "gpt_oss", "gemma2", "bert", "deepseek_v3", "opt", "falcon7b", "mamba", "dbrx", "granitemoe"}
	kinds := []LockOptions{{Profile: seal.Max, Signs: true}, {Profile: seal.Portable}, {Profile: seal.Max, Permute: true, Signs: true}}
	for i, name := range families {
		for k, o := range kinds {
			if testing.Short() && (i+k)%3 != 0 {
				continue
			}
			o.Key = keys.SealKey{byte(i), byte(k), 7}
			t.Run(name+"/"+string(o.Profile)+[]string{"", "", "/permuted"}[k], func(t *testing.T) {
				converts(t, sealedFixture(t, name, o))
			})
		}
	}
}

func converts(t *testing.T, o LockOptions) {
	ck, err := checkpoint.Open(o.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	man, _ := readManifest(o.Output)
	a := newTestAdapter(man.ModelType)
	stacks := map[string][]checkpoint.Tensor{}
	for _, x := range ck.Tensors() {
		path := x.Name[:max(strings.LastIndexByte(x.Name, '.'), 0)]
		switch {
		case !x.DType.Scalable():
		case len(x.Shape) == 3 && strings.HasSuffix(path, ".experts"):
			stacks[path] = append(stacks[path], x)
		default:
			a.adapt(x)
		}
	}
	for path, list := range stacks {
		slices.SortFunc(list, func(x, y checkpoint.Tensor) int { return strings.Compare(y.Name, x.Name) })
		a.experts(path, list)
	}
	checkConversion(t, o, a)
}

// checkConversion converts an adapter to a sealed model and back.
func checkConversion(t *testing.T, o LockOptions, a *testAdapter) {
	t.Helper()
	src := a.write(t)
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	c := AdapterOptions{Source: src, Output: there, Sealed: o.Output, ToSealed: true, Key: fixedKey(o.Key)}
	res, err := ConvertAdapter(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if res.Changed == 0 || res.Tensors != len(a.tensors) || res.Base != "org/name" {
		t.Errorf("%+v", res)
	}
	want, moved := map[string][]float64{}, map[string][]float64{}
	before, after := getter(t, src), getter(t, there)
	for name, delta := range a.deltas {
		want[name], moved[name] = delta(before), delta(after)
	}
	for name, got := range unsealed(t, o, moved) {
		if !slices.Equal(got, want[name]) {
			t.Errorf("%s: the converted update is not the seal of the update", name)
		}
	}
	c.Source, c.Output, c.ToSealed = there, back, false
	if _, err := ConvertAdapter(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	sameFolder(t, src, back)
}

// TestAdapterRefuses: what has no exact counterpart, and what does not belong
// to the model.
func TestAdapterRefuses(t *testing.T) {
	o := sealedFixture(t, "llama", LockOptions{Profile: seal.Max})
	static := sealedFixture(t, "llama", LockOptions{Method: seal.Static})
	const q = "model.layers.0.self_attn.q_proj"
	ck, _ := checkpoint.Open(o.Source)
	weight, _ := ck.Tensor(q + ".weight")
	ck.Close()
	plain := func() *testAdapter {
		a := newTestAdapter("llama")
		a.adapt(weight)
		return a
	}
	for name, c := range map[string]struct {
		edit func(*testAdapter, *AdapterOptions)
		kind fault.Kind
		word string
	}{
		"static":     {func(_ *testAdapter, o *AdapterOptions) { o.Sealed = static.Output }, fault.Unsupported, "real factors"},
		"not sealed": {func(_ *testAdapter, c *AdapterOptions) { c.Sealed = o.Source }, fault.NotSealed, "not sealed"},
		"wrong key":  {func(_ *testAdapter, c *AdapterOptions) { c.Key = fixedKey(keys.SealKey{99}) }, fault.WrongKey, "key"},
		"model":      {func(_ *testAdapter, c *AdapterOptions) { c.Source = o.Output }, fault.Unsupported, "no adapter"},
		"type":       {func(a *testAdapter, _ *AdapterOptions) { a.config["peft_type"] = "OFT" }, fault.Unsupported, "rotation"},
		"option":     {func(a *testAdapter, _ *AdapterOptions) { a.config["use_qalora"] = true }, fault.Unsupported, "use_qalora"},
		"new option": {func(a *testAdapter, _ *AdapterOptions) { a.config["use_magic"] = 1 }, fault.Unsupported, "use_magic"},
		"pissa":      {func(a *testAdapter, _ *AdapterOptions) { a.config["init_lora_weights"] = "pissa_niter_4" }, fault.Unsupported, "pissa"},
		"rank":       {func(a *testAdapter, _ *AdapterOptions) { a.config["r"] = 3 }, fault.Mismatch, "rank 2"},
		"other rank": {func(a *testAdapter, _ *AdapterOptions) {
			a.add("model.layers.1.self_attn.q_proj.lora_A.weight", 3, 4)
			a.add("model.layers.1.self_attn.q_proj.lora_B.weight", 4, 2)
		}, fault.Mismatch, "rank 3"},
		"one side": {func(a *testAdapter, _ *AdapterOptions) { a.tensors = a.tensors[:1] }, fault.Mismatch, "incomplete"},
		"no module": {func(a *testAdapter, _ *AdapterOptions) {
			a.add("model.layers.9.x.lora_A.weight", 2, 4)
			a.add("model.layers.9.x.lora_B.weight", 4, 2)
		}, fault.Mismatch, "layers.9"},
		"shape": {func(a *testAdapter, _ *AdapterOptions) {
			a.add("model.layers.0.mlp.up_proj.lora_A.weight", 2, 5)
			a.add("model.layers.0.mlp.up_proj.lora_B.weight", 7, 2)
		}, fault.Mismatch, "7 outputs"},
		"classifier":   {func(a *testAdapter, _ *AdapterOptions) { a.add("score.weight", 2, 4) }, fault.Mismatch, "score.weight"},
		"unknown part": {func(a *testAdapter, _ *AdapterOptions) { a.add(q+".lora_X.weight", 2, 4) }, fault.Unsupported, "lora_X"},
		"dora": {func(a *testAdapter, _ *AdapterOptions) {
			a.config["use_dora"] = true
			a.add(q+".lora_magnitude_vector", weight.Shape[0])
		}, fault.Unsupported, "scales apart"},
		"dora unsaid": {func(a *testAdapter, _ *AdapterOptions) { a.add(q+".lora_magnitude_vector", weight.Shape[0]) }, fault.Mismatch, "use_dora"},
		"range":       {func(a *testAdapter, _ *AdapterOptions) { extreme(a) }, fault.Unsupported, "not representable"},
		"overflow":    {func(a *testAdapter, _ *AdapterOptions) { filled(a, dtype.F32, 3e38) }, fault.Unsupported, "base_model.model." + q + ".lora_"},
		"bf16 range":  {func(a *testAdapter, _ *AdapterOptions) { filled(a, dtype.BF16, 3e38) }, fault.Unsupported, "base_model.model." + q + ".lora_"},
		"fp16 range":  {func(a *testAdapter, _ *AdapterOptions) { filled(a, dtype.F16, 6e4) }, fault.Unsupported, "base_model.model." + q + ".lora_"},
		"fp16 small":  {func(a *testAdapter, _ *AdapterOptions) { filled(a, dtype.F16, 6.2e-5) }, fault.Unsupported, "base_model.model." + q + ".lora_"},
		"subnormal":   {func(a *testAdapter, _ *AdapterOptions) { filled(a, dtype.F32, 1.2e-38) }, fault.Unsupported, "base_model.model." + q + ".lora_"},
		"type of floats": {func(a *testAdapter, _ *AdapterOptions) {
			a.tensors[0].DType = dtype.I32
		}, fault.Unsupported, "I32"},
	} {
		t.Run(name, func(t *testing.T) {
			a := plain()
			opt := AdapterOptions{Output: filepath.Join(t.TempDir(), "out"), Sealed: o.Output, ToSealed: true, Key: fixedKey(o.Key)}
			c.edit(a, &opt)
			if opt.Source == "" {
				opt.Source = a.write(t)
			}
			_, err := ConvertAdapter(context.Background(), opt)
			if c.kind == fault.NotSealed || c.kind == fault.WrongKey {
				if fault.KindOf(err) != c.kind {
					t.Errorf("kind %d, want %d: %v", fault.KindOf(err), c.kind, err)
				}
			} else {
				refused(t, err, c.kind, c.word)
			}
			if _, err := os.Stat(opt.Output); err == nil {
				t.Error("an output is there")
			}
		})
	}
}

// filled makes every number of an adapter the same.
func filled(a *testAdapter, d dtype.DType, value float32) {
	for i := range a.tensors {
		x := make([]float32, len(a.tensors[i].Data)/4)
		for k := range x {
			x[k] = value
		}
		a.tensors[i].DType, a.tensors[i].Data = d, make([]byte, len(x)*d.Bits()/8)
		dtype.FromFloat32(d, a.tensors[i].Data, x)
	}
}

// extreme makes an adapter's numbers so small and so large that no factor fits.
func extreme(a *testAdapter) {
	for i := range a.tensors {
		x := make([]float32, len(a.tensors[i].Data)/4)
		for k := range x {
			x[k] = []float32{1.2e-38, 3e38}[k%2]
		}
		dtype.FromFloat32(dtype.F32, a.tensors[i].Data, x)
	}
}

// TestAdapterManifestAlone: the manifest and the key suffice.
func TestAdapterManifestAlone(t *testing.T) {
	o := sealedFixture(t, "llama", LockOptions{Profile: seal.Strong})
	ck, err := checkpoint.Open(o.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	a := newTestAdapter("llama")
	for _, x := range ck.Tensors() {
		a.adapt(x)
	}
	src, alone := a.write(t), filepath.Join(t.TempDir(), manifest.Name)
	data, err := os.ReadFile(filepath.Join(o.Output, manifest.Name))
	if err == nil {
		err = os.WriteFile(alone, data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	var outs []string
	for _, from := range []string{o.Output, alone, filepath.Dir(alone)} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := ConvertAdapter(context.Background(), AdapterOptions{Source: src, Output: out, Sealed: from, Key: fixedKey(o.Key)}); err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	sameFolder(t, outs[0], outs[1])
	sameFolder(t, outs[0], outs[2])

	// Of a permuted seal, the weights' places are in their own files.
	p := sealedFixture(t, "llama", LockOptions{Profile: seal.Max, Permute: true})
	c := AdapterOptions{Source: src, Output: filepath.Join(t.TempDir(), "out"), Sealed: filepath.Join(p.Output, manifest.Name), Key: fixedKey(p.Key)}
	_, err = ConvertAdapter(context.Background(), c)
	refused(t, err, fault.Unsupported, "permuted", "folder")

	// Weights beside the manifest that are not those that it records.
	wrong := sealedFixture(t, "llama-mqa", LockOptions{})
	if err := os.WriteFile(filepath.Join(wrong.Output, manifest.Name), data, 0o666); err != nil {
		t.Fatal(err)
	}
	c.Sealed, c.Key = wrong.Output, fixedKey(o.Key)
	_, err = ConvertAdapter(context.Background(), c)
	refused(t, err, fault.Mismatch, "has another shape")
}

// TestAdapterJoined: an adapter of the parameters that transformers makes of
// experts' matrices fits the matrices.
func TestAdapterJoined(t *testing.T) {
	for name, c := range map[string]struct {
		path  string // on the disk
		parts [][]string
	}{
		"mixtral":   {"model.layers.0.block_sparse_moe.experts", [][]string{{"w1", "w3"}, {"w2"}}},
		"qwen3_moe": {"model.layers.1.mlp.experts", [][]string{{"gate_proj", "up_proj"}, {"down_proj"}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := sealedFixture(t, name, LockOptions{Profile: seal.Max, Signs: true})
			a := newTestAdapter(name)
			a.config["target_parameters"] = []string{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}
			ck, err := checkpoint.Open(o.Source)
			if err != nil {
				t.Fatal(err)
			}
			defer ck.Close()
			for k, parts := range c.parts {
				a.joined(t, ck, c.path, strings.Replace(c.path, "block_sparse_moe", "mlp", 1)+[]string{".base_layer", ""}[k], parts)
			}
			checkConversion(t, o, a)
			p := sealedFixture(t, name, LockOptions{Profile: seal.Max, Permute: true})
			_, err = ConvertAdapter(context.Background(), AdapterOptions{Source: a.write(t), Output: filepath.Join(t.TempDir(), "x"), Sealed: p.Output, Key: fixedKey(p.Key)})
			refused(t, err, fault.Unsupported, "permutes")
		})
	}
}

// TestAdapterGains: vectors of IA3 stay, but for their places.
func TestAdapterGains(t *testing.T) {
	for _, permute := range []bool{false, true} {
		o := sealedFixture(t, "llama", LockOptions{Profile: seal.Max, Signs: true, Permute: permute})
		a := newTestAdapter("llama")
		a.config = map[string]any{"peft_type": "IA3", "feedforward_modules": []string{"down_proj"}, "fan_in_fan_out": false}
		const up = "model.layers.0.mlp.up_proj"
		ck, err := checkpoint.Open(o.Source)
		if err != nil {
			t.Fatal(err)
		}
		defer ck.Close()
		ffn := ck.Shapes()[up+".weight"][0]
		a.add(up+".ia3_l", ffn, 1)
		a.add("model.layers.0.mlp.down_proj.ia3_l", 1, ffn)
		src, out := a.write(t), filepath.Join(t.TempDir(), "out")
		res, err := ConvertAdapter(context.Background(), AdapterOptions{Source: src, Output: out, Sealed: o.Output, ToSealed: true, Key: fixedKey(o.Key)})
		if err != nil {
			t.Fatal(err)
		}
		if (res.Changed > 0) != permute {
			t.Errorf("permuted: %v; %d tensors changed", permute, res.Changed)
		}
		before, after := getter(t, src), getter(t, out)
		for _, x := range a.tensors {
			u, v := before(x.Name), after(x.Name)
			slices.Sort(u)
			slices.Sort(v)
			if !slices.Equal(u, v) {
				t.Errorf("%s: other gains", x.Name)
			}
		}
	}
}

// TestAdapterMagnitudes: DoRA's magnitudes are norms of rows, and grow with them.
func TestAdapterMagnitudes(t *testing.T) {
	o := sealedFixture(t, "llama", LockOptions{Profile: seal.Max, Signs: true, Include: []string{"qk"}})
	const q = "model.layers.0.self_attn.q_proj"
	ck, err := checkpoint.Open(o.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	w, _ := ck.Tensor(q + ".weight")
	a := newTestAdapter("llama")
	a.adapt(w)
	a.config["use_dora"] = true
	name := a.add(q+".lora_magnitude_vector", w.Shape[0])
	src, out := a.write(t), filepath.Join(t.TempDir(), "out")
	if _, err := ConvertAdapter(context.Background(), AdapterOptions{Source: src, Output: out, Sealed: o.Output, ToSealed: true, Key: fixedKey(o.Key)}); err != nil {
		t.Fatal(err)
	}
	moved := 0
	before, after := getter(t, src)(name), getter(t, out)(name)
	x, y := weights(t, ck, w), sealedWeights(t, o, w)
	for r := range before {
		ratio := math.Abs(y[r*w.Shape[1]] / x[r*w.Shape[1]])
		if float64(after[r]) != ratio*float64(before[r]) {
			t.Errorf("row %d, times %g: magnitude %g became %g", r, ratio, before[r], after[r])
		}
		if ratio != 1 {
			moved++
		}
	}
	if moved == 0 {
		t.Error("no row moves")
	}
}
