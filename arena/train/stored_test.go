package train

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// halved gives the weights of memory in bfloat16, or the same values as float32.
type halved struct {
	memory
	wide bool
}

func (h halved) Weight(name string) (dtype.DType, int64, bool) {
	d, size, ok := h.memory.Weight(name)
	if h.wide {
		return d, size, ok
	}
	return dtype.BF16, size / 2, ok
}

func (h halved) ReadWeight(name string, p []byte, off int64) error {
	width := int64(2)
	if h.wide {
		width = 4
	}
	full := make([]byte, int64(len(p))*4/width)
	if err := h.memory.ReadWeight(name, full, off*4/width); err != nil {
		return err
	}
	for i := 0; i < len(full); i += 4 {
		if h.wide {
			full[i], full[i+1] = 0, 0
		} else {
			p[i/2], p[i/2+1] = full[i+2], full[i+3]
		}
	}
	if h.wide {
		copy(p, full)
	}
	return nil
}

// TestStoredBF16: frozen matrices stay as stored, and the bits of loss and
// gradients are those of the widened ones.
func TestStoredBF16(t *testing.T) {
	g := tiny(t, decoder)
	data := batchOf(rand.New(rand.NewPCG(3, 3)), 2, testT, testV)
	for _, tr := range []Trainable{
		{Kind: LoRA, Modules: []string{"wv", "embed"}, Rank: 2, Alpha: 2}, {Kind: DoRA, Modules: []string{AllLinear}, Rank: 2, Alpha: 2},
		{Kind: Embeddings}, {Kind: Norms}, {Kind: Full},
	} {
		var want *Engine
		var loss float64
		for _, wide := range []bool{true, false} {
			e, err := New(context.Background(), g, halved{memory{g, 1, 0.6}, wide}, Options{Batch: 2, Workers: 2, Trainable: tr})
			if err != nil {
				if tr.Kind == Norms {
					break // this network has none
				}
				t.Fatal(err)
			}
			got, err := e.Gradients(data)
			if err != nil {
				t.Fatal(err)
			}
			if wide {
				want, loss = e, got
				continue
			}
			if got != loss {
				t.Errorf("%s: loss %v, widened %v", tr.Kind, got, loss)
			}
			for i, p := range e.Params() {
				if !slices.Equal(p.Grad, want.Params()[i].Grad) {
					t.Errorf("%s: gradients of %s differ", tr.Kind, p.Name)
				}
			}
			stored := 0
			for _, p := range e.net.params {
				if p.stored != nil {
					stored++
				}
				if (p.stored == nil) != (p.Data != nil) || p.Trained && p.stored != nil {
					t.Errorf("%s: %s is kept wrongly", tr.Kind, p.Name)
				}
			}
			if (stored > 0) != (tr.Kind != Full) {
				t.Errorf("%s: %d tensors as stored", tr.Kind, stored)
			}
		}
	}
}
