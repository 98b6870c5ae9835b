package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// LocalOptions bound what runs on this machine at the same time.
type LocalOptions struct {
	Options
	Parallel int      // jobs; 0: as many as fit
	CPUs     int      // 0: the machine's
	Memory   int64    // bytes, compared with the sum of Job.Memory; 0: no bound
	Devices  []string // accelerators as in CUDA_VISIBLE_DEVICES; a job sees its own only
}

// grace is how long a process that is asked to end may take.
const grace = 5 * time.Second

// Local runs jobs as processes of this machine, in their order, each in a
// process group of its own.
func Local(o LocalOptions) Runner {
	o.Options = o.withDefaults(500 * time.Millisecond)
	if o.CPUs <= 0 {
		o.CPUs = runtime.NumCPU()
	}
	return &local{o: o}
}

type local struct{ o LocalOptions }

func (l *local) Name() string { return "local" }

func (l *local) Run(ctx context.Context, list []Job, report func(Event)) error {
	tasks, err := prepare(l.o.Options, list)
	if err != nil {
		return err
	}
	locks := filepath.Join(l.o.Folder, "local")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return fault.Wrap(fault.General, err, "making the run folder")
	}
	b, todo := newBoard(tasks, l.o.Options, report)
	room := &room{o: l.o, cpus: l.o.CPUs, memory: l.o.Memory, devices: l.o.Devices}
	type end struct {
		t       *task
		devices []string
	}
	ended := make(chan end)
	for running := 0; len(todo) > 0 || running > 0; {
		for len(todo) > 0 && ctx.Err() == nil {
			t := todo[0]
			if err := l.tooLarge(t.Job); err != nil {
				b.set(t, Failed, err)
				todo = todo[1:]
				continue
			}
			devices, ok := room.take(t.Job, running)
			if !ok {
				break
			}
			todo = todo[1:]
			running++
			go func() {
				p := &process{t: t, b: b, o: l.o.Options, lock: filepath.Join(locks, t.Name+".lock"), devices: devices}
				p.run(ctx)
				ended <- end{t, devices}
			}()
		}
		if running == 0 {
			break
		}
		e := <-ended
		running--
		room.give(e.t.Job, e.devices)
	}
	if ctx.Err() != nil {
		return stopped(ctx, nil)
	}
	return b.summary()
}

// tooLarge says why a job can never run here.
func (l *local) tooLarge(j Job) error {
	if j.GPUs > len(l.o.Devices) {
		return fault.New(fault.General, "it needs %d GPUs, %d are given here", j.GPUs, len(l.o.Devices))
	}
	if l.o.Memory > 0 && j.Memory > l.o.Memory {
		return fault.New(fault.General, "it needs %d MB of memory, %d MB are given to jobs here", j.Memory>>20, l.o.Memory>>20).
			WithHint("run it on a larger machine (--on ray, --on slurm)")
	}
	return nil
}

// room is what is free for further jobs.
type room struct {
	o       LocalOptions
	cpus    int
	memory  int64
	devices []string
}

// take reserves what a job needs, if that is free. A job that asks for more
// processors than there are runs alone.
func (r *room) take(j Job, running int) (devices []string, ok bool) {
	cpus := min(j.CPUs, r.o.CPUs)
	if r.o.Parallel > 0 && running >= r.o.Parallel || cpus > r.cpus || j.GPUs > len(r.devices) ||
		r.o.Memory > 0 && j.Memory > r.memory {
		return nil, false
	}
	r.cpus -= cpus
	r.memory -= j.Memory
	devices, r.devices = r.devices[:j.GPUs:j.GPUs], r.devices[j.GPUs:]
	return devices, true
}

func (r *room) give(j Job, devices []string) {
	r.cpus += min(j.CPUs, r.o.CPUs)
	r.memory += j.Memory
	r.devices = append(devices, r.devices...)
}

// process runs one job on this machine.
type process struct {
	t       *task
	b       *board
	o       Options
	lock    string // held by the job's processes as long as one of them lives
	devices []string
}

