// Package embedded is the arena's default engine: it trains on the CPU, in this
// process, with package arena/train. Whatever package arch can build, it can
// attack; nothing has to be installed.
package embedded

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Engine implements arena.Engine. Its methods may be called from several
// goroutines at once.
type Engine struct {
	workers int
	version string

	mu    sync.Mutex
	texts map[arena.Paths]*texts
}

type texts struct {
	once             sync.Once
	target, retained *corpus.Corpus
	err              error
}

// New returns an engine whose trials take workers goroutines each; version is
// this program's, for the record.
func New(workers int, version string) *Engine {
	return &Engine{workers: max(1, workers), version: version, texts: map[arena.Paths]*texts{}}
}

// Name is "embedded".
func (e *Engine) Name() string { return arena.EmbeddedEngine }

// Check says whether the recipe applies to the model.
func (e *Engine) Check(ctx context.Context, t arena.Task) error {
	p, err := e.prepare(t)
	if err == nil {
		p.Close()
	}
	return err
}

// Memory predicts what a trial takes.
func (e *Engine) Memory(_ context.Context, t arena.Task) (int64, error) {
	p, err := e.prepare(t)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.Memory(), nil
}

// Run trains.
func (e *Engine) Run(ctx context.Context, t arena.Task, report func(int, float64)) (*arena.Result, error) {
	p, err := e.prepare(t)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Run(ctx, report)
}

// Prepare opens and compiles the model, once for Check, Memory and Run.
func (e *Engine) Prepare(_ context.Context, t arena.Task) (arena.Prepared, error) {
	p, err := e.prepare(t)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// notApplicable turns what arena/train finds wrong with a request, which comes
// from a table that has been checked, into what is wrong with this pair of
// recipe and model.
func notApplicable(err error) error {
	if fault.KindOf(err) == fault.Usage {
		return fault.Wrap(fault.Unsupported, err, "")
	}
	return err
}

// open loads the texts of a task, once for all tasks that share them.
func (e *Engine) open(ctx context.Context, t arena.Task) (*texts, error) {
	key := arena.Paths{Target: t.Paths.Target, Retained: t.Paths.Retained, Tokenizer: t.Paths.Tokenizer}
	e.mu.Lock()
	tx := e.texts[key]
	if tx == nil {
		tx = &texts{}
		e.texts[key] = tx
	}
	e.mu.Unlock()
	tx.once.Do(func() { tx.target, tx.retained, tx.err = arena.OpenTexts(ctx, key) })
	if tx.err != nil {
		return nil, tx.err
	}
	if tx.target.Digest != t.Trial.Target || tx.retained.Digest != t.Trial.Retained {
		return nil, fault.New(fault.Mismatch, "the texts are not those that the run began with").
			WithHint("give the same --data as before, or another run folder")
	}
	return tx, nil
}

// run is one trial.
type run struct {
	t       arena.Task
	m       *model
	net     *train.Compiled
	to      train.TrainOptions
	tx      *texts
	workers int
	report  func(int, float64)
	res     *arena.Result

	e       *train.Engine
	targetE evalSet
	retainE evalSet
}

// train is the usual course: train, and look at the held-out texts in between.
func (r *run) train(ctx context.Context) error {
	tr, err := r.start(ctx)
	if err != nil {
		return err
	}
	t := r.t.Trial
	steps := t.EvalSteps()
	if err := r.eval(0); err != nil {
		return err
	}
	watch := arena.NewDivergence(r.res.Start(), r.m.net.Vocab)
	for n := range t.Steps {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Interrupted, ctx.Err(), "training")
		}
		tokens, targets := r.tx.target.Batch(t.Seed, n, t.Batch, t.Window)
		s, err := tr.Step(train.Batch{Tokens: tokens, Targets: targets})
		if err != nil {
			return err
		}
		r.res.Losses = append(r.res.Losses, arena.Number(s.Loss))
		r.res.Steps++
		r.res.Tokens += int64(len(tokens))
		if r.report != nil {
			r.report(n+1, s.Loss)
		}
		if watch.Step(s.Loss) {
			r.res.Status = arena.Diverged
			break
		}
		if slices.Contains(steps, n+1) {
			if err := r.eval(n + 1); err != nil {
				return err
			}
		}
	}
	// The losses of steps are those before the update: the last one shows here.
	if n := len(r.res.Evals); r.res.Status == arena.Done && !r.res.Evals[n-1].Target.Finite() {
		r.res.Status = arena.Diverged
	}
	r.res.Peak = r.e.Memory().Total() + tr.StateBytes()
	return nil
}

// start loads the network and its optimizer.
func (r *run) start(ctx context.Context) (*train.Trainer, error) {
	var err error
	if r.e, err = r.net.Load(ctx, r.m.ck); err != nil {
		return nil, notApplicable(err)
	}
	for _, p := range r.e.Params() {
		r.res.Trainable += int64(len(p.Data))
	}
	if r.to.Scales, err = r.m.scales(ctx, r.t.Trial.Recipe); err != nil {
		return nil, err
	}
	t := r.t.Trial
	r.targetE = evalWindows(r.tx.target, t)
	r.retainE = evalWindows(r.tx.retained, t)
	tr, err := train.NewTrainer(r.e, r.to)
	return tr, notApplicable(err)
}

// eval adds the held-out losses after a step.
func (r *run) eval(step int) error {
	target, err := r.targetE.loss(r.e)
	if err != nil {
		return err
	}
	retained, err := r.retainE.loss(r.e)
	if err != nil {
		return err
	}
	r.res.Evals = append(r.res.Evals, arena.Eval{Step: step, Target: arena.Number(target), Retained: arena.Number(retained)})
	return nil
}

// evalSet is held-out windows as batches of the trial's size.
type evalSet struct {
	batches []train.Batch
	counts  []int
}

func evalWindows(c *corpus.Corpus, t arena.Trial) evalSet {
	tokens, targets := c.Eval(t.Eval, t.Window)
	var s evalSet
	size := t.Batch * t.Window
	for len(tokens) > 0 {
		n := min(size, len(tokens))
		b := train.Batch{Tokens: make([]int32, size), Targets: make([]int32, size)}
		copy(b.Tokens, tokens[:n])
		copy(b.Targets, targets[:n])
		for i := n; i < size; i++ {
			b.Targets[i] = -1
		}
		s.batches, s.counts = append(s.batches, b), append(s.counts, n)
		tokens, targets = tokens[n:], targets[n:]
	}
	return s
}

func (s evalSet) loss(e *train.Engine) (float64, error) {
	sum, n := 0.0, 0
	for i, b := range s.batches {
		l, err := e.Loss(b)
		if err != nil {
			return math.NaN(), err
		}
		sum, n = sum+l*float64(s.counts[i]), n+s.counts[i]
	}
	return sum / float64(n), nil
}

var (
	_ arena.Engine   = (*Engine)(nil)
	_ arena.Preparer = (*Engine)(nil)
)
