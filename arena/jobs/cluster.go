package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// cluster is what the loop below needs of a scheduler. An error of its methods
// is an outage (the cluster is out of reach for now), errFull, or the end of the
// run. A task that the cluster does not take gets its refused set instead.
type cluster interface {
	// adopt gives an id to the tasks that an earlier run submitted and that
	// still run, or whose result is still to be fetched.
	adopt(ctx context.Context, tasks []*task) error
	// submit gives ids to as many of the tasks as it can, which may be less
	// than all also when it returns nil.
	submit(ctx context.Context, tasks []*task) error
	// poll returns one status for each of the submitted tasks.
	poll(ctx context.Context, tasks []*task) ([]status, error)
	// collect fetches the log of a task that ended and, where files are not
	// shared, its result.
	collect(ctx context.Context, t *task) error
	// stop asks the cluster to end the tasks.
	stop(ctx context.Context, tasks []*task) error
	// slots is how many tasks may be submitted at the same time.
	slots() int
}

// phase is what a cluster says of a task.
type phase int

const (
	waiting   phase = iota
	running         // started
	succeeded       // ended well: its result should be there
	failed          // ended, or refused to start, through its own fault
	gone            // ended through no fault of its own, or unknown
	starved         // gave up waiting for resources
	stoppedBy       // ended by somebody's order
)

type status struct {
	phase phase
	err   error
}

// outage says that the cluster is out of reach for now.
type outage struct {
	err   error
	after time.Duration // the cluster asks not to be asked before
}

func (o outage) Error() string { return o.err.Error() }
func (o outage) Unwrap() error { return o.err }

// errFull says that the cluster's queue takes no more for now.
var errFull = errors.New("the queue is full")

const (
	longestPause = 30 * time.Second // between two tries to reach the cluster
	stopPatience = 45 * time.Second // for stopping jobs after a cancellation
)

// loop runs tasks on a cluster.
type loop struct {
	c       cluster
	o       Options
	b       *board
	todo    []*task // not submitted
	flight  []*task // submitted
	contact time.Time
	tries   int // failed ones in a row
}

