package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// board keeps the states of a run's tasks and reports their changes.
type board struct {
	mu      sync.Mutex
	tasks   []*task
	report  func(Event)
	retries int
}

// newBoard reports the tasks whose results exist and returns the others.
func newBoard(tasks []*task, o Options, report func(Event)) (*board, []*task) {
	b := &board{tasks: tasks, report: report, retries: o.Retries}
	var todo []*task
	for _, t := range tasks {
		if finished(t.Job) {
			b.set(t, Done, nil)
		} else {
			todo = append(todo, t)
		}
	}
	return b, todo
}

// set moves a task to a state, and reports that if it is news.
func (b *board) set(t *task, s State, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.over || t.last == s {
		return
	}
	t.last = s
	if s == Done || s == Failed || s == Cancelled {
		t.over, t.err = true, err
	}
	if b.report != nil {
		b.report(Event{Job: t.Name, State: s, Err: err, Log: t.log})
	}
}

// lose reports that a task was lost and says whether it is to be tried again;
// if it has been lost too often it has failed.
func (b *board) lose(t *task, err error) bool {
	t.lost++
	if t.lost > b.retries {
		b.set(t, Failed, fmt.Errorf("lost %d times, the last time: %w", t.lost, err))
		return false
	}
	b.set(t, Lost, err)
	return true
}

// summary is the error of a run whose tasks are all over, nil if all are done.
func (b *board) summary() error {
	var first *task
	n := 0
	for _, t := range b.tasks {
		if t.last != Done {
			n++
			if first == nil {
				first = t
			}
		}
	}
	if first == nil {
		return nil
	}
	err := fault.Wrap(fault.General, first.err, "%d of %d jobs failed; %s", n, len(b.tasks), first.Name)
	if hint := fault.HintOf(first.err); hint != "" {
		return err.WithHint("%s", hint)
	}
	return err.WithHint("its log is %s; the same command runs again what failed", first.log)
}

// stopped is the error of a run whose context was cancelled.
func stopped(ctx context.Context, more error) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		err = errors.Join(err, cause)
	}
	return fault.Wrap(fault.Interrupted, errors.Join(err, more), "the run stopped").
		WithHint("the same command goes on: finished jobs are kept")
}
