package probe_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// torchCases are the networks of testdata/operations.py's operations.
var torchCases = map[string]func(b *graph.Builder, in []graph.ID) graph.ID{
	"conv1d": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Conv(in[0], in[1], graph.Conv{Stride: []int{2}, Before: []int{3}, After: []int{3}, Dilation: []int{2}, Groups: 2})
	},
	"conv2d": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Conv(in[0], in[1], graph.Conv{Stride: []int{2, 1}, Before: []int{1, 2}, After: []int{1, 2}, Dilation: []int{1, 2}, Groups: 2})
	},
	"conv3d": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Conv(in[0], in[1], graph.Conv{Stride: []int{2, 2, 1}, Before: []int{1, 0, 1}, After: []int{1, 0, 1}, Dilation: []int{1, 1, 1}, Groups: 1})
	},
	"causal": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Conv(in[0], in[1], graph.Conv{Stride: []int{1}, Before: []int{3}, After: []int{0}, Dilation: []int{1}, Groups: 5})
	},
	"gelu":         of(graph.OpGELU),
	"gelu_tanh":    of(graph.OpGELUTanh),
	"softplus":     of(graph.OpSoftplus),
	"elu":          func(b *graph.Builder, in []graph.ID) graph.ID { return b.ELU(in[0], 1.3) },
	"erf":          of(graph.OpErf),
	"round":        func(b *graph.Builder, in []graph.ID) graph.ID { return b.Apply(graph.OpRound, b.MulScalar(in[0], 2)) },
	"round_even":   of(graph.OpRound),
	"layer_norm":   func(b *graph.Builder, in []graph.ID) graph.ID { return b.LayerNorm(in[0], 1e-3, "") },
	"cumsum":       func(b *graph.Builder, in []graph.ID) graph.ID { return b.CumSum(in[0]) },
	"topk":         func(b *graph.Builder, in []graph.ID) graph.ID { v, _ := b.TopK(in[0], 3); return v },
	"topk_indices": func(b *graph.Builder, in []graph.ID) graph.ID { _, i := b.TopK(in[0], 3); return i },
	"argmax":       func(b *graph.Builder, in []graph.ID) graph.ID { return b.ArgMax(in[0]) },
	"amax":         func(b *graph.Builder, in []graph.ID) graph.ID { return b.Max(in[0]) },
	"pow":          func(b *graph.Builder, in []graph.ID) graph.ID { return b.Pow(b.Apply(graph.OpAbs, in[0]), 1.5) },
	"flip":         func(b *graph.Builder, in []graph.ID) graph.ID { return b.Flip(in[0], 1) },
	"pad":          func(b *graph.Builder, in []graph.ID) graph.ID { return b.Pad(in[0], 1, 2, 1) },
	"gather":       func(b *graph.Builder, in []graph.ID) graph.ID { return b.Gather(in[0], in[1], 1) },
	"index_select": func(b *graph.Builder, in []graph.ID) graph.ID { return b.Index(in[0], in[1], 1) },
	"scatter_add": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Scatter(graph.OpScatterAdd, in[0], in[1], in[2], 1)
	},
	"scatter": func(b *graph.Builder, in []graph.ID) graph.ID {
		return b.Scatter(graph.OpScatter, in[0], in[1], in[2], 1)
	},
	"one_hot": func(b *graph.Builder, in []graph.ID) graph.ID { return b.OneHot(in[0], 5) },
	"where":   func(b *graph.Builder, in []graph.ID) graph.ID { return b.Where(in[0], in[1], in[2]) },
	"maximum": func(b *graph.Builder, in []graph.ID) graph.ID { return b.Maximum(in[0], in[1]) },
	"eq":      func(b *graph.Builder, in []graph.ID) graph.ID { return b.Compare(graph.OpEqual, in[0], in[1]) },
}

func of(op graph.Op) func(b *graph.Builder, in []graph.ID) graph.ID {
	return func(b *graph.Builder, in []graph.ID) graph.ID { return b.Apply(op, in[0]) }
}

// indexed are the operations whose operand of that number holds ids.
var indexed = map[string]int{"gather": 1, "index_select": 1, "scatter": 1, "scatter_add": 1, "one_hot": 0}

// TestTorch compares with what PyTorch computed.
func TestTorch(t *testing.T) {
	type array struct {
		Shape []int
		X     []float32
	}
	var file struct {
		Cases []struct {
			Name string
			In   []array
			Out  array
		}
	}
	data, err := os.ReadFile("testdata/operations.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != len(torchCases) {
		t.Errorf("%d cases, want %d", len(file.Cases), len(torchCases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			b := graph.NewBuilder(0)
			var in []graph.ID
			inputs := map[string][]float32{}
			for i, x := range c.In {
				name := string(rune('a' + i))
				inputs[name] = x.X
				if at, ok := indexed[c.Name]; ok && at == i {
					in = append(in, b.InputIDs(name, 9, x.Shape...))
				} else {
					in = append(in, b.Input(name, x.Shape...))
				}
			}
			g, err := b.Finish(torchCases[c.Name](b, in))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(g.Shape(g.Outputs[0]), c.Out.Shape) {
				t.Fatalf("shape %v, want %v", g.Shape(g.Outputs[0]), c.Out.Shape)
			}
			out, err := probe.Run(context.Background(), g, weights{g: g}, probe.Options{Inputs: inputs})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range c.Out.X {
				if d := math.Abs(float64(out[0][i] - want)); !(d <= 3e-6*(1+math.Abs(float64(want)))) {
					t.Errorf("element %d: %v, want %v", i, out[0][i], want)
				}
			}
		})
	}
}
