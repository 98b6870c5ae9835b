package onnx

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

// checkpointOf writes tensors of float32 as a checkpoint.
func checkpointOf(t *testing.T, tensors map[string]safetensors.Tensor) *checkpoint.Checkpoint {
	t.Helper()
	var list []safetensors.Tensor
	for name, x := range tensors {
		x.Name, x.DType = name, dtype.F32
		list = append(list, x)
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, map[string]string{"format": "pt"}, list); err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return ck
}

func plainTensor(v []float32, shape ...int) safetensors.Tensor {
	return safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Shape: shape}, Data: []byte(f32(v...))}
}

// turned is a matrix [rows,cols] the other way round.
func turned(v []float32, rows, cols int) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i%cols*rows+i/cols] = x
	}
	return out
}

// TestMatch: weights are found by name, by a name without its prefix, by
// values, and by values of the transposed matrix; otherwise the error lists them.
func TestMatch(t *testing.T) {
	down := plainTensor(downValues, 3, 2)
	for name, c := range map[string]struct {
		up      string
		tensors map[string]safetensors.Tensor
		want    string // the error
		extra   int
	}{
		"name":       {"up", map[string]safetensors.Tensor{"up": plainTensor(downValues, 2, 3), "down": down}, "", 0},
		"prefix":     {"model.up", map[string]safetensors.Tensor{"up": plainTensor(upValues, 2, 3), "down": down}, "", 0},
		"values":     {"val_1", map[string]safetensors.Tensor{"w": plainTensor(upValues, 2, 3), "down": down}, "", 0},
		"transposed": {"val_1", map[string]safetensors.Tensor{"w": plainTensor(turned(upValues, 2, 3), 3, 2), "down": down}, "", 0},
		"extra":      {"up", map[string]safetensors.Tensor{"up": plainTensor(upValues, 2, 3), "down": down, "z": down}, "", 1},
		"missing":    {"val_1", map[string]safetensors.Tensor{"w": plainTensor(downValues, 2, 3), "down": down}, "does not hold: val_1 [2 3]", 0},
		"several":    {"val_1", map[string]safetensors.Tensor{"w": plainTensor(upValues, 2, 3), "v": plainTensor(upValues, 2, 3), "down": down}, "more than one", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := pairModel(floats(c.up, upValues, 2, 3), floats("down", downValues, 3, 2), "Relu")
			p.nodes[0] = nodeMsg("MatMul", []string{"x", c.up}, []string{"h"})
			m, err := Open(write(t, modelMsg(p), nil))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			g, _, extra, err := m.GraphOf(checkpointOf(t, c.tensors), Options{})
			if c.want != "" {
				if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sol, err := gauge.Solve(g)
			if err != nil || sol.FreeDims != 3 || len(extra) != c.extra {
				t.Fatalf("%d free dimensions, extra %v, %v", sol.FreeDims, extra, err)
			}
		})
	}
}

// TestMatchExport: an optimised export, whose weights are transposed and
// renamed and whose tables are constants, is the graph of the checkpoint that
// it was made from.
func TestMatchExport(t *testing.T) {
	m, err := Open("testdata/llama.onnx")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tensors := map[string]safetensors.Tensor{}
	for i, w := range m.Weights() {
		v, err := m.floats(w)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(w.Name, "unsqueeze") || strings.HasPrefix(w.Name, "where"):
		case strings.HasPrefix(w.Name, "val_"):
			tensors["linear."+itoa(int64(i))] = plainTensor(turned(v, w.Shape[0], w.Shape[1]), w.Shape[1], w.Shape[0])
		default:
			tensors[strings.TrimPrefix(w.Name, "model.")] = plainTensor(v, w.Shape...)
		}
	}
	g, info, extra, err := m.GraphOf(checkpointOf(t, tensors), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(extra) > 0 || len(info.Unread) > 0 || len(g.Weights()) != len(tensors) {
		t.Errorf("extra %v, unread %v, %d weights of %d tensors", extra, info.Unread, len(g.Weights()), len(tensors))
	}
	sol, err := gauge.Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	// Without the tables as weights: as the raw export of the same network has it.
	if sol.FreeDims != 152 {
		t.Errorf("%d free dimensions, want 152", sol.FreeDims)
	}
	if slices.ContainsFunc(sol.Holes, func(h gauge.Hole) bool { return strings.Contains(h.Tensor, "mlp") }) {
		t.Errorf("holes %v", sol.Holes)
	}
}
