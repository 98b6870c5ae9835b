package train

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

const demoModel = "../../internal/demo/model"

type onDisk struct{ ck *checkpoint.Checkpoint }

func (s onDisk) Weight(name string) (dtype.DType, int64, bool) {
	t, ok := s.ck.Tensor(name)
	return t.DType, t.Size, ok
}

func (s onDisk) ReadWeight(name string, p []byte, off int64) error {
	t, ok := s.ck.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	return s.ck.ReadAt(t, p, off)
}

// openModel builds a checkpoint's graph for a number of tokens.
func openModel(t testing.TB, dir string, tokens int) (*graph.Graph, onDisk) {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	shapes := map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
	}
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	return m.Graph, onDisk{ck}
}

// Sizes of the batches that testdata/curves.py makes too.
const (
	curveBatch  = 4
	curveTokens = 64
)

// curveData is the batch of a step.
func curveData(step int) Batch { return letters(step, 'a') }

// letters is the batch of a step with 26 tokens from first on.
func letters(step int, first int32) Batch {
	at := start(0, fmt.Sprintf("batch%d", step))
	var b Batch
	for range curveBatch {
		last := int32(0)
		for i := range curveTokens + 1 {
			next := first + (last*3+1+int32(unit(at)*4))%26
			at++
			if i < curveTokens {
				b.Tokens = append(b.Tokens, next)
			}
			if i > 0 {
				b.Targets = append(b.Targets, next)
			}
			last = next - first
		}
	}
	return b
}

// curve trains and returns the losses.
func curve(t testing.TB, dir string, steps int, o Options, to TrainOptions) []float64 {
	t.Helper()
	g, src := openModel(t, dir, curveTokens+o.Trainable.Virtual)
	o.Batch = curveBatch
	e, err := New(context.Background(), g, src, o)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(e, to)
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for i := range steps {
		data := curveData(i)
		if e.vocab < 'z' { // a fixture's
			data = letters(i, 0)
		}
		r, err := tr.Step(data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Loss)
	}
	return out
}
