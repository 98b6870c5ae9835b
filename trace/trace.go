package trace

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// DefaultAlpha is the largest probability of a false accusation that is
// accepted.
const DefaultAlpha = 1e-6

// Options say what to trace.
type Options struct {
	Leaked   string // a checkpoint: safetensors, quantised or not, GGUF or ONNX
	Original string // what was sealed; "": the weights alone must tell
	Registry *Registry
	Open     Opener  // opens wrapped keys; nil: there are none
	Alpha    float64 // 0: DefaultAlpha

	// Progress is told of stages and their parts; nil: nobody is.
	Progress Progress
}

// Progress is told how far a trace has come.
type Progress interface {
	// Stage begins a stage of total bytes; 0: nobody knows how much there is.
	Stage(name string, total int64)
	// Add says that n more bytes are done; several goroutines call it.
	Add(n int64)
}

// Verdict is what a trace found.
type Verdict string

// The verdicts.
const (
	Found      Verdict = "found"       // the copies in Matches
	None       Verdict = "none"        // no registered copy shows
	Impossible Verdict = "cannot tell" // the seals have too few free factors to tell them apart
)

// Score is what is known of one registered copy.
type Score struct {
	Label  string `json:"label"`
	SealID string `json:"seal_id"`
	// P bounds the probability that this or any other registered copy would reach
	// as much evidence if none of their keys had to do with the checkpoint: 1 where
	// the bound says nothing, 0 where it is too small for a floating-point number.
	// Log10P is its logarithm.
	P      float64 `json:"p"`
	Log10P float64 `json:"log10_p"`
	// Bits is the evidence: log2 of the likelihood ratio.
	Bits float64 `json:"evidence_bits"`
	// Agreeing of Classes factors that show in the weights are what the key says.
	Agreeing int `json:"agreeing"`
	Classes  int `json:"classes"`
}

// Result is what a trace found.
type Result struct {
	Verdict    Verdict `json:"verdict"`
	Matches    []Score `json:"matches"` // most evidence first
	Next       *Score  `json:"next"`    // the one with most evidence of all others
	Registered int     `json:"registered"`
	Alpha      float64 `json:"alpha"`
	// AtBest is the P that every copy could have reached here, had the weights the
	// size that its key says; copies of different profiles differ in it.
	// Log10AtBest is its logarithm.
	AtBest      float64 `json:"at_best"`
	Tensors     int     `json:"tensors"`  // that were looked at
	Comparable  bool    `json:"compared"` // with the original
	Permuted    int     `json:"permuted"` // registered copies whose weights changed places
	Log10AtBest float64 `json:"log10_at_best"`
}

// silent hears nothing.
type silent struct{}

func (silent) Stage(string, int64) {}
func (silent) Add(int64)           {}

// Trace compares a checkpoint with every registered copy. A checkpoint without
// any of the weights that they move gives fault.Unsupported, an empty registry
// fault.Usage, an entry that cannot be read or opened the error that says so.
func Trace(ctx context.Context, o Options) (*Result, error) {
	if o.Progress == nil {
		o.Progress = silent{}
	}
	if o.Alpha == 0 {
		o.Alpha = DefaultAlpha
	}
	if !(o.Alpha > 0 && o.Alpha < 1) {
		return nil, fault.New(fault.Usage, "alpha %g: it is a probability above 0 and below 1", o.Alpha)
	}
	leaked, err := openWeights(o.Leaked)
	if err != nil {
		return nil, err
	}
	defer leaked.Close()
	var original *weights
	if o.Original != "" {
		if original, err = openWeights(o.Original); err != nil {
			return nil, err
		}
		defer original.Close()
	}
	t := &tracer{o: o, leaked: leaked, original: original}
	if err := t.survey(ctx); err != nil {
		return nil, err
	}
	if err := t.scores(ctx); err != nil {
		return nil, err
	}
	return t.result(), nil
}

// tracer carries one trace.
type tracer struct {
	o                Options
	leaked, original *weights
	seen             observations
	compared         int // observations that are compared with the original
	list             []Score
	best             float64 // bits that every copy could have reached
	permuted         int
}

