package neuroseal

import (
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// planReal plans the original tool's methods: one real factor for all, or one
// per layer, on value/output and up/down.
func (l *locker) planReal() error {
	if l.man.Scale == 0 {
		l.man.Scale = DefaultScale
	}
	l.sol = l.full
	l.real = seal.RealFactors(l.sol.Groups, l.o.Method, l.man.Scale, l.o.Key)
	for i := range l.real {
		if !l.o.selects(l.sol.Groups[i]) {
			l.real[i] = 0
		}
	}
	l.man.Promise = manifest.Promise{BitExact: []string{}, Runs: []string{"bf16", "fp32"}, Quantisers: []string{}}
	l.man.Notes = append(l.man.Notes, "real factors round: outputs change a little, and unlock restores the weights to rounding, not to the byte")
	for _, g := range l.sol.Groups {
		l.man.Groups = append(l.man.Groups, manifest.Group{
			ID: g.ID, Kind: string(g.Kind), Layer: g.Layer, Classes: g.Classes, Block: 1, Offsets: []int{0},
		})
		l.seal.Groups = append(l.seal.Groups, seal.Group{ID: g.ID, Kind: g.Kind, Layer: g.Layer, Classes: g.Classes, Offsets: []int{0}})
	}
	moves := func(g int) bool { return l.real[g] != 0 }
	for _, t := range l.sol.Tensors {
		if covered(&t, moves) == 0 {
			l.man.Holes = append(l.man.Holes, manifest.Hole{Tensor: t.Name, Why: "method " + string(l.o.Method) + " moves value/output and up/down only"})
			continue
		}
		t = prune(t, moves)
		l.seal.Tensors = append(l.seal.Tensors, t)
		l.man.Tensors = append(l.man.Tensors, encodeTensor(t))
	}
	l.man.Coverage = coverage(l.sol, l.m.parameters(), moves)
	if len(l.seal.Tensors) == 0 {
		return fault.New(fault.Unsupported, "method %s finds no value/output or up/down pair in this checkpoint", l.o.Method)
	}
	return nil
}
