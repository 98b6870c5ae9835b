package neuroseal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/adapter"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/safetensors"
	"github.com/neuroseal/neuroseal/seal"
)

// testRank is the rank of the tests' adapters.
const testRank = 2

// testAdapter is an adapter of small whole numbers for a checkpoint's tensors,
// so that every update is exact.
type testAdapter struct {
	config  map[string]any
	tensors []safetensors.Tensor
	// deltas compute, by the model's tensor, what the adapter adds to it (or
	// puts in its place), from the adapter's own tensors.
	deltas map[string]func(get func(string) []float32) []float64
	rand   *rand.Rand
}

func newTestAdapter(typ string) *testAdapter {
	return &testAdapter{
		config: map[string]any{
			"peft_type": "LORA", "r": testRank, "lora_alpha": 4, "target_modules": []string{"q_proj"}, "init_lora_weights": true,
			"fan_in_fan_out": typ == "gpt2", "base_model_name_or_path": "org/name", "use_rslora": true, "bias": "none",
		},
		deltas: map[string]func(func(string) []float32) []float64{},
		rand:   rand.New(rand.NewPCG(1, 2)),
	}
}

// add draws a tensor.
func (a *testAdapter) add(name string, shape ...int) string {
	n := 1
	for _, d := range shape {
		n *= d
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(a.rand.IntN(5) - 2)
	}
	data := make([]byte, 4*n)
	dtype.FromFloat32(dtype.F32, data, x)
	name = "base_model.model." + name
	a.tensors = append(a.tensors, safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: name, DType: dtype.F32, Shape: shape}, Data: data})
	return name
}

// adapt adds what adapts one tensor of the model.
func (a *testAdapter) adapt(t checkpoint.Tensor) {
	path, weight := strings.CutSuffix(t.Name, ".weight")
	last := path[strings.LastIndexByte(path, '.')+1:]
	embedding := strings.Contains(last, "embed") || slices.Contains([]string{"wte", "wpe", "shared", "word_embeddings"}, last)
	switch {
	case len(t.Shape) == 2 && weight && embedding:
		left, right := a.add(path+".lora_embedding_B", t.Shape[1], testRank), a.add(path+".lora_embedding_A", testRank, t.Shape[0])
		a.product(t, left, right, 1, 0)
	case len(t.Shape) == 2 && weight:
		o, i := 0, 1
		if a.config["fan_in_fan_out"] == true {
			o, i = 1, 0
		}
		left, right := a.add(path+".lora_B.weight", t.Shape[o], testRank), a.add(path+".lora_A.weight", testRank, t.Shape[i])
		a.product(t, left, right, o, i)
	default:
		name := a.add(t.Name, t.Shape...)
		a.deltas[t.Name] = func(get func(string) []float32) []float64 {
			var out []float64
			for _, x := range get(name) {
				out = append(out, float64(x))
			}
			return out
		}
	}
}

// product is left times right, whose outputs are along axis o of the tensor.
func (a *testAdapter) product(t checkpoint.Tensor, left, right string, o, i int) {
	a.deltas[t.Name] = func(get func(string) []float32) []float64 {
		l, r := get(left), get(right)
		out := make([]float64, t.Shape[0]*t.Shape[1])
		for x := range t.Shape[o] {
			for y := range t.Shape[i] {
				sum := 0.0
				for k := range testRank {
					sum += float64(l[x*testRank+k]) * float64(r[k*t.Shape[i]+y])
				}
				at := [2]int{}
				at[o], at[i] = x, y
				out[at[0]*t.Shape[1]+at[1]] = sum
			}
		}
		return out
	}
}

// experts adapts the parameters of stacked experts, as PEFT lays them out:
// weights of (experts, in, out), the first parameter innermost.
func (a *testAdapter) experts(path string, list []checkpoint.Tensor) {
	var params []string
	for n, t := range list {
		params = append(params, t.Name[len(path)-len("experts"):])
		wrapped := path + strings.Repeat(".base_layer", len(list)-1-n)
		e, in, out := t.Shape[0], t.Shape[1], t.Shape[2]
		left, right := a.add(wrapped+".lora_B.weight", out, testRank*e), a.add(wrapped+".lora_A.weight", e*testRank, in)
		a.deltas[t.Name] = func(get func(string) []float32) []float64 {
			l, r := get(left), get(right)
			d := make([]float64, e*in*out)
			for x := range e {
				for y := range in {
					for z := range out {
						for k := range testRank {
							d[(x*in+y)*out+z] += float64(l[(z*testRank+k)*e+x]) * float64(r[(x*testRank+k)*in+y])
						}
					}
				}
			}
			return d
		}
	}
	a.config["target_parameters"] = params
}

// write writes the adapter's folder.
func (a *testAdapter) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	conf, _ := json.MarshalIndent(a.config, "", "  ")
	var buf bytes.Buffer
	err := safetensors.Write(&buf, map[string]string{"format": "pt"}, a.tensors)
	for name, data := range map[string][]byte{adapter.ConfigName: conf, adapter.WeightsName: buf.Bytes(), "README.md": []byte("# lora\n")} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o666)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// getter reads the tensors of an adapter.
