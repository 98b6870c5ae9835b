package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/jobs"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// whereOptions say where trials run.
type whereOptions struct {
	On        string
	GPUs      int
	Limit     time.Duration
	Address   string
	Shared    bool
	Partition string
	Account   string
	Sbatch    []string
	Remote    string
}

func (w *whereOptions) register(f *pflag.FlagSet) {
	f.StringVar(&w.On, "on", "local", "where trials run: local, ray or slurm")
	f.IntVar(&w.GPUs, "gpus", 0, "ray, slurm: GPUs for each trial")
	f.DurationVar(&w.Limit, "limit", 0, "ray, slurm: longest time for a trial; default: none")
	f.StringVar(&w.Address, "ray-address", "", "ray: `URL` of the dashboard; default: RAY_ADDRESS, then http://127.0.0.1:8265")
	f.BoolVar(&w.Shared, "ray-shared", false, "ray: the nodes see OUT under the same path; else results come back through the log")
	f.StringVar(&w.Partition, "partition", "", "slurm: partition")
	f.StringVar(&w.Account, "account", "", "slurm: account")
	f.StringArrayVar(&w.Sbatch, "sbatch", nil, "slurm: a further `OPTION` for sbatch, such as --qos=low; repeatable")
	f.StringVar(&w.Remote, "remote-neuroseal", "", "ray, slurm: `PATH` of this program on the nodes; default: its path here")
}

// executor returns what runs the trials of an attack. On a cluster the nodes
// must see the models and the texts under the same paths as this machine.
func (w *whereOptions) executor(o *attackOptions, e arena.Engine, p *trialProgress) (arena.Executor, error) {
	folder := filepath.Join(o.Out, "jobs")
	common := jobs.Options{Folder: folder}
	var r jobs.Runner
	var err error
	switch w.On {
	case "local":
		return p.local(arena.Local(e, o.Parallel, arena.FreeMemory(), nil)), nil
	case "ray":
		r, err = jobs.Ray(jobs.RayOptions{Options: common, Address: w.Address, Shared: w.Shared})
	case "slurm":
		r, err = jobs.Slurm(jobs.SlurmOptions{Options: common, Partition: w.Partition, Account: w.Account, Extra: w.Sbatch})
	default:
		return nil, fault.New(fault.Usage, "--on %s", w.On).WithHint("known: local, ray, slurm")
	}
	if err != nil {
		return nil, err
	}
	program := w.Remote
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return nil, fault.Wrap(fault.General, err, "finding this program's path").WithHint("give it with --remote-neuroseal")
		}
	}
	c := &cluster{w: w, o: o, e: e, r: r, program: program, folder: folder, note: p.u.Note}
	return func(ctx context.Context, tasks []arena.Task, each func(*arena.Result) error) error {
		return c.run(ctx, tasks, p.counting(each))
	}, nil
}

// cluster runs every task as a job of its own.
type cluster struct {
	w       *whereOptions
	o       *attackOptions
	e       arena.Engine
	r       jobs.Runner
	program string
	folder  string
	note    func(format string, args ...any)
}

func (c *cluster) run(ctx context.Context, tasks []arena.Task, each func(*arena.Result) error) error {
	var list []jobs.Job
	results := map[string]string{}
	for _, t := range tasks {
		j, err := c.job(ctx, t)
		if err != nil {
			return err
		}
		list, results[j.Name] = append(list, j), j.Result
	}
	var mu sync.Mutex
	var broken error
	err := c.r.Run(ctx, list, func(e jobs.Event) {
		switch e.State {
		case jobs.Lost:
			c.note("trial %s was lost and is handed over again: %v", e.Job, e.Err)
		case jobs.Failed:
			c.note("trial %s failed: %v; its log is %s", e.Job, e.Err, e.Log)
		}
		if e.State != jobs.Done {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if err := take(e.Job, results[e.Job], each); err != nil && broken == nil {
			broken = err
		}
	})
	if broken != nil {
		return broken
	}
	return err
}

// job is the job of a task, which travels in the environment: a node need not
// see the run folder.
func (c *cluster) job(ctx context.Context, t arena.Task) (jobs.Job, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return jobs.Job{}, fault.Wrap(fault.General, err, "describing trial %s", t.Trial.ID())
	}
	id := t.Trial.ID()
	result, err := filepath.Abs(filepath.Join(c.folder, id+".json"))
	if err != nil {
		return jobs.Job{}, fault.Wrap(fault.General, err, "trial %s", id)
	}
	j := jobs.Job{
		Name: id, Result: result, CPUs: max(1, c.o.Threads), GPUs: c.w.GPUs, Limit: c.w.Limit,
		Argv: []string{c.program, "trial", "-", result, "--engine", c.o.Engine, "--threads", strconv.Itoa(c.o.Threads)},
		Env:  map[string]string{taskVariable: string(raw)},
	}
	if c.o.Engine == arena.TRLEngine {
		python, err := pythonOnNodes(c.o.Python)
		if err != nil {
			return jobs.Job{}, err
		}
		j.Argv = append(j.Argv, python...)
	}
	// Where the memory cannot be known, the job says why when it runs.
	if need, err := c.e.Memory(ctx, t); err == nil {
		j.Memory = need + need/4 + 256<<20
	}
	return j, nil
}

// pythonOnNodes are the arguments that name the Python there: the one that is
// named here, since a job may have another environment and another folder.
func pythonOnNodes(name string) ([]string, error) {
	if name == "" {
		name = os.Getenv("NEUROSEAL_PYTHON")
	}
	if name == "" {
		return nil, nil
	}
	if filepath.Base(name) != name {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, fault.Wrap(fault.General, err, "finding the Python %s", name)
		}
		name = abs
	}
	return []string{"--python", name}, nil
}

// take reads the result of the trial id.
func take(id, path string, each func(*arena.Result) error) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fault.Wrap(fault.General, err, "reading a job's result")
	}
	r := new(arena.Result)
	if err := json.Unmarshal(raw, r); err != nil || r.ID != id || r.Trial.ID() != id {
		return fault.New(fault.Mismatch, "%s is not the result of trial %s", path, id).
			WithHint("remove it and run the command again; does the cluster run the same version of neuroseal?")
	}
	return each(r)
}
