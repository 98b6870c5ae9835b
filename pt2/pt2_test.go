package pt2_test

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/pt2"
)

// The fixtures, written by interop/pt2.py: free dimensions of the gauge, every
// epsilon fixed.
var fixtures = map[string]struct{ free, leaves int }{
	"llama":       {152, 35},
	"qwen3_moe":   {248, 45}, // experts fused in memory, single on disk
	"vit":         {144, 40},
	"t5":          {464, 47},
	"deepseek_v2": {308, 40}, // rotary embedding by complex numbers
}

func open(t testing.TB, name string) (*pt2.Program, *checkpoint.Checkpoint) {
	t.Helper()
	dir := filepath.Join("testdata", name)
	p := openArchive(t, filepath.Join(dir, "model.pt2"))
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return p, ck
}

func openArchive(t testing.TB, path string) *pt2.Program {
	t.Helper()
	p, err := pt2.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// expected is what transformers answers.
type expected struct {
	Inputs map[string]struct {
		Data []float32 `json:"data"`
	} `json:"inputs"`
	Outputs []struct {
		Shape []int     `json:"shape"`
		Data  []float32 `json:"data"`
	} `json:"outputs"`
}

// TestAnswers: the graph computes what transformers does, from the checkpoint
// as transformers wrote it.
func TestAnswers(t *testing.T) {
	for name, want := range fixtures {
		t.Run(name, func(t *testing.T) {
			p, ck := open(t, name)
			g, info, err := p.Graph(ck.Shapes(), pt2.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(info.Opaque) != 0 || len(info.Unread) != 0 || info.Layers != 2 {
				t.Errorf("%+v", info)
			}
			if n := len(g.Weights()); n != want.leaves {
				t.Errorf("%d tensors are leaves, want %d", n, want.leaves)
			}
			sameAnswers(t, name, g, ck)
		})
	}
}

// sameAnswers demands that a graph computes what expected.json of a fixture says.
func sameAnswers(t *testing.T, name string, g *graph.Graph, ck *checkpoint.Checkpoint) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var e expected
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	opt := probe.Options{Inputs: map[string][]float32{}}
	for k, v := range e.Inputs {
		if k != "input_ids" {
			opt.Inputs[k] = v.Data
			continue
		}
		for _, x := range v.Data {
			opt.Tokens = append(opt.Tokens, int(x))
		}
	}
	outs, err := probe.Run(context.Background(), g, ck, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(outs) != len(e.Outputs) {
		t.Fatalf("%d outputs, want %d", len(outs), len(e.Outputs))
	}
	for i, o := range outs {
		w := e.Outputs[i]
		if !slices.Equal(g.Shape(g.Outputs[i]), w.Shape) {
			t.Fatalf("output %d has shape %v, want %v", i, g.Shape(g.Outputs[i]), w.Shape)
		}
		for j, v := range o {
			if d := math.Abs(float64(v - w.Data[j])); !(d <= 1e-4) {
				t.Fatalf("output %d, element %d: %g, transformers says %g", i, j, v, w.Data[j])
			}
		}
	}
}

// TestFreeDimensions: the gauge finds in the exported graph what is known of
// the family.
func TestFreeDimensions(t *testing.T) {
	for name, want := range fixtures {
		p, ck := open(t, name)
		g, _, err := p.Graph(ck.Shapes(), pt2.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sol, err := gauge.Solve(g)
		if err != nil {
			t.Fatal(err)
		}
		if sol.FreeDims != want.free {
			t.Errorf("%s: %d free dimensions, want %d", name, sol.FreeDims, want.free)
		}
	}
}

// TestDisagreement: whatever program and checkpoint do not share is listed.
func TestDisagreement(t *testing.T) {
	const q = "model.layers.0.self_attn.q_proj.weight"
	for _, c := range []struct {
		name, fixture string
		edit          func(map[string][]int)
		want          string
	}{
		{"missing", "llama", func(s map[string][]int) { delete(s, q) }, "missing: " + q},
		{"shape", "llama", func(s map[string][]int) { s[q] = []int{16, 15} }, "another shape: " + q + " [16 15]"},
		{"extra", "llama", func(s map[string][]int) { s["adapter.weight"] = []int{2} }, "not known to the program: adapter.weight"},
		{"missing expert", "qwen3_moe", func(s map[string][]int) { delete(s, "model.layers.1.mlp.experts.3.up_proj.weight") }, "model.layers.1.mlp.experts.gate_up_proj"},
		{"further expert", "qwen3_moe", func(s map[string][]int) { s["model.layers.1.mlp.experts.4.up_proj.weight"] = []int{16, 16} }, "experts.4.up_proj"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ck := open(t, c.fixture)
			shapes := maps.Clone(ck.Shapes())
			c.edit(shapes)
			_, _, err := p.Graph(shapes, pt2.Options{})
			if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want it to name %q", err, c.want)
			}
		})
	}
}

// TestAllowUnsealed lets tensors pass that the program does not know.
func TestAllowUnsealed(t *testing.T) {
	p, ck := open(t, "llama")
	shapes := maps.Clone(ck.Shapes())
	shapes["adapter.weight"] = []int{2}
	_, info, err := p.Graph(shapes, pt2.Options{AllowUnsealed: true})
	if err != nil || !slices.Equal(info.Unknown, []string{"adapter.weight"}) {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestNames: a checkpoint may hold the base model's names, tied tensors once or
// twice, and no checkpoint at all leaves the program's own names.
func TestNames(t *testing.T) {
	p, ck := open(t, "llama")
	short := map[string][]int{}
	for name, s := range ck.Shapes() {
		short[strings.TrimPrefix(name, "model.")] = s
	}
	g, _, err := p.Graph(short, pt2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := g.Weights()["layers.0.self_attn.q_proj.weight"]; !ok {
		t.Error("the base model's names are not found")
	}
	if g, _, err = p.Graph(nil, pt2.Options{}); err != nil || len(g.Weights()) != len(short) {
		t.Errorf("without a checkpoint: %v", err)
	}

	p, ck = open(t, "t5")
	twice := maps.Clone(ck.Shapes())
	twice["lm_head.weight"] = twice["shared.weight"]
	if g, _, err = p.Graph(twice, pt2.Options{}); err != nil || len(g.Ties()) != 1 {
		t.Fatalf("a tied tensor that stands twice: %v, %v", g, err)
	}
}

// TestMoves: a fused parameter is made of its experts by moves alone.
func TestMoves(t *testing.T) {
	p, ck := open(t, "qwen3_moe")
	g, _, err := p.Graph(ck.Shapes(), pt2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := g.Weights()["model.layers.0.mlp.experts.2.gate_proj.weight"]
	for i := range g.Nodes {
		if n := &g.Nodes[i]; slices.Contains(n.In, id) && !n.Op.Move() {
			t.Errorf("an expert's matrix goes into %v", n.Op)
		}
	}
	if g.Nodes[id].Op != graph.OpWeight {
		t.Errorf("%v", g.Nodes[id])
	}
}

func TestScript(t *testing.T) {
	lines := 0
	for l := range strings.Lines(pt2.Script) {
		if strings.TrimSpace(l) != "" {
			lines++
		}
	}
	if lines > 130 {
		t.Errorf("the exporter has %d lines: it should be read in one go", lines)
	}
}
