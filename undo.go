package neuroseal

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"time"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// UndoOptions say what to re-balance.
type UndoOptions struct {
	Source, Output string
	Force          bool
	AllowUnsealed  bool
	Progress       Progress
	Notice         func(string)
}

// UndoResult says what re-balancing cost.
type UndoResult struct {
	Output    string
	Classes   int   // factors that were moved
	BytesRead int64 // of weights
	Seconds   float64
}

// Undo is the informed attacker: without any key, it folds norm gains into
// their readers, evens out the two sides of every pair by powers of two, and
// brings the norms' epsilon back to a usual value. The function stays the same
// bit for bit; the result trains like any other model. That this works on
// every seal, and cannot be prevented, is why a seal is friction only.
func Undo(ctx context.Context, o UndoOptions) (*UndoResult, error) {
	began := time.Now()
	o.Progress = orSilent(o.Progress)
	m, err := openModel(o.Source, arch.Options{Tokens: 1, AllowUnsealed: o.AllowUnsealed})
	if err != nil {
		return nil, err
	}
	defer m.ck.Close()
	if err := m.ck.CheckOutput(o.Output); err != nil {
		return nil, err
	}
	sol, err := gauge.Solve(m.net.Graph)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "deriving pairs")
	}
	u := &undoer{m: m, sol: sol, p: o.Progress}
	for _, g := range sol.Groups {
		u.e = append(u.e, make([]int16, g.Classes))
	}
	if err := u.balance(ctx); err != nil {
		return nil, err
	}
	res := &UndoResult{Output: o.Output, BytesRead: u.read.n}
	for _, g := range u.e {
		for _, e := range g {
			if e != 0 {
				res.Classes++
			}
		}
	}
	if err := u.write(ctx, o); err != nil {
		return nil, err
	}
	res.BytesRead += m.ck.TotalBytes()
	res.Seconds = time.Since(began).Seconds()
	return res, nil
}

// undoer finds the exponents that even a network out.
type undoer struct {
	m    *model
	sol  *gauge.Solution
	p    Progress
	e    [][]int16
	read struct{ n int64 }
}

// balance settles the groups in the order in which they disturb each other:
// the residual stream, the norms' gains, and then all other pairs.
func (u *undoer) balance(ctx context.Context) error {
	if u.sol.Residual >= 0 {
		u.e[u.sol.Residual][0] = int16(u.residual())
	}
	kinds := func(ks ...gauge.Kind) func(int) bool {
		return func(g int) bool {
			for _, k := range ks {
				if u.sol.Groups[g].Kind == k {
					return true
				}
			}
			return false
		}
	}
	if err := u.even(ctx, kinds(gauge.Norm), func(rank int) bool { return rank == 1 }); err != nil {
		return err
	}
	rest := kinds(gauge.QK, gauge.VO, gauge.FFN)
	return u.even(ctx, rest, func(rank int) bool { return rank >= 2 })
}

// residual finds the exponent that takes the epsilons back to a usual value.
func (u *undoer) residual() int {
	var raw map[string]json.RawMessage
	if json.Unmarshal(u.m.conf, &raw) != nil {
		return 0
	}
	for _, e := range u.sol.Eps {
		var v float64
		if json.Unmarshal(raw[e.Key], &v) != nil || v <= 0 {
			continue
		}
		n, base := usualEpsilon(v)
		if base == 0 {
			n = int(math.Round(math.Log2(v/1e-6) / 2))
		}
		return -n / e.Coef
	}
	return 0
}

// level is the mean square of the elements that carry a class with one sign.
type level struct {
	sum   float64
	count float64
}

// even moves every class of the chosen groups to where both of its sides have
// the same size; a class with one side only, to size one. Elements are seen
// with the exponents found so far.
func (u *undoer) even(ctx context.Context, choose func(group int) bool, ranks func(rank int) bool) error {
	levels := make([][][2]level, len(u.e))
	vectors := make([]bool, len(u.e)) // groups without a matrix: gains against gains
	for g := range u.e {
		levels[g] = make([][2]level, len(u.e[g]))
		vectors[g] = true
	}
	tensors := map[string]*gauge.Tensor{}
	for i := range u.sol.Tensors {
		t := &u.sol.Tensors[i]
		for g := range groupsOf(t) {
			if choose(g) {
				tensors[t.Name] = t
				vectors[g] = vectors[g] && len(t.Shape) < 2
			}
		}
	}
	counts := func(t *gauge.Tensor, g int) bool {
		return choose(g) && (ranks(len(t.Shape)) || vectors[g])
	}
	var total int64
	want := func(t checkpoint.Tensor) bool {
		g := tensors[t.Name]
		if g == nil || !t.DType.Scalable() {
			return false
		}
		for k := range groupsOf(g) {
			if counts(g, k) {
				return true
			}
		}
		return false
	}
	for _, t := range u.m.ck.Tensors() {
		if want(t) {
			total += t.Size
		}
	}
	u.p.Stage("measuring pairs", total)
	u.read.n += total
	var mu sync.Mutex
	err := u.m.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		g := tensors[t.Name]
		s := u.squares(g, t, start, buf)
		mu.Lock()
		defer mu.Unlock()
		for i, ax := range g.Terms {
			for _, sg := range ax.Segments {
				if !counts(g, sg.Group) {
					continue
				}
				side := 0
				if sg.Coef < 0 {
					side = 1
				}
				for k := range sg.Count {
					l := &levels[sg.Group][sg.First+k/sg.Div][side]
					l.sum += s.sum[i][sg.Start+k]
					l.count += s.count[i][sg.Start+k]
				}
			}
		}
		u.p.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		return err
	}
	for g := range levels {
		for c, l := range levels[g] {
			if choose(g) {
				u.e[g][c] = correction(l)
			}
		}
	}
	return nil
}