// runOn runs the jobs on c.
func runOn(ctx context.Context, c cluster, o Options, list []Job, report func(Event)) error {
	tasks, err := prepare(o, list)
	if err != nil {
		return err
	}
	b, todo := newBoard(tasks, o, report)
	l := &loop{c: c, o: o, b: b, todo: todo, contact: time.Now()}
	if len(todo) == 0 {
		return nil
	}
	adopted := false
	for {
		var err error
		if !adopted {
			err = l.adopt(ctx)
			adopted = err == nil
		}
		if adopted {
			err = l.round(ctx)
		}
		if ctx.Err() != nil {
			return stopped(ctx, l.cancel(ctx.Err()))
		}
		pause, err := l.judge(err)
		switch {
		case err != nil:
			return err
		case len(l.todo)+len(l.flight) == 0:
			return b.summary()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (l *loop) adopt(ctx context.Context) error {
	if err := l.c.adopt(ctx, l.todo); err != nil {
		return err
	}
	var rest []*task
	for _, t := range l.todo {
		if t.id != "" {
			t.adopted = true
			l.flight = append(l.flight, t)
		} else {
			rest = append(rest, t)
		}
	}
	l.todo = rest
	return nil
}

// judge says how long to wait after a round that ended with err, or that the
// run is at its end.
func (l *loop) judge(err error) (time.Duration, error) {
	var out outage
	switch {
	case err == nil, errors.Is(err, errFull) && len(l.flight) > 0:
		l.contact, l.tries = time.Now(), 0
		return l.o.Poll, nil
	case !errors.As(err, &out) && !errors.Is(err, errFull):
		return 0, l.resumable(err, "running jobs")
	}
	if silent := time.Since(l.contact); silent > l.o.Patience {
		return 0, l.resumable(err, fmt.Sprintf("the cluster could not be used for %v", silent.Round(time.Second)))
	}
	pause := min(longestPause, l.o.Poll<<min(l.tries, 10))
	l.tries++
	// Spread, so that many clients do not come back at the same moment.
	pause = pause/2 + rand.N(pause/2+1)
	return max(pause, min(out.after, 2*longestPause)), nil
}

func (l *loop) resumable(err error, what string) error {
	e := fault.Wrap(fault.KindOf(err), err, "%s", what)
	if hint := fault.HintOf(err); hint != "" {
		return e.WithHint("%s", hint)
	}
	return e.WithHint("the run can be resumed: the same command keeps finished jobs and finds those that still run (%d now)", len(l.flight))
}

// round submits what may be submitted and follows what was.
func (l *loop) round(ctx context.Context) error {
	err := l.submit(ctx)
	return errors.Join(err, l.follow(ctx))
}

func (l *loop) submit(ctx context.Context) error {
	l.todo = l.without(l.todo) // an earlier run's job may have ended just now
	n := min(l.c.slots()-len(l.flight), len(l.todo))
	if n <= 0 {
		return nil
	}
	err := l.c.submit(ctx, l.todo[:n])
	var rest []*task
	for _, t := range l.todo {
		switch {
		case t.refused != nil:
			l.b.set(t, Failed, t.refused)
		case t.id != "":
			l.b.set(t, Queued, nil)
			l.flight = append(l.flight, t)
		default:
			rest = append(rest, t)
		}
	}
	l.todo = rest
	return err
}

// follow asks the cluster about every submitted task.
func (l *loop) follow(ctx context.Context) error {
	if len(l.flight) == 0 {
		return nil
	}
	states, err := l.c.poll(ctx, l.flight)
	if err != nil {
		if ctx.Err() == nil {
			l.flight = l.without(l.flight)
		}
		return err
	}
	busy := false // another task of ours has the resources
	for _, s := range states {
		busy = busy || s.phase == running
	}
	var rest []*task
	var errs []error
	for i, t := range l.flight {
		keep, err := l.step(ctx, t, states[i], busy)
		if keep {
			rest = append(rest, t)
		}
		errs = append(errs, err)
	}
	l.flight = rest
	return errors.Join(errs...)
}

// without reports the tasks whose results are there and returns the others.
func (l *loop) without(tasks []*task) []*task {
	var rest []*task
	for _, t := range tasks {
		if finished(t.Job) {
			l.b.set(t, Done, nil)
		} else {
			rest = append(rest, t)
		}
	}
	return rest
}

// step moves one task on and says whether it remains in flight.
func (l *loop) step(ctx context.Context, t *task, s status, busy bool) (keep bool, err error) {
	switch s.phase {
	case waiting:
		l.b.set(t, Queued, nil)
		return true, nil
	case running:
		l.b.set(t, Running, nil)
		if t.started.IsZero() {
			t.started = time.Now()
		}
		switch {
		case t.Limit > 0 && time.Since(t.started) > t.Limit:
			return l.overdue(ctx, t)
		case !finished(t.Job):
			t.ended = time.Time{}
		case t.ended.IsZero():
			t.ended = time.Now()
		case time.Since(t.ended) > l.o.Settle: // it hangs after its work
			return l.overdue(ctx, t)
		}
		return true, nil
	}
	if err := l.c.collect(ctx, t); err != nil {
		var out outage
		if errors.As(err, &out) || ctx.Err() != nil {
			return true, err // asked again in the next round
		}
		if s.phase == succeeded { // its result cannot be fetched
			s = status{failed, err}
			var g goneError
			if errors.As(err, &g) {
				s.phase = gone
			}
		}
	}
	if finished(t.Job) {
		l.b.set(t, Done, nil)
		return false, nil
	}
	return l.end(t, s, busy), nil
}

// goneError says that a result was lost with the node that had it.
type goneError struct{ err error }

func (g goneError) Error() string { return g.err.Error() }
func (g goneError) Unwrap() error { return g.err }

// overdue stops a task that runs longer than it may or has to.
func (l *loop) overdue(ctx context.Context, t *task) (keep bool, err error) {
	if err := l.c.stop(ctx, []*task{t}); err != nil {
		return true, err
	}
	_ = l.c.collect(ctx, t) // the log is a help, no more
	if finished(t.Job) {
		l.b.set(t, Done, nil)
	} else {
		l.b.set(t, Failed, fmt.Errorf("it ran longer than its limit of %v", t.Limit))
	}
	return false, nil
}

// end judges a task that ended and whose result is not there.
func (l *loop) end(t *task, s status, busy bool) (keep bool) {
	if t.ended.IsZero() {
		t.ended = time.Now()
	}
	switch s.phase {
	case succeeded, gone:
		if time.Since(t.ended) < l.o.Settle && !(s.phase == gone && s.err != nil) {
			return true
		}
		if s.phase == succeeded {
			l.b.set(t, Failed, noResult(t.Job))
			return false
		}
		if s.err == nil {
			s.err = errors.New("the cluster knows nothing of it any more")
		}
	case stoppedBy:
		if !t.adopted { // else it is what an earlier, cancelled run stopped
			l.b.set(t, Cancelled, s.err)
			return false
		}
	case starved:
		if busy { // by us: no fault of the cluster
			t.lost--
		}
	default:
		l.b.set(t, Failed, s.err)
		return false
	}
	if l.b.lose(t, s.err) {
		t.id, t.adopted, t.read, t.ended, t.started = "", false, false, time.Time{}, time.Time{}
		l.todo = append(l.todo, t)
	}
	return false
}

// cancel stops what is in flight, and waits until the cluster says that it has
// ended, as far as its patience goes.
func (l *loop) cancel(why error) error {
	ctx, done := context.WithTimeout(context.Background(), stopPatience)
	defer done()
	var err error
	for asked := false; len(l.flight) > 0 && ctx.Err() == nil; {
		if !asked {
			err = l.c.stop(ctx, l.flight)
			asked = err == nil
		}
		if asked {
			if err = l.ended(ctx); err == nil && len(l.flight) == 0 {
				break
			}
		}
		var out outage
		if err != nil && !errors.As(err, &out) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(l.o.Poll, time.Second)):
		}
	}
	for _, t := range append(l.flight, l.todo...) {
		l.b.set(t, Cancelled, why)
	}
	if len(l.flight) > 0 {
		return errors.Join(fmt.Errorf("%d jobs may still run on the cluster", len(l.flight)), err)
	}
	return nil
}

// ended takes out of the flight what the cluster says has ended.
func (l *loop) ended(ctx context.Context) error {
	states, err := l.c.poll(ctx, l.flight)
	if err != nil {
		return err
	}
	var rest []*task
	for i, t := range l.flight {
		switch {
		case states[i].phase <= running:
			rest = append(rest, t)
			continue
		case states[i].phase == succeeded:
			_ = l.c.collect(ctx, t) // it was faster
		}
		if finished(t.Job) {
			l.b.set(t, Done, nil)
		} else {
			l.b.set(t, Cancelled, context.Canceled)
		}
	}
	l.flight = rest
	return nil
}

// killedByCode says whether a shell would tell with this exit status that
// SIGKILL or SIGTERM ended the command. Python tells signals as -9 and -15.
func killedByCode(code int) bool {
	return code == 128+9 || code == 128+15 || code == -9 || code == -15
}

func noResult(j Job) error {
	return fmt.Errorf("it ended well but left no result in %s", j.Result)
}
