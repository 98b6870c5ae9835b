package neuroseal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/neuroseal/neuroseal/safetensors"
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
