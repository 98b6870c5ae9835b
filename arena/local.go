package arena

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Local runs tasks in this process, up to parallel at a time and never more
// than memory bytes of them (0: no bound) together. Steps are reported to step,
// which may be nil.
func Local(e Engine, parallel int, memory int64, step func(t Trial, n int, loss float64)) Executor {
	return func(ctx context.Context, tasks []Task, each func(*Result) error) error {
		l := &local{e: e, total: memory, each: each, step: step}
		l.cond = sync.NewCond(&l.mu)
		return l.run(ctx, tasks, max(1, parallel))
	}
}

type local struct {
	e     Engine
	mu    sync.Mutex
	cond  *sync.Cond
	total int64 // 0: no bound
	used  int64
	err   error
	each  func(*Result) error
	step  func(Trial, int, float64)
}

func (l *local) run(ctx context.Context, tasks []Task, parallel int) error {
	queue := make(chan Task)
	var wg sync.WaitGroup
	for range min(parallel, len(tasks)) {
		wg.Go(func() {
			for t := range queue {
				l.fail(l.task(ctx, t))
			}
		})
	}
	for _, t := range tasks {
		if ctx.Err() != nil || l.failed() {
			break
		}
		queue <- t
	}
	close(queue)
	wg.Wait()
	if ctx.Err() != nil {
		return fault.Wrap(fault.Interrupted, ctx.Err(), "the attack stopped").WithHint("run the same command again: finished trials are kept")
	}
	return l.err
}

func (l *local) failed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

func (l *local) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && (l.err == nil || errors.Is(l.err, context.Canceled)) {
		l.err = err
	}
}

// task runs one task when there is memory for it.
func (l *local) task(ctx context.Context, t Task) error {
	err := l.e.Check(ctx, t)
	if fault.KindOf(err) == fault.Unsupported {
		return l.each(impossible(t.Trial, err))
	}
	if err != nil {
		return err
	}
	need, err := l.e.Memory(ctx, t)
	if err != nil {
		return err
	}
	if err := l.take(t, need); err != nil {
		return err
	}
	defer l.give(need)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r, err := l.e.Run(ctx, t, func(n int, loss float64) {
		if l.step != nil {
			l.step(t.Trial, n, loss)
		}
	})
	if fault.KindOf(err) == fault.Unsupported {
		r, err = impossible(t.Trial, err), nil
	}
	if err != nil {
		return err
	}
	r.PrepareSeconds, r.BytesRead = t.Paths.PrepareSeconds, t.Paths.BytesRead
	return l.each(r)
}

// take waits until there are need bytes; it fails if there never will be.
func (l *local) take(t Task, need int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && need > l.total {
		return fault.New(fault.General, "recipe %s needs %d MB of memory, %d MB are free", t.Trial.Recipe.Name, need>>20, l.total>>20).
			WithHint("take a smaller batch or window (a suite of your own), or another machine (--on)")
	}
	for l.total > 0 && l.used+need > l.total {
		l.cond.Wait()
	}
	l.used += need
	return nil
}

func (l *local) give(need int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= need
	l.cond.Broadcast()
}

// impossible is the result of a trial that does not apply.
func impossible(t Trial, why error) *Result {
	r := NewResult(t)
	r.Status, r.Reason = Impossible, why.Error()
	return r
}

// NewResult returns the result of a trial that has not begun.
func NewResult(t Trial) *Result {
	return &Result{ID: t.ID(), Trial: t, Status: Done, Losses: []Number{}, Evals: []Eval{},
		Versions: map[string]string{}, Time: time.Now().UTC().Format(time.RFC3339)}
}

// RunTask runs the task that raw describes, as a job on another machine does.
func RunTask(ctx context.Context, e Engine, raw []byte) (*Result, error) {
	var t Task
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "the task is not readable")
	}
	if t.Trial.Schema != schema {
		return nil, fault.New(fault.Unsupported, "the task has schema %d, this program reads %d", t.Trial.Schema, schema).
			WithHint("run the same version of neuroseal everywhere")
	}
	var out *Result
	err := Local(e, 1, FreeMemory(), nil)(ctx, []Task{t}, func(r *Result) error { out = r; return nil })
	return out, err
}

// LossList is a result's training losses as a JSON list: null where one is not
// finite.
func LossList(r *Result) []byte {
	raw, err := json.Marshal(r.Losses)
	if err != nil {
		panic(err) // Number has no other form
	}
	return append(raw, '\n')
}
