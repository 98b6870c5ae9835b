package probe_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
)

// weights are a checkpoint's tensors in memory, as fp32, to be edited by hand.
type weights struct {
	g      *graph.Graph
	values map[string][]float32
}

func (w weights) Weight(name string) (dtype.DType, int64, bool) {
	v, ok := w.values[name]
	return dtype.F32, int64(4 * len(v)), ok
}

func (w weights) ReadWeight(name string, p []byte, off int64) error {
	for i := range len(p) / 4 {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(w.values[name][int(off)/4+i]))
	}
	return nil
}

func (w weights) clone() weights {
	c := weights{w.g, map[string][]float32{}}
	for k, v := range w.values {
		c.values[k] = slices.Clone(v)
	}
	return c
}

// scale multiplies slice i along an axis of a tensor by 2^(sign·e[i]).
func (w weights) scale(t *testing.T, name string, axis, sign int, e []int) {
	t.Helper()
	id, ok := w.g.Weights()[name]
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	shape := w.g.Shape(id)
	if shape[axis] != len(e) {
		t.Fatalf("%s %v: %d exponents along axis %d", name, shape, len(e), axis)
	}
	inner := 1
	for _, d := range shape[axis+1:] {
		inner *= d
	}
	for i := range w.values[name] {
		w.values[name][i] *= float32(math.Exp2(float64(sign * e[i/inner%len(e)])))
	}
}

// rows scales the outputs of a linear map, with its bias if there is one.
func (w weights) rows(t *testing.T, linear string, sign int, e []int) {
	t.Helper()
	w.scale(t, linear+".weight", 0, sign, e)
	if _, ok := w.values[linear+".bias"]; ok {
		w.scale(t, linear+".bias", 0, sign, e)
	}
}

// exponents are n different fixed exponents in -3 … 3, none of them zero.
func exponents(n int) []int {
	r := rand.New(rand.NewPCG(3, 3))
	e := make([]int, n)
	for i := range e {
		e[i] = (1 + r.IntN(3)) * (1 - 2*r.IntN(2))
	}
	return e
}

// The fixtures' attention: 4 query heads, 2 key/value heads.
const (
	attn = "model.layers.0.self_attn."
	mlp  = "model.layers.0.mlp."
	rep  = 2
	kvs  = 2
)

// repeated gives the query heads the exponents of their key/value heads.
func repeated(e []int) []int {
	dim := len(e) / kvs
	var out []int
	for h := range kvs * rep {
		out = append(out, e[h/rep*dim:(h/rep+1)*dim]...)
	}
	return out
}

func tiled(e []int) []int { return slices.Repeat(e, rep) }

// pairs spreads one exponent per rotary pair over a head's channels: (i, i+d/2)
// with halves, (2i, 2i+1) without.
func pairs(dim int, halves bool) []int {
	var out []int
	for h := range kvs {
		e := exponents(kvs * dim / 2)[h*dim/2 : (h+1)*dim/2]
		for c := range dim {
			if halves {
				out = append(out, e[c%(dim/2)])
			} else {
				out = append(out, e[c/2])
			}
		}
	}
	return out
}

func queryKey(t *testing.T, w weights, e []int) {
	w.rows(t, attn+"q_proj", 1, repeated(e))
	w.rows(t, attn+"k_proj", -1, e)
}

func valueOutput(t *testing.T, w weights, n int, share func([]int) []int, bias bool) {
	e := exponents(n)
	if bias {
		w.rows(t, attn+"v_proj", 1, e)
	} else {
		w.scale(t, attn+"v_proj.weight", 0, 1, e)
	}
	w.scale(t, attn+"o_proj.weight", 1, -1, share(e))
}

func normReaders(t *testing.T, w weights, router bool) {
	e := exponents(16)
	w.scale(t, "model.layers.0.post_attention_layernorm.weight", 0, 1, e)
	const moe = "model.layers.0.block_sparse_moe."
	for _, x := range []string{"0", "1", "2", "3"} {
		w.scale(t, moe+"experts."+x+".w1.weight", 1, -1, e)
		w.scale(t, moe+"experts."+x+".w3.weight", 1, -1, e)
	}
	if router {
		w.scale(t, moe+"gate.weight", 1, -1, e)
	}
}

type edit func(t *testing.T, w weights)