// run starts the job, again if it was killed, until it is over.
func (p *process) run(ctx context.Context) {
	for {
		lock, err := p.acquire(ctx)
		switch {
		case ctx.Err() != nil:
			if lock != nil {
				lock.Close()
			}
			p.b.set(p.t, Cancelled, ctx.Err())
			return
		case err != nil:
			p.b.set(p.t, Failed, fault.Wrap(fault.General, err, "locking %s", p.lock))
			return
		case finished(p.t.Job): // written by a process that an earlier run left
			lock.Close()
			p.b.set(p.t, Done, nil)
			return
		}
		if !p.once(ctx, lock) {
			return
		}
	}
}

// acquire takes the job's lock. A process of an earlier run, whose program was
// killed, holds it as long as it lives: then its result is awaited.
func (p *process) acquire(ctx context.Context) (*os.File, error) {
	for {
		f, err := os.OpenFile(p.lock, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err = tryLock(f); !errors.Is(err, errBusy) {
			if err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		}
		p.b.set(p.t, Running, nil)
		select {
		case <-ctx.Done():
			endOrphan(f)
			f.Close()
			return nil, ctx.Err()
		case <-time.After(p.o.Poll):
		}
		f.Close()
	}
}

// once runs the command and says whether it is to be run again. It closes lock.
func (p *process) once(ctx context.Context, lock *os.File) (again bool) {
	cmd, err := p.start(lock)
	if err != nil {
		p.b.set(p.t, Failed, fault.Wrap(fault.General, err, "starting %s", p.t.Argv[0]))
		return false
	}
	p.b.set(p.t, Running, nil)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var limit <-chan time.Time
	if p.t.Limit > 0 {
		timer := time.NewTimer(p.t.Limit)
		defer timer.Stop()
		limit = timer.C
	}
	var why error
	select {
	case err = <-ended:
	case <-ctx.Done():
		why = ctx.Err()
		err = end(cmd, ended)
	case <-limit:
		why = fmt.Errorf("it ran longer than its limit of %v", p.t.Limit)
		err = end(cmd, ended)
	}
	killRest(cmd)
	return p.outcome(ctx, err, why)
}

// start starts the command. Its processes inherit the lock.
func (p *process) start(lock *os.File) (*exec.Cmd, error) {
	defer lock.Close()
	log, err := openLog(p.t.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.t.Argv[0], p.t.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.t.Dir, log, log
	cmd.Env = os.Environ()
	if len(p.devices) > 0 {
		cmd.Env = append(cmd.Env, "CUDA_VISIBLE_DEVICES="+strings.Join(p.devices, ","))
	}
	for k, v := range p.t.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	separate(cmd, lock)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Without the record only an orphan could not be stopped.
	recordGroup(lock, cmd)
	return cmd, nil
}

// end asks the job's processes to end, and kills them if they do not.
func end(cmd *exec.Cmd, ended <-chan error) error {
	askGroup(cmd)
	select {
	case err := <-ended:
		return err
	case <-time.After(grace):
		killGroup(cmd)
		return <-ended
	}
}

// outcome reports what became of the job: why is set if it was ended from here.
func (p *process) outcome(ctx context.Context, err, why error) (again bool) {
	var exit *exec.ExitError
	switch {
	case finished(p.t.Job):
		p.b.set(p.t, Done, nil)
	case ctx.Err() != nil:
		p.b.set(p.t, Cancelled, ctx.Err())
	case why != nil:
		p.b.set(p.t, Failed, why)
	case err == nil:
		p.b.set(p.t, Failed, noResult(p.t.Job))
	case errors.As(err, &exit) && killed(exit):
		return p.b.lose(p.t, fmt.Errorf("its process was killed (%v), perhaps for want of memory", err))
	default:
		p.b.set(p.t, Failed, err)
	}
	return false
}

// killed says whether somebody else ended a process.
func killed(exit *exec.ExitError) bool {
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && (ws.Signal() == syscall.SIGKILL || ws.Signal() == syscall.SIGTERM) ||
		killedByCode(exit.ExitCode())
}

// killedByCode says whether a shell would tell with this exit status that
// SIGKILL or SIGTERM ended the command. Python tells signals as -9 and -15.
func killedByCode(code int) bool {
	return code == 128+9 || code == 128+15 || code == -9 || code == -15
}

func noResult(j Job) error {
	return fmt.Errorf("it ended well but left no result in %s", j.Result)
}
