package neuroseal

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
)

// UndoOptions say what to re-balance.
type UndoOptions struct {
	Source, Output string
	Graph          string // as in LockOptions
	Force          bool
	AllowUnsealed  bool
	Progress       Progress
	Notice         func(string) // told what the user should know; nil: nobody is
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
	if modelFile(o.Output) && gguf.Is(o.Source) {
		return undoFile(ctx, o)
	}
	o.Progress = orSilent(o.Progress)
	m, err := openWith(o.Source, o.Graph, arch.Options{Tokens: observeTokens, AllowUnsealed: o.AllowUnsealed})
	if err != nil {
		return nil, err
	}
	defer m.ck.Close()
	if m.nested != nil {
		return nil, fault.New(fault.Unsupported, "%s is no seal: %s", o.Source, m.nestedNote())
	}
	if err := m.ck.CheckOutput(o.Output); err != nil {
		return nil, err
	}
	if err := atomicdir.Check(o.Output, atomicdir.Options{Force: o.Force}); err != nil {
		return nil, err
	}
	sol, err := m.solve()
	if err != nil {
		return nil, err
	}
	if sol, err = m.stored(sol); err != nil {
		return nil, err
	}
	u := &undoer{m: m, sol: sol, p: o.Progress}
	for _, g := range sol.Groups {
		u.e = append(u.e, make([]int16, g.Classes))
	}
	if err := u.balance(ctx); err != nil {
		return nil, err
	}
	err = u.write(ctx, o)
	if fault.KindOf(err) == fault.Mismatch {
		// An even network would lose a bit somewhere: step back and try again.
		if err = u.fit(ctx); err == nil {
			err = u.write(ctx, o)
		}
	}
	if err != nil {
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
	if err := u.even(ctx, kinds(gauge.Norm), func(int, int) bool { return true }, func(rank int) bool { return rank == 1 }); err != nil {
		return err
	}
	rest := kinds(gauge.QK, gauge.VO, gauge.FFN)
	turn, n := turns(u.sol, rest)
	for round, moved := 0, true; moved && round < evenRounds; round++ {
		before := total(u.e)
		for k := range n {
			mine := func(g, c int) bool { return int(turn[g][c]) == k }
			if err := u.even(ctx, rest, mine, func(rank int) bool { return rank >= 2 }); err != nil {
				return err
			}
		}
		moved = n > 1 && total(u.e) != before
	}
	return nil
}

// evenRounds bounds how often classes that share a side (gate, up and down of
// an MLP with ReLU) take turns; each turn divides what is left by four.
const evenRounds = 8

// total is the sum of all exponents' sizes.
func total(e [][]int16) int {
	n := 0
	for _, g := range e {
		for _, x := range g {
			n += max(int(x), -int(x))
		}
	}
	return n
}

// residual finds the exponent that takes the epsilons back to a usual value.
func (u *undoer) residual() int {
	var raw map[string]json.RawMessage
	if json.Unmarshal(arch.PlainJSON(u.m.conf), &raw) != nil {
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

// write makes the re-balanced checkpoint.
func (u *undoer) write(ctx context.Context, o UndoOptions) error {
	override := map[string][]byte{}
	if r := u.sol.Residual; r >= 0 && u.m.eps == nil {
		conf, patches, err := patchEpsilons(u.m.conf, u.sol.Eps, int(u.e[r][0]))
		if err != nil {
			return fault.Wrap(fault.Unsupported, err, "moving the norms' epsilon")
		}
		if len(patches) > 0 {
			override["config.json"] = conf
		}
	}
	dropped := "" // the model card, where all of it was the seal's
	if man, err := readManifest(o.Source); err == nil {
		card, err := unsealCard(u.m.ck, man)
		if err != nil {
			return err
		}
		card.put(override)
		if card.content == nil {
			dropped = modelcard.Name
		}
	}
	moves := map[string]*gauge.Tensor{}
	for i := range u.sol.Tensors {
		moves[u.sol.Tensors[i].Name] = &u.sol.Tensors[i]
	}
	w := rewriting{
		ck: u.m.ck, dst: o.Output, force: o.Force, notice: o.Notice, stage: "re-balancing", progress: o.Progress,
		opt: checkpoint.RewriteOptions{
			Edit: func(t checkpoint.Tensor) checkpoint.Editor {
				if g := moves[t.Name]; g != nil && t.Scalable() {
					return editorOf(g, t, u.e, 1)
				}
				return nil
			},
			Override: override,
			Skip: func(rel string) bool {
				return rel == manifest.Name || rel == nestedName || rel == dropped || slices.Contains(signatures, rel) || sensitive(u.m.ck, rel)
			},
		},
	}
	if gguf.Is(u.m.path) {
		n := 0
		if r := u.sol.Residual; r >= 0 {
			n = int(u.e[r][0])
		}
		e, err := u.m.ggufUndo(u.sol.Eps, n)
		if err != nil {
			return err
		}
		defer e.Close()
		if w.opt.Head, err = e.heads(); err != nil {
			return err
		}
	}
	return w.run(ctx, func(*atomicdir.Dir, *checkpoint.RewriteResult) error { return nil })
}

// sensitive reports whether a file may hold the weights once more.
func sensitive(ck *checkpoint.Checkpoint, rel string) bool {
	for _, f := range ck.OtherFiles() {
		if f.Path == rel {
			return f.Sensitive()
		}
	}
	return false
}
