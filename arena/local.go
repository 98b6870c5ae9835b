package arena

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Local runs tasks in this process, up to parallel at a time and never more
// than memory bytes of them (0: no bound) together. Steps are reported to step,
// which may be nil. A task that needs more memory than there is keeps no other
// from running: the error comes when all have ended.
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
	large []shortage
	each  func(*Result) error
	step  func(Trial, int, float64)
}

// shortage is a task that needs more memory than there is.
type shortage struct {
	recipe string
	need   int64
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
	if l.err == nil && len(l.large) > 0 {
		return l.tooLarge()
	}
	return l.err
}

// tooLarge names the task that needs the most.
func (l *local) tooLarge() error {
	most := l.large[0]
	for _, s := range l.large[1:] {
		if s.need > most.need {
			most = s
		}
	}
	return fault.New(fault.General, "recipe %s needs %d MB of memory, %d MB are free; trials that need too much: %d",
		most.recipe, most.need>>20, l.total>>20, len(l.large)).
		WithHint("take a smaller batch or window (a suite of your own), or another machine (--on)")
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
	p, err := prepare(ctx, l.e, t)
	if fault.KindOf(err) == fault.Unsupported {
		return l.each(impossible(t.Trial, err))
	}
	if err != nil {
		return err
	}
	defer p.Close()
	need := p.Memory()
	if !l.take(t, need) {
		return nil
	}
	defer l.give(need)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r, err := p.Run(ctx, func(n int, loss float64) {
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

// take waits until there are need bytes; it reports whether there ever will be.
func (l *local) take(t Task, need int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && need > l.total {
		l.large = append(l.large, shortage{t.Trial.Recipe.Name, need})
		return false
	}
	for l.total > 0 && l.used > l.total-need {
		l.cond.Wait()
	}
	l.used += need
	return true
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
	t, err := readTask(raw)
	if err != nil {
		return nil, err
	}
	if t.Trial.Engine != e.Name() {
		return nil, fault.New(fault.Usage, "the task is for the %s engine, not for %s", t.Trial.Engine, e.Name()).
			WithHint("give --engine %s", t.Trial.Engine)
	}
	var out *Result
	err = Local(e, 1, FreeMemory(), nil)(ctx, []Task{*t}, func(r *Result) error { out = r; return nil })
	return out, err
}

// readTask parses a task. The schema comes first: a newer one may have fields
// that are unknown here.
func readTask(raw []byte) (*Task, error) {
	var version struct {
		Trial struct {
			Schema int `json:"schema"`
		} `json:"trial"`
	}
	if err := json.Unmarshal(raw, &version); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "the task is not readable")
	}
	if version.Trial.Schema != schema {
		return nil, fault.New(fault.Unsupported, "the task has schema %d, this program reads %d", version.Trial.Schema, schema).
			WithHint("run the same version of neuroseal everywhere")
	}
	t := new(Task)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(t); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "the task is not readable").
			WithHint("run the same version of neuroseal everywhere")
	}
	if err := t.Trial.check(); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "the task")
	}
	return t, nil
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