func getter(t *testing.T, dir string) func(string) []float32 {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return func(name string) []float32 {
		x, ok := ck.Tensor(name)
		if !ok {
			t.Fatalf("no tensor %s", name)
		}
		buf := make([]byte, x.Size)
		if err := ck.ReadAt(x, buf, 0); err != nil {
			t.Fatal(err)
		}
		out := make([]float32, len(buf)/4)
		dtype.ToFloat32(dtype.F32, out, buf)
		return out
	}
}

// filler writes numbers in place of a tensor's.
type filler struct {
	data []byte
	size int
}

func (f filler) Edit(start int64, buf []byte) error {
	copy(buf, f.data[int(start)*f.size:])
	return nil
}

// unsealed puts numbers in place of a sealed checkpoint's weights, takes the
// seal off them with unlock's own editors, and returns what comes out.
func unsealed(t *testing.T, o LockOptions, deltas map[string][]float64) map[string][]float64 {
	t.Helper()
	ctx := context.Background()
	rewrite := func(src, name string, edit func(*checkpoint.Checkpoint) func(checkpoint.Tensor) checkpoint.Editor) string {
		ck, err := checkpoint.Open(src)
		if err != nil {
			t.Fatal(err)
		}
		defer ck.Close()
		out := filepath.Join(t.TempDir(), name)
		dir, err := atomicdir.Create(out, atomicdir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Abort()
		if _, err = ck.Rewrite(ctx, dir, checkpoint.RewriteOptions{Edit: edit(ck)}); err == nil {
			err = dir.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	filled := rewrite(o.Output, "filled", func(*checkpoint.Checkpoint) func(checkpoint.Tensor) checkpoint.Editor {
		return func(x checkpoint.Tensor) checkpoint.Editor {
			size := x.DType.Bits() / 8
			v := make([]float32, x.Size/int64(size))
			for i, d := range deltas[x.Name] {
				v[i] = float32(d)
			}
			f := filler{make([]byte, x.Size), size}
			dtype.FromFloat32(x.DType, f.data, v)
			return f
		}
	})
	man, err := readManifest(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	back := rewrite(filled, "back", func(ck *checkpoint.Checkpoint) func(checkpoint.Tensor) checkpoint.Editor {
		inv, err := inverse(ck, man, fixedKey(o.Key))
		if err != nil {
			t.Fatal(err)
		}
		return inv
	})
	ck, err := checkpoint.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	out := map[string][]float64{}
	for name := range deltas {
		x, _ := ck.Tensor(name)
		buf := make([]byte, x.Size)
		if err := ck.ReadAt(x, buf, 0); err != nil {
			t.Fatal(err)
		}
		v := make([]float32, len(deltas[name]))
		dtype.ToFloat32(x.DType, v, buf)
		for _, f := range v {
			out[name] = append(out[name], float64(f))
		}
	}
	return out
}

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

// joined adapts experts' matrices, one below the other, as one parameter.
func (a *testAdapter) joined(t *testing.T, ck *checkpoint.Checkpoint, path, wrapped string, names []string) {
	var experts [][]checkpoint.Tensor
	for e := 0; ; e++ {
		var list []checkpoint.Tensor
		for _, n := range names {
			if x, ok := ck.Tensor(fmt.Sprintf("%s.%d.%s.weight", path, e, n)); ok {
				list = append(list, x)
			}
		}
		if len(list) == 0 {
			break
		}
		experts = append(experts, list)
	}
	if len(experts) < 2 {
		t.Fatalf("%d experts at %s", len(experts), path)
	}
	n, out, in := len(experts), 0, experts[0][0].Shape[1]
	for _, x := range experts[0] {
		out += x.Shape[0]
	}
	left, right := a.add(wrapped+".lora_B.weight", out, testRank*n), a.add(wrapped+".lora_A.weight", n*testRank, in)
	for e, list := range experts {
		row := 0
		for _, x := range list {
			from := row
			a.deltas[x.Name] = func(get func(string) []float32) []float64 {
				l, r := get(left), get(right)
				d := make([]float64, x.Shape[0]*in)
				for i := range d {
					for k := range testRank {
						d[i] += float64(l[(from+i/in)*testRank*n+k*n+e]) * float64(r[(e*testRank+k)*in+i%in])
					}
				}
				return d
			}
			row += x.Shape[0]
		}
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

func weights(t *testing.T, ck *checkpoint.Checkpoint, w checkpoint.Tensor) []float64 {
	t.Helper()
	buf := make([]byte, w.Size)
	if err := ck.ReadAt(w, buf, 0); err != nil {
		t.Fatal(err)
	}
	v := make([]float32, w.Size*8/int64(w.DType.Bits()))
	dtype.ToFloat32(w.DType, v, buf)
	var out []float64
	for _, x := range v {
		out = append(out, float64(x))
	}
	return out
}

func sealedWeights(t *testing.T, o LockOptions, w checkpoint.Tensor) []float64 {
	t.Helper()
	ck, err := checkpoint.Open(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	s, _ := ck.Tensor(w.Name)
	return weights(t, ck, s)
}