// survey looks at all weights that some registered seal moves.
func (t *tracer) survey(ctx context.Context) error {
	all := map[string]piece{}
	entries, last := 0, [32]byte{}
	err := t.o.Registry.Each(func(e *Entry) error {
		entries++
		p, err := planOf(e.Manifest)
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "registry entry of %q", e.Label)
		}
		if p.digest == last {
			return nil
		}
		last = p.digest
		for _, x := range p.pieces() {
			all[x.key()] = x
		}
		return nil
	})
	if err != nil {
		return err
	}
	if entries == 0 {
		return fault.New(fault.Usage, "the registry %s holds no copy", t.o.Registry.Dir()).
			WithHint("register each copy when it is made: neuroseal lock SRC DST --label NAME --registry DIR")
	}
	list := choose(all, t.leaked)
	if len(list) == 0 {
		return foreign(t.o.Leaked)
	}
	total := int64(0)
	for _, p := range list {
		total += p.bytes()
	}
	t.o.Progress.Stage("looking at weights", total)
	if t.seen, err = observe(ctx, list, t.leaked, t.original, t.o.Progress.Add); err != nil {
		return err
	}
	for _, x := range t.seen {
		if x.ratio != nil {
			t.compared++
		}
	}
	if t.original != nil && t.compared == 0 {
		return fault.New(fault.Usage, "%s and %s have no weight in common, in name and shape", t.o.Leaked, t.o.Original).
			WithHint("--original is the checkpoint that was sealed, before it was")
	}
	t.list, t.best = make([]Score, 0, entries), math.Inf(1)
	return nil
}

// layoutsKept holds the layouts of one plan: copies of one original usually
// have the same.
type layoutsKept struct {
	mu      sync.Mutex
	digest  [32]byte
	layouts []layout
}

func (k *layoutsKept) of(p *plan, seen observations) []layout {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.layouts == nil || k.digest != p.digest {
		k.digest, k.layouts = p.digest, p.layouts(seen, nil)
	}
	return k.layouts
}

// scores compares every entry with what was seen.
func (t *tracer) scores(ctx context.Context) error {
	t.o.Progress.Stage("comparing copies", 0)
	plain := t.plain()
	kept := &layoutsKept{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	measured := map[[32]byte]bool{}
	err := t.o.Registry.Each(func(e *Entry) error {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Interrupted, err, "")
		}
		key, err := e.open(t.o.Open)
		if err != nil {
			return err
		}
		p, err := planOf(e.Manifest)
		if err != nil {
			return err
		}
		first := !measured[p.digest]
		measured[p.digest] = true
		g.Go(func() error {
			c := &candidate{p: p, e: p.Exponents(key)}
			if ord := p.orders(key); ord != nil {
				// Elements that changed places cannot be compared one by one.
				c.layouts = p.layouts(plain, ord)
			} else {
				c.layouts = kept.of(p, t.seen)
			}
			s := Score{Label: e.Label, SealID: e.SealID, Bits: c.evidence()}
			s.Agreeing, s.Classes = c.matched, c.classes
			best := math.Inf(1)
			if first {
				best = (&candidate{p: p, e: c.e, layouts: c.layouts, ideal: true}).evidence()
			}
			mu.Lock()
			defer mu.Unlock()
			t.best = min(t.best, best)
			t.list = append(t.list, s)
			if len(p.places.List) > 0 {
				t.permuted++
			}
			return nil
		})
		return nil
	})
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}

// plain is what was seen without the original.
func (t *tracer) plain() observations {
	out := make(observations, len(t.seen))
	for k, o := range t.seen {
		x := *o
		x.ratio = nil
		out[k] = &x
	}
	return out
}

// result sorts the scores and decides.
func (t *tracer) result() *Result {
	r := &Result{
		Matches: []Score{}, Registered: len(t.list), Alpha: t.o.Alpha, Tensors: len(t.seen), Comparable: t.compared > 0, Permuted: t.permuted,
	}
	for i := range t.list {
		t.list[i].P, t.list[i].Log10P = bound(t.list[i].Bits, len(t.list))
	}
	r.AtBest, r.Log10AtBest = bound(t.best, len(t.list))
	slices.SortFunc(t.list, func(a, b Score) int { return cmp.Or(cmp.Compare(b.Bits, a.Bits), cmp.Compare(a.SealID, b.SealID)) })
	for i, s := range t.list {
		if s.P > t.o.Alpha {
			r.Next = &t.list[i]
			break
		}
		r.Matches = append(r.Matches, s)
	}
	switch {
	case len(r.Matches) > 0:
		r.Verdict = Found
	case r.AtBest > t.o.Alpha:
		r.Verdict = Impossible
	default:
		r.Verdict = None
	}
	return r
}

// bound is the probability that any of n unknown keys reaches so many bits of
// evidence, at most: Markov's inequality for a ratio whose mean is at most one,
// added up over the keys.
func bound(bits float64, n int) (p, log10 float64) {
	log10 = min(0, (math.Log2(float64(n))-bits)*math.Log10(2))
	return math.Pow(10, log10), log10
}
