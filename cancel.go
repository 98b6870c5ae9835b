package neuroseal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// element reads one element as float64.
func element(d dtype.DType, b []byte) float64 {
	if d == dtype.F64 {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	var x [1]float32
	dtype.ToFloat32(d, x[:], b[:d.Bits()/8])
	return float64(x[0])
}

// cancels reports whether the sealed weights are the original's under factors
// that the network's own algebra lets cancel. It trusts neither manifest nor
// key: the pairs come from the original's graph, the exponents from comparing
// weights, and the proof from scaling the original by them.
func (v *verifier) cancels(ctx context.Context, orig *model) (bool, error) {
	sol, err := gauge.Solve(orig.net.Graph)
	if err != nil {
		return false, fault.Wrap(fault.Unsupported, err, "deriving pairs")
	}
	ok := v.sameTensors(orig.ck)
	if !ok {
		return false, nil
	}
	f := newFinder(sol, orig.ck, v.ck)
	if err := f.find(ctx); err != nil {
		return false, err
	}
	f.residual(orig.conf, v.ck.ConfigJSON())
	if !f.moved() {
		v.res.Notes = append(v.res.Notes, "no weight differs from the original's: nothing is sealed")
	}
	return v.scaled(ctx, orig.ck, sol, f.e) && v.sameEpsilon(orig, sol, f.e), ctx.Err()
}

// sameTensors demands that both checkpoints hold the same tensors.
func (v *verifier) sameTensors(orig *checkpoint.Checkpoint) bool {
	ok := true
	for _, t := range orig.Tensors() {
		if s, there := v.ck.Tensor(t.Name); !there || s.DType != t.DType || !slices.Equal(s.Shape, t.Shape) {
			v.mismatch("", t.Name, "missing from the sealed checkpoint, or of another shape or type")
			ok = false
		}
	}
	for _, t := range v.ck.Tensors() {
		if _, there := orig.Tensor(t.Name); !there {
			v.mismatch("", t.Name, "not in the original")
			ok = false
		}
	}
	return ok
}

// scaled scales every tensor of the original and compares it with the sealed.
func (v *verifier) scaled(ctx context.Context, orig *checkpoint.Checkpoint, sol *gauge.Solution, e [][]int16) bool {
	moves := map[string]*gauge.Tensor{}
	for i := range sol.Tensors {
		moves[sol.Tensors[i].Name] = &sol.Tensors[i]
	}
	var mu sync.Mutex
	bad := map[string]bool{}
	editors := map[string]*seal.Scaler{}
	v.o.Progress.Stage("comparing weights", orig.TotalBytes())
	err := orig.Each(ctx, 0, nil, func(t checkpoint.Tensor, start int64, buf []byte) error {
		mu.Lock()
		ed, known := editors[t.Name]
		if !known {
			if p := moves[t.Name]; p != nil && t.DType.Scalable() {
				ed = seal.NewScaler(p, t.DType, e, 1)
			}
			editors[t.Name] = ed
		}
		mu.Unlock()
		s, _ := v.ck.Tensor(t.Name)
		got := make([]byte, len(buf))
		if err := v.ck.ReadAt(s, got, start*int64(t.DType.Bits())/8); err != nil {
			return err
		}
		if ed != nil && ed.Edit(start, buf) != nil || !bytes.Equal(got, buf) {
			mu.Lock()
			bad[t.Name] = true
			mu.Unlock()
		}
		v.o.Progress.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		v.mismatch("", "", "comparing weights: %v", err)
		return false
	}
	for _, t := range orig.Tensors() {
		if bad[t.Name] {
			s, _ := v.ck.Tensor(t.Name)
			v.mismatch(v.ck.Shards()[s.Shard].Path, t.Name, "is not the original times powers of two that cancel")
		}
	}
	return len(bad) == 0
}

// sameEpsilon demands that the config's epsilons moved with the weights.
func (v *verifier) sameEpsilon(orig *model, sol *gauge.Solution, e [][]int16) bool {
	want := map[string]int{}
	for _, m := range sol.Eps {
		want[m.Key] += m.Coef * int(e[sol.Residual][0])
	}
	if len(want) == 0 && len(orig.conf) == 0 && len(v.ck.ConfigJSON()) == 0 {
		return true // an ONNX model has no config
	}
	var a, b map[string]json.RawMessage
	if json.Unmarshal(orig.conf, &a) != nil || json.Unmarshal(v.ck.ConfigJSON(), &b) != nil {
		v.mismatch("config.json", "", "cannot be read")
		return false
	}
	ok := true
	for key, n := range want {
		var x, y float64
		if json.Unmarshal(a[key], &x) != nil || json.Unmarshal(b[key], &y) != nil || math.Ldexp(x, 2*n) != y {
			v.mismatch("config.json", "", "%s is %s; with the weights' factors it must be %g", key, b[key], math.Ldexp(x, 2*n))
			ok = false
		}
		delete(a, key)
		delete(b, key)
	}
	for key := range a {
		if !bytes.Equal(a[key], b[key]) {
			v.mismatch("config.json", "", "%s differs from the original's", key)
			ok = false
		}
	}
	return ok
}

// finder recovers the exponents of classes by comparing two checkpoints.
type finder struct {
	sol        *gauge.Solution
	orig, seal *checkpoint.Checkpoint
	e          [][]int16
	known      [][]bool
}

func newFinder(sol *gauge.Solution, orig, sealed *checkpoint.Checkpoint) *finder {
	f := &finder{sol: sol, orig: orig, seal: sealed}
	for _, g := range sol.Groups {
		f.e = append(f.e, make([]int16, g.Classes))
		f.known = append(f.known, make([]bool, g.Classes))
	}
	return f
}

// find goes through the tensors until nothing new is learnt. Vectors and
// matrices with one unknown factor per element settle first; an element with
// two waits for the others. A class that only meets zeros stays unknown and 0.
func (f *finder) find(ctx context.Context) error {
	for learnt := true; learnt; {
		learnt = false
		for i := range f.sol.Tensors {
			if ctx.Err() != nil {
				return fault.Wrap(fault.Interrupted, ctx.Err(), "verifying")
			}
			n, err := f.tensor(&f.sol.Tensors[i])
			if err != nil {
				return err
			}
			learnt = learnt || n
		}
	}
	return nil
}

// residual takes the residual group's exponent from the configs where no
// weight shows it (they are all zero).
func (f *finder) residual(orig, sealed []byte) {
	r := f.sol.Residual
	if r < 0 || f.known[r][0] {
		return
	}
	var a, b map[string]json.RawMessage
	if json.Unmarshal(orig, &a) != nil || json.Unmarshal(sealed, &b) != nil {
		return
	}
	for _, e := range f.sol.Eps {
		var x, y float64
		if json.Unmarshal(a[e.Key], &x) != nil || json.Unmarshal(b[e.Key], &y) != nil {
			continue
		}
		if d, ok := shift(x, y); ok && d%(2*e.Coef) == 0 {
			f.e[r][0], f.known[r][0] = int16(d/(2*e.Coef)), true
		}
	}
}

// moved reports whether any class has an exponent.
func (f *finder) moved() bool {
	return slices.ContainsFunc(f.e, func(g []int16) bool {
		return slices.ContainsFunc(g, func(e int16) bool { return e != 0 })
	})
}

// unknowns lists, per element of a term, the class that is not known yet.
func (f *finder) unknowns(ax gauge.Axis) ([]gauge.Segment, bool) {
	out := make([]gauge.Segment, ax.Len)
	any := false
	for _, s := range ax.Segments {
		for i := range s.Count {
			if c := s.First + i/s.Div; !f.known[s.Group][c] {
				u := &out[s.Start+i]
				if u.Count == 0 {
					*u = gauge.Segment{Group: s.Group, First: c, Coef: s.Coef}
				}
				u.Count++
				any = true
			}
		}
	}
	return out, any
}

// tensor learns what it can from one tensor.
func (f *finder) tensor(t *gauge.Tensor) (learnt bool, err error) {
	rank := len(t.Shape)
	o, ok := f.orig.Tensor(t.Name)
	if !ok || !o.DType.Scalable() || rank == 0 || o.Size == 0 {
		return false, nil
	}
	var rowTerm, colTerm []gauge.Segment
	for _, ax := range t.Terms {
		u, any := f.unknowns(ax)
		switch {
		case !any:
		case len(ax.Axes) > 0 && ax.Axes[len(ax.Axes)-1] == rank-1 && len(ax.Axes) == 1:
			colTerm = u
		default:
			rowTerm = u
		}
	}
	if rowTerm == nil && colTerm == nil {
		return false, nil
	}
	width := t.Shape[rank-1]
	rows := int(o.Elements()) / width
	for r := range rows {
		var ru gauge.Segment
		if rowTerm != nil {
			ru = rowTerm[0]
			if len(rowTerm) > 1 {
				ru = rowTerm[r]
			}
		}
		if ru.Count > 1 || ru.Count == 0 && colTerm == nil || ru.Count == 1 && f.known[ru.Group][ru.First] {
			continue
		}
		n, err := f.row(t, o, r, width, ru, colTerm)
		if err != nil {
			return false, err
		}
		learnt = learnt || n
		if colTerm != nil && ru.Count == 0 && !f.left(colTerm) {
			break
		}
	}
	return learnt, nil
}

// left reports whether a column's class is still unknown.
func (f *finder) left(col []gauge.Segment) bool {
	return slices.ContainsFunc(col, func(s gauge.Segment) bool { return s.Count == 1 && !f.known[s.Group][s.First] })
}

// row compares one row and settles what exactly one unknown explains.
func (f *finder) row(t *gauge.Tensor, o checkpoint.Tensor, r, width int, ru gauge.Segment, col []gauge.Segment) (learnt bool, err error) {
	size := o.DType.Bits() / 8
	a, b := make([]byte, width*size), make([]byte, width*size)
	off := int64(r) * int64(width*size)
	s, _ := f.seal.Tensor(t.Name)
	if err := f.orig.ReadAt(o, a, off); err != nil {
		return false, err
	}
	if err := f.seal.ReadAt(s, b, off); err != nil {
		return false, err
	}
	base := f.exponents(t, r)
	for i := range width {
		u := ru
		if col != nil && col[i].Count > 0 && !f.known[col[i].Group][col[i].First] {
			if u.Count > 0 || col[i].Count > 1 {
				continue
			}
			u = col[i]
		}
		if u.Count != 1 || f.known[u.Group][u.First] {
			continue
		}
		d, ok := shift(element(o.DType, a[i*size:]), element(o.DType, b[i*size:]))
		d -= base(i)
		if !ok || d%u.Coef != 0 || d/u.Coef < -2000 || d/u.Coef > 2000 {
			continue
		}
		f.e[u.Group][u.First] = int16(d / u.Coef)
		f.known[u.Group][u.First] = true
		learnt = true
		if u == ru {
			return true, nil // the row's class was all there was to learn
		}
	}
	return learnt, nil
}

// exponents returns the exponent of each element of a row that is known so far.
func (f *finder) exponents(t *gauge.Tensor, r int) func(i int) int {
	rank := len(t.Shape)
	total := 0
	var cols []int
	for _, ax := range t.Terms {
		switch {
		case len(ax.Axes) == 0:
			total += ax.Exponents(f.e)[0]
		case ax.Axes[len(ax.Axes)-1] == rank-1:
			cols = ax.Exponents(f.e)
		default:
			for _, s := range ax.Segments {
				if r >= s.Start && r < s.Start+s.Count {
					total += s.Coef * int(f.e[s.Group][s.First+(r-s.Start)/s.Div])
				}
			}
		}
	}
	return func(i int) int {
		if cols == nil {
			return total
		}
		return total + cols[i]
	}
}

// shift returns e with b = a·2^e, if there is one.
func shift(a, b float64) (int, bool) {
	if a == 0 || b == 0 || math.IsInf(a, 0) || math.IsInf(b, 0) || a != a || b != b {
		return 0, false
	}
	fa, ea := math.Frexp(a)
	fb, eb := math.Frexp(b)
	return eb - ea, fa == fb
}
