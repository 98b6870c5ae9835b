package neuroseal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/arch"
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
	sol, err := orig.solve()
	if err != nil {
		return false, err
	}
	if sol, err = orig.stored(sol); err != nil {
		return false, err
	}
	ok := v.sameTensors(orig.ck)
	if !ok {
		return false, nil
	}
	if err := v.unmove(); err != nil {
		return false, err
	}
	f := newFinder(sol, orig.ck, v.ck, v.readSealed)
	if err := f.find(ctx); err != nil {
		return false, err
	}
	conf := confOf(v.o.Sealed, v.ck)
	f.residual(orig.conf, conf)
	if !f.moved() {
		v.res.Notes = append(v.res.Notes, "no weight differs from the original's: nothing is sealed")
	}
	return v.scaled(ctx, orig.ck, sol, f) && v.sameEpsilon(orig, conf, sol, f.e), ctx.Err()
}

// sameTensors demands that both checkpoints hold the same tensors.
func (v *verifier) sameTensors(orig *checkpoint.Checkpoint) bool {
	ok := true
	for _, t := range orig.Tensors() {
		if s, there := v.ck.Tensor(t.Name); !there || s.DType != t.DType || nameOf(s.Format) != nameOf(t.Format) || !slices.Equal(s.Shape, t.Shape) {
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

// nameOf names a format; "" where there is none.
func nameOf(f checkpoint.Format) string {
	if f == nil {
		return ""
	}
	return f.String()
}

// scaled scales every tensor of the original and compares it with the sealed.
func (v *verifier) scaled(ctx context.Context, orig *checkpoint.Checkpoint, sol *gauge.Solution, f *finder) bool {
	moves := map[string]*gauge.Tensor{}
	for i := range sol.Tensors {
		moves[sol.Tensors[i].Name] = &sol.Tensors[i]
	}
	var mu sync.Mutex
	bad := map[string]bool{}
	editors := map[string]checkpoint.Editor{}
	v.o.Progress.Stage("comparing weights", orig.TotalBytes())
	err := orig.Each(ctx, 0, nil, func(t checkpoint.Tensor, start int64, buf []byte) error {
		mu.Lock()
		ed, known := editors[t.Name]
		if !known {
			if p := moves[t.Name]; p != nil && t.Scalable() {
				ed = factorsOf(p, t, f.e, f.neg, 1)
			}
			editors[t.Name] = ed
		}
		mu.Unlock()
		s, _ := v.ck.Tensor(t.Name)
		got := make([]byte, len(buf))
		if err := v.readSealed(s, got, offsetOf(t, start)); err != nil {
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
func (v *verifier) sameEpsilon(orig *model, conf []byte, sol *gauge.Solution, e [][]int16) bool {
	want := map[string]int{}
	for _, m := range sol.Eps {
		want[m.Key] += m.Coef * int(e[sol.Residual][0])
	}
	if len(want) == 0 && len(orig.conf) == 0 && len(conf) == 0 {
		return true // an ONNX model has no config
	}
	var a, b map[string]json.RawMessage
	if json.Unmarshal(arch.PlainJSON(orig.conf), &a) != nil || json.Unmarshal(arch.PlainJSON(conf), &b) != nil {
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
	read       reading // of the sealed weights, in the original's order
	e          [][]int16
	neg        [][]bool // nil for groups that must be positive
	known      [][]bool
	even       bool // learn from even powers, which say nothing of signs
}

func newFinder(sol *gauge.Solution, orig, sealed *checkpoint.Checkpoint, read reading) *finder {
	f := &finder{sol: sol, orig: orig, seal: sealed, read: read}
	for _, g := range sol.Groups {
		f.e = append(f.e, make([]int16, g.Classes))
		f.known = append(f.known, make([]bool, g.Classes))
		var neg []bool
		if g.Flip {
			neg = make([]bool, g.Classes)
		}
		f.neg = append(f.neg, neg)
	}
	return f
}

// find goes through the tensors until nothing new is learnt. Vectors and
// matrices with one unknown factor per element settle first; an element with
// two waits for the others. A class that only meets zeros stays unknown and 0.
func (f *finder) find(ctx context.Context) error {
	for learnt := true; learnt || !f.even; {
		f.even = f.even || !learnt
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
	if json.Unmarshal(arch.PlainJSON(orig), &a) != nil || json.Unmarshal(arch.PlainJSON(sealed), &b) != nil {
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
	}) || slices.ContainsFunc(f.neg, func(g []bool) bool { return slices.Contains(g, true) })
}

// term is one summand of a tensor's exponents, as far as it is known.
type term struct {
	last    bool              // it varies along the tensor's last axis
	at      func(row int) int // where a row lies along the term's other axes
	unknown []gauge.Segment   // per element: a class that is not known yet; Count says how many are
	known   []int             // per element: the sum of what is known
	neg     []bool            // per element: what is known makes it negative
}

func (f *finder) term(t *gauge.Tensor, ax gauge.Axis) term {
	rank := len(t.Shape)
	out := term{last: slices.Contains(ax.Axes, rank-1), unknown: make([]gauge.Segment, ax.Len), known: make([]int, ax.Len), neg: ax.Negative(f.neg)}
	axes := ax.Axes
	if out.last {
		axes = axes[:len(axes)-1]
	}
	out.at = seal.RowIndex(t.Shape, axes)
	for _, s := range ax.Segments {
		for i := range s.Count {
			c, at := s.First+i/s.Div, s.Start+i
			if f.known[s.Group][c] {
				out.known[at] += s.Coef * int(f.e[s.Group][c])
			} else {
				n := out.unknown[at].Count
				out.unknown[at] = gauge.Segment{Group: s.Group, First: c, Coef: s.Coef, Count: n + 1}
			}
		}
	}
	return out
}

// open reports whether elements [from,to) hold a class that is still unknown.
func (f *finder) open(t term, from, to int) bool {
	return slices.ContainsFunc(t.unknown[from:to], func(s gauge.Segment) bool {
		return s.Count > 0 && !f.known[s.Group][s.First]
	})
}

// tensor learns what it can from one tensor, row by row.
func (f *finder) tensor(t *gauge.Tensor) (learnt bool, err error) {
	rank := len(t.Shape)
	o, ok := f.orig.Tensor(t.Name)
	if !ok || !o.Scalable() || rank == 0 || o.Size == 0 {
		return false, nil
	}
	var terms []term
	unknown := false
	for _, ax := range t.Terms {
		x := f.term(t, ax)
		unknown = unknown || f.open(x, 0, len(x.unknown))
		terms = append(terms, x)
	}
	if !unknown {
		return false, nil
	}
	width := t.Shape[rank-1]
	settled := make([]map[int]bool, len(terms)) // per term: where nothing is unknown any more
	for r := range int(o.Elements()) / width {
		if !f.worth(terms, settled, r, width) {
			continue
		}
		n, err := f.row(t.Name, o, terms, r, width)
		if err != nil {
			return false, err
		}
		learnt = learnt || n
	}
	return learnt, nil
}

// worth reports whether a row may teach something, without reading it.
func (f *finder) worth(terms []term, settled []map[int]bool, r, width int) bool {
	rows, columns := 0, false
	for i, x := range terms {
		at := x.at(r)
		if !x.last {
			u := x.unknown[at]
			if u.Count > 1 || u.Count == 1 && f.known[u.Group][u.First] {
				return false // in a later pass
			}
			rows += u.Count
			continue
		}
		if settled[i] == nil {
			settled[i] = map[int]bool{}
		}
		if !settled[i][at] && !f.open(x, at*width, (at+1)*width) {
			settled[i][at] = true
		}
		columns = columns || !settled[i][at]
	}
	return rows == 1 || rows == 0 && columns
}

// row compares one row and settles what exactly one unknown explains.
func (f *finder) row(name string, o checkpoint.Tensor, terms []term, r, width int) (learnt bool, err error) {
	s, _ := f.seal.Tensor(name)
	a, d, err := rowBytes(f.orig.ReadAt, o, r, width)
	if err != nil {
		return false, err
	}
	b, _, err := rowBytes(f.read, s, r, width)
	if err != nil {
		return false, err
	}
	size := d.Bits() / 8
	begin := make([]int, len(terms))
	for j, x := range terms {
		if begin[j] = x.at(r); x.last {
			begin[j] *= width
		}
	}
	for i := range width {
		var u gauge.Segment
		unknown, known, neg := 0, 0, false
		for j, x := range terms {
			at := begin[j]
			if x.last {
				at += i
			}
			known += x.known[at]
			neg = neg != x.neg[at]
			if n := x.unknown[at].Count; n > 0 {
				u = x.unknown[at]
				unknown += n
			}
		}
		if unknown != 1 || f.known[u.Group][u.First] || u.Coef%2 == 0 && f.neg[u.Group] != nil && !f.even {
			continue
		}
		x, y := element(d, a[i*size:]), element(d, b[i*size:])
		opposite := math.Signbit(x) != math.Signbit(y)
		e, ok := shift(math.Abs(x), math.Abs(y))
		e -= known
		if !ok || e%u.Coef != 0 || e/u.Coef < -2000 || e/u.Coef > 2000 {
			continue
		}
		f.e[u.Group][u.First] = int16(e / u.Coef)
		if f.neg[u.Group] != nil && u.Coef%2 != 0 {
			f.neg[u.Group][u.First] = opposite != neg
		}
		f.known[u.Group][u.First] = true
		learnt = true
	}
	return learnt, nil
}

// reading reads a part of a tensor, from a byte on.
type reading func(t checkpoint.Tensor, p []byte, off int64) error

// rowBytes reads one row of a tensor that is seen as rows of the given width:
// its elements as they stand there, those of a format of its own as fp32.
func rowBytes(read reading, t checkpoint.Tensor, r, width int) ([]byte, dtype.DType, error) {
	off := offsetOf(t, int64(r)*int64(width))
	p := make([]byte, offsetOf(t, int64(width)))
	if err := read(t, p, off); err != nil || t.Format == nil {
		return p, t.DType, err
	}
	x := make([]float32, width)
	t.Format.Dequantise(x, p)
	p = make([]byte, 4*width)
	dtype.FromFloat32(dtype.F32, p, x)
	return p, dtype.F32, nil
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
