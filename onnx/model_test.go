package onnx

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// write puts a model into a folder of its own.
func write(t *testing.T, model pb, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(path, model, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair is up [2,3] and down [3,2] around an activation, as x [1,2] -> y.
func pairModel(up, down pb, act string, more ...pb) graphParts {
	return graphParts{
		tensors: []pb{up, down},
		inputs:  []pb{valueMsg("x", elemFloat, 1, 2)},
		outputs: []pb{valueMsg("y", elemFloat, 1, 2)},
		nodes: append([]pb{
			nodeMsg("MatMul", []string{"x", "up"}, []string{"h"}),
			nodeMsg(act, []string{"h"}, []string{"a"}),
			nodeMsg("MatMul", []string{"a", "down"}, []string{"y"}),
		}, more...),
		values: []pb{valueMsg("a", elemFloat, 1, 3)},
	}
}

var (
	upValues   = []float32{1, 2, 3, 4, 5, 6}
	downValues = []float32{7, 8, 9, 10, 11, 12}
)

func simple(act string) pb {
	return modelMsg(pairModel(floats("up", upValues, 2, 3), floats("down", downValues, 3, 2), act))
}

func lowered(t *testing.T, path string) (*graph.Graph, *Info) {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	g, info, err := m.Graph(Options{Tokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	return g, info
}

// TestFreedom: a known operation is free where it may be, an unknown one never.
func TestFreedom(t *testing.T) {
	for act, want := range map[string]int{"Relu": 3, "Identity": 3, "Tanh": 0, "NoSuchOperator": 0} {
		g, info := lowered(t, write(t, simple(act), nil))
		sol, err := gauge.Solve(g)
		if err != nil {
			t.Fatal(err)
		}
		if sol.FreeDims != want {
			t.Errorf("%s: %d free dimensions, want %d", act, sol.FreeDims, want)
		}
		if opaque := len(info.Opaque) > 0; opaque != (act == "NoSuchOperator") {
			t.Errorf("%s: opaque %v", act, info.Opaque)
		}
	}
}

// TestBranchPins: a branch that depends on the input pins what it reads, in
// both of its graphs.
func TestBranchPins(t *testing.T) {
	inner := func(w string) pb {
		return graphParts{
			nodes:   []pb{nodeMsg("MatMul", []string{"a", w}, []string{"z" + w})},
			outputs: []pb{valueMsg("z"+w, elemFloat, 1, 2)},
		}.msg()
	}
	p := pairModel(floats("up", upValues, 2, 3), floats("down", downValues, 3, 2), "Relu")
	p.tensors = append(p.tensors, floats("other", downValues, 3, 2))
	p.inputs = append(p.inputs, valueMsg("which", elemBool))
	p.nodes[2] = nodeMsg("If", []string{"which"}, []string{"y"}, graphAttr("then_branch", inner("down")), graphAttr("else_branch", inner("other")))
	g, _ := lowered(t, write(t, modelMsg(p), nil))
	sol, err := gauge.Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	if sol.FreeDims != 0 {
		t.Errorf("%d free dimensions across a branch", sol.FreeDims)
	}
}

// TestStoredForms: raw, typed and external data are the same weights.
func TestStoredForms(t *testing.T) {
	typed := tensorMsg("up", elemFloat, 2, 3).str(4, f32(upValues...))
	for name, c := range map[string]struct {
		up    pb
		files map[string]string
	}{
		"raw":      {floats("up", upValues, 2, 3), nil},
		"typed":    {typed, nil},
		"external": {outside("up", "w.bin", 8, 24, 2, 3), map[string]string{"w.bin": "12345678" + f32(upValues...)}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, modelMsg(pairModel(c.up, floats("down", downValues, 3, 2), "Relu")), c.files)
			m, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			got, err := m.floats(m.Weights()[0])
			if err != nil || !slices.Equal(got, upValues) {
				t.Fatalf("values %v, %v", got, err)
			}
			rewriteTwice(t, path)
		})
	}
}

// flipSign is an editor that is its own inverse.
type flipSign struct{}

func (flipSign) Edit(_ int64, buf []byte) error {
	for i := 3; i < len(buf); i += 4 {
		buf[i] ^= 0x80
	}
	return nil
}

// rewriteTwice edits all weights, and edits them back: the same bytes.
func rewriteTwice(t *testing.T, path string) {
	t.Helper()
	first := rewritten(t, path)
	second := rewritten(t, first)
	for _, name := range []string{"model.onnx", "w.bin"} {
		a, errA := os.ReadFile(filepath.Join(filepath.Dir(path), name))
		b, errB := os.ReadFile(filepath.Join(filepath.Dir(first), name))
		c, errC := os.ReadFile(filepath.Join(filepath.Dir(second), name))
		if (errA == nil) != (errB == nil) || (errA == nil) != (errC == nil) || !bytes.Equal(a, c) {
			t.Fatalf("%s is not the original again", name)
		}
		if name == "model.onnx" && (bytes.Equal(a, b) || len(a) != len(b)) {
			t.Fatalf("%s was not edited in place", name)
		}
	}
}

func rewritten(t *testing.T, path string) string {
	t.Helper()
	ck, err := OpenCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	out := filepath.Join(t.TempDir(), "out")
	dir, err := atomicdir.Create(out, atomicdir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Abort()
	_, err = ck.Rewrite(context.Background(), dir, checkpoint.RewriteOptions{Edit: func(checkpoint.Tensor) checkpoint.Editor { return flipSign{} }})
	if err == nil {
		err = dir.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(out, "model.onnx")
}

// TestRefused: what is wrong gives an error of the right kind that says what.
func TestRefused(t *testing.T) {
	with := func(up pb) pb { return modelMsg(pairModel(up, floats("down", downValues, 3, 2), "Relu")) }
	w := map[string]string{"w.bin": strings.Repeat("x", 40)}
	deep := graphParts{}.msg()
	for range 40 {
		deep = graphParts{nodes: []pb{nodeMsg("If", nil, nil, graphAttr("then_branch", deep))}}.msg()
	}
	for name, c := range map[string]struct {
		model pb
		kind  fault.Kind
		text  string
	}{
		"empty":         {nil, fault.Mismatch, "no graph"},
		"text":          {pb("this is no model"), fault.Mismatch, "malformed"},
		"truncated":     {simple("Relu")[:100], fault.Mismatch, "malformed"},
		"parent":        {with(outside("up", "../w.bin", 0, 24, 2, 3)), fault.Unsupported, "plain relative path"},
		"absolute":      {with(outside("up", "/etc/passwd", 0, 24, 2, 3)), fault.Unsupported, "plain relative path"},
		"link":          {with(outside("up", "link.bin", 0, 24, 2, 3)), fault.Unsupported, "leads out"},
		"itself":        {with(outside("up", "model.onnx", 0, 24, 2, 3)), fault.Mismatch, "itself"},
		"missing":       {with(outside("up", "none.bin", 0, 24, 2, 3)), fault.Mismatch, "missing"},
		"short file":    {with(outside("up", "w.bin", 20, 24, 2, 3)), fault.Mismatch, "which has 40"},
		"negative":      {with(outside("up", "w.bin", -1, 24, 2, 3)), fault.Mismatch, "offset"},
		"length":        {with(outside("up", "w.bin", 0, 20, 2, 3)), fault.Mismatch, "expected 24"},
		"raw length":    {with(floats("up", upValues[:4], 2, 3)), fault.Mismatch, "expected 24"},
		"huge shape":    {with(floats("up", upValues, 1<<30, 1<<30)), fault.Unsupported, "2^31"},
		"negative dim":  {with(floats("up", upValues, -2, 3)), fault.Mismatch, "shape"},
		"in pieces":     {with(tensorMsg("up", elemFloat, 2, 3).str(4, f32(upValues[:3]...)).str(4, f32(upValues[3:]...))), fault.Unsupported, "pieces"},
		"twice":         {with(floats("down", upValues, 2, 3)), fault.Mismatch, "two tensors"},
		"deep":          {modelMsg(graphParts{nodes: []pb{nodeMsg("If", nil, nil, graphAttr("then_branch", deep))}}), fault.Unsupported, "deeper"},
		"overlap":       {modelMsg(pairModel(outside("up", "w.bin", 0, 24, 2, 3), outside("down", "w.bin", 12, 24, 3, 2), "Relu")), fault.Mismatch, "overlap"},
		"old operators": {append(simple("Relu"), pb{}.msg(8, pb{}.str(1, "").int(2, 9))...), fault.Unsupported, "operator set 9"},
		"free size": {modelMsg(graphParts{inputs: []pb{valueMsg("x", elemFloat, "batch", "width")}, outputs: []pb{valueMsg("x", elemFloat)},
			nodes: []pb{}}), fault.Unsupported, "width"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.model, w)
			if err := os.Symlink("/etc/passwd", filepath.Join(filepath.Dir(path), "link.bin")); err != nil {
				t.Skip(err)
			}
			m, err := Open(path)
			if err == nil {
				defer m.Close()
				_, _, err = m.Graph(Options{Tokens: 4})
			}
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v of kind %d, want kind %d with %q", err, fault.KindOf(err), c.kind, c.text)
			}
		})
	}
}

// TestShared: tensors that share all their bytes are one weight.
func TestShared(t *testing.T) {
	p := modelMsg(pairModel(outside("up", "w.bin", 0, 24, 2, 3), outside("down", "w.bin", 0, 24, 3, 2), "Relu"))
	g, _ := lowered(t, write(t, p, map[string]string{"w.bin": f32(upValues...)}))
	if n := len(g.Weights()); n != 1 {
		t.Fatalf("%d weights", n)
	}
}

// FuzzModel: no input makes the reader or the lowering fail other than by an error.
func FuzzModel(f *testing.F) {
	f.Add([]byte(simple("Relu")))
	f.Add([]byte(simple("NoSuchOperator")))
	for _, name := range []string{"llama", "vit"} {
		data, err := os.ReadFile("testdata/" + name + ".onnx")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &Model{files: []dataFile{{name: "model.onnx", size: int64(len(data)), r: bytes.NewReader(data)}}}
		err := m.read(func(string) (dataFile, error) { return dataFile{}, fault.New(fault.Unsupported, "no files here") })
		if err != nil {
			return
		}
		g, _, err := m.Graph(Options{Tokens: 3})
		if err == nil && len(g.Outputs) == 0 {
			t.Fatal("a graph without outputs")
		}
	})
}