// correction is the exponent that evens two sides out, or brings one to size 1.
func correction(l [2]level) int16 {
	size := func(l level) (float64, bool) {
		return math.Log2(l.sum/l.count) / 2, l.sum > 0 && !math.IsInf(l.sum, 0)
	}
	up, hasUp := size(l[0])
	down, hasDown := size(l[1])
	switch {
	case hasUp && hasDown:
		return int16(math.Round((down - up) / 2))
	case hasUp:
		return int16(math.Round(-up))
	case hasDown:
		return int16(math.Round(down))
	}
	return 0
}

// squareSums are, per term of a tensor and element of the term, the sum of
// squares of a chunk's elements and their number.
type squareSums struct{ sum, count [][]float64 }

func (u *undoer) squares(g *gauge.Tensor, t checkpoint.Tensor, start int64, buf []byte) squareSums {
	var s squareSums
	exps := make([][]int, len(g.Terms))
	for i, ax := range g.Terms {
		s.sum = append(s.sum, make([]float64, ax.Len))
		s.count = append(s.count, make([]float64, ax.Len))
		exps[i] = ax.Exponents(u.e)
	}
	x := make([]float32, len(buf)*8/t.DType.Bits())
	dtype.ToFloat32(t.DType, x, buf)
	at := termIndex(g, start)
	for _, v := range x {
		idx := at()
		e := 0
		for i := range exps {
			e += exps[i][idx[i]]
		}
		if v == 0 || v != v || math.IsInf(float64(v), 0) {
			continue
		}
		q := math.Ldexp(float64(v), e)
		for i := range exps {
			s.sum[i][idx[i]] += q * q
			s.count[i][idx[i]]++
		}
	}
	return s
}

// termIndex walks over a tensor's elements from start on and returns, for each
// of its terms, the position that the element has along it.
func termIndex(g *gauge.Tensor, start int64) func() []int {
	rank := len(g.Shape)
	pos := make([]int, rank)
	for a := rank - 1; a >= 0; a-- {
		pos[a] = int(start % int64(g.Shape[a]))
		start /= int64(g.Shape[a])
	}
	out := make([]int, len(g.Terms))
	return func() []int {
		for i, ax := range g.Terms {
			n := 0
			for _, a := range ax.Axes {
				n = n*g.Shape[a] + pos[a]
			}
			out[i] = n
		}
		for a := rank - 1; a >= 0; a-- {
			if pos[a]++; pos[a] < g.Shape[a] {
				break
			}
			pos[a] = 0
		}
		return out
	}
}

// write makes the re-balanced checkpoint.
func (u *undoer) write(ctx context.Context, o UndoOptions) error {
	override := map[string][]byte{}
	if r := u.sol.Residual; r >= 0 {
		conf, patches, err := patchEpsilons(u.m.conf, u.sol.Eps, int(u.e[r][0]))
		if err != nil {
			return fault.Wrap(fault.Unsupported, err, "moving the norms' epsilon")
		}
		if len(patches) > 0 {
			override["config.json"] = conf
		}
	}
	if err := checkSpace(o.Output, u.m.ck.TotalBytes()); err != nil {
		return err
	}
	dir, err := atomicdir.Create(o.Output, atomicdir.Options{Force: o.Force, Notice: o.Notice})
	if err != nil {
		return err
	}
	defer dir.Abort()
	moves := map[string]*gauge.Tensor{}
	for i := range u.sol.Tensors {
		moves[u.sol.Tensors[i].Name] = &u.sol.Tensors[i]
	}
	opt := checkpoint.RewriteOptions{
		Edit: func(t checkpoint.Tensor) checkpoint.Editor {
			if g := moves[t.Name]; g != nil && t.DType.Scalable() {
				if s := seal.NewScaler(g, t.DType, u.e, 1); s != nil {
					return s
				}
			}
			return nil
		},
		Override: override, Progress: o.Progress.Add,
	}
	opt.Skip = func(rel string) bool { return rel == manifest.Name || u.m.sensitive(rel) }
	o.Progress.Stage("re-balancing", u.m.ck.RewriteBytes(opt))
	if _, err := u.m.ck.Rewrite(ctx, dir, opt); err != nil {
		return err
	}
	return dir.Commit()
}

// sensitive reports whether a file may hold the weights once more.
func (m *model) sensitive(rel string) bool {
	for _, f := range m.ck.OtherFiles() {
		if f.Path == rel {
			return f.Sensitive()
		}
	}
	return false
}