// controls are edits that look like inverse pairs and are not, each beside the
// right way where there is one.
var controls = []struct {
	name, fixture string
	wrong, right  edit
}{
	{"untied rotary pair", "llama",
		func(t *testing.T, w weights) { queryKey(t, w, exponents(8)) },
		func(t *testing.T, w weights) { queryKey(t, w, pairs(4, true)) }},
	{"wrong rotary layout", "llama",
		func(t *testing.T, w weights) { queryKey(t, w, pairs(4, false)) },
		func(t *testing.T, w weights) { queryKey(t, w, pairs(4, true)) }},
	{"tiled instead of repeated heads", "llama",
		func(t *testing.T, w weights) { valueOutput(t, w, 8, tiled, true) },
		func(t *testing.T, w weights) { valueOutput(t, w, 8, repeated, true) }},
	{"forgotten bias", "qwen2",
		func(t *testing.T, w weights) { valueOutput(t, w, 8, repeated, false) },
		func(t *testing.T, w weights) { valueOutput(t, w, 8, repeated, true) }},
	{"forgotten router", "mixtral",
		func(t *testing.T, w weights) { normReaders(t, w, false) },
		func(t *testing.T, w weights) { normReaders(t, w, true) }},
	{"gate under SiLU", "llama",
		func(t *testing.T, w weights) {
			e := exponents(24)
			w.rows(t, mlp+"gate_proj", 1, e)
			w.scale(t, mlp+"down_proj.weight", 1, -1, e)
		},
		func(t *testing.T, w weights) {
			e := exponents(24)
			w.rows(t, mlp+"up_proj", 1, e)
			w.scale(t, mlp+"down_proj.weight", 1, -1, e)
		}},
	{"tied final norm", "llama-tied",
		func(t *testing.T, w weights) {
			e := exponents(16)
			w.scale(t, "model.norm.weight", 0, 1, e)
			w.scale(t, "model.embed_tokens.weight", 1, -1, e)
		}, nil},
	{"untied final norm", "llama",
		func(t *testing.T, w weights) { w.scale(t, "model.norm.weight", 0, 1, exponents(16)) },
		func(t *testing.T, w weights) {
			e := exponents(16)
			w.scale(t, "model.norm.weight", 0, 1, e)
			w.scale(t, "lm_head.weight", 1, -1, e)
		}},
	{"query and key rows under their norms", "qwen3",
		func(t *testing.T, w weights) { queryKey(t, w, pairs(8, true)) },
		func(t *testing.T, w weights) {
			e := pairs(8, true)[:8]
			w.scale(t, attn+"q_norm.weight", 0, 1, e)
			w.scale(t, attn+"k_norm.weight", 0, -1, e)
		}},
	{"norm of one plus the gain", "gemma",
		func(t *testing.T, w weights) {
			e := exponents(16)
			w.scale(t, "model.layers.0.input_layernorm.weight", 0, 1, e)
			for _, x := range []string{"q", "k", "v"} {
				w.scale(t, attn+x+"_proj.weight", 1, -1, e)
			}
		}, nil},
}

// TestNegativeControls: each wrong edit must change the outputs, and the right
// one beside it must not, by a single bit.
func TestNegativeControls(t *testing.T) {
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			w := load(t, c.fixture)
			judge(t, w, c.wrong, c.right)
		})
	}
}

// TestSyntheticControls: GELU between two maps, and a clip.
func TestSyntheticControls(t *testing.T) {
	for _, c := range []struct {
		name string
		act  func(b *graph.Builder, x graph.ID) graph.ID
		ok   bool // scaling both sides is right
	}{
		{"GELU", func(b *graph.Builder, x graph.ID) graph.ID { return b.Apply(graph.OpGELU, x) }, false},
		{"GELU tanh", func(b *graph.Builder, x graph.ID) graph.ID { return b.Apply(graph.OpGELUTanh, x) }, false},
		{"clip", func(b *graph.Builder, x graph.ID) graph.ID { // relu(x+c) - relu(x-c) - c
			up, down := b.Apply(graph.OpReLU, b.AddScalar(x, 1)), b.Apply(graph.OpReLU, b.AddScalar(x, -1))
			return b.AddScalar(b.Sub(up, down), -1)
		}, false},
		{"ReLU", func(b *graph.Builder, x graph.ID) graph.ID { return b.Apply(graph.OpReLU, x) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := graph.NewBuilder(9)
			x := b.Embedding(b.Weight("embed.weight", 29, 6), b.TokenIDs())
			x = c.act(b, b.Linear(x, b.Weight("fc1.weight", 10, 6)))
			g, err := b.Finish(b.Linear(x, b.Weight("fc2.weight", 5, 10)))
			if err != nil {
				t.Fatal(err)
			}
			w := weights{g, map[string][]float32{"embed.weight": normals(29 * 6), "fc1.weight": normals(60), "fc2.weight": normals(50)}}
			e := exponents(10)
			up := func(t *testing.T, w weights) { w.rows(t, "fc1", 1, e) }
			both := func(t *testing.T, w weights) {
				up(t, w)
				w.scale(t, "fc2.weight", 1, -1, e)
			}
			if c.ok {
				judge(t, w, up, both)
			} else {
				judge(t, w, both, nil)
			}
		})
	}
}

func normals(n int) []float32 {
	r := rand.New(rand.NewPCG(uint64(n), 9))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func load(t *testing.T, fixture string) weights {
	t.Helper()
	dir := filepath.Join("../arch/testdata", fixture)
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	w, shapes := weights{values: map[string][]float32{}}, map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
		buf := make([]byte, x.Size)
		if err := ck.ReadAt(x, buf, 0); err != nil {
			t.Fatal(err)
		}
		v := make([]float32, x.Elements())
		dtype.ToFloat32(x.DType, v, buf)
		w.values[x.Name] = v
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: 9, AllEx: true})
	if err != nil {
		t.Fatal(err)
	}
	w.g = m.Graph
	return w
}

func judge(t *testing.T, w weights, wrong, right edit) {
	t.Helper()
	compare := func(e edit) probe.Report {
		c := w.clone()
		e(t, c)
		r, err := probe.Compare(context.Background(), probe.Side{Graph: w.g, Source: w}, probe.Side{Graph: w.g, Source: c},
			probe.Options{Tokens: probe.Tokens(9, 29, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := compare(wrong); r.Equal || r.MaxDiff < 1e-3*r.MaxAbs {
		t.Errorf("the wrong edit passes: %+v", r)
	}
	if right != nil {
		if r := compare(right); !r.Equal {
			t.Errorf("the right edit is not exact: %+v", r)
		}
	}
}
