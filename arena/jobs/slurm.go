package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// SlurmOptions say how jobs are handed to Slurm.
type SlurmOptions struct {
	Options
	Parallel  int // tasks of one array that run at the same time (%N); 0: no bound
	Partition string
	Account   string
	Extra     []string // further options of sbatch, such as --qos=long
}

// Slurm runs jobs through the commands of a Slurm cluster, as tasks of job
// arrays: one array for all jobs that ask for the same resources. The run folder
// and what the jobs read and write must be on a file system that the nodes see.
//
// sbatch hands this process's environment to the jobs unless Extra says
// otherwise. Slurm itself requeues nothing (--no-requeue): what is lost is
// counted and submitted again here.
func Slurm(o SlurmOptions) (Runner, error) {
	for _, tool := range []string{"sbatch", "squeue", "scancel", "scontrol"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fault.New(fault.Usage, "Slurm: there is no %s here", tool).
				WithHint("run this on a login node of the cluster")
		}
	}
	o.Options = o.withDefaults(5 * time.Second)
	return &slurmRunner{o}, nil
}

type slurmRunner struct{ o SlurmOptions }

func (r *slurmRunner) Name() string { return "slurm" }

func (r *slurmRunner) Run(ctx context.Context, list []Job, report func(Event)) error {
	folder, err := filepath.Abs(filepath.Join(r.o.Folder, "slurm"))
	if err != nil {
		return fault.Wrap(fault.General, err, "running jobs")
	}
	c := &slurm{o: r.o, folder: folder, batches: map[string]*batch{}}
	return runOn(ctx, c, r.o.Options, list, report)
}

// slurm is a Slurm cluster during one Run.
type slurm struct {
	o       SlurmOptions
	folder  string            // of the batches
	batches map[string]*batch // by the id of a task
	largest int               // tasks in one array; 0: not asked yet
	memory  bool              // Slurm knows how much memory nodes have
}

// batch is one array. Its folder holds the script and, for each task, what it
// runs and how that ended.
type batch struct {
	name   string // of the Slurm job: neuroseal-RUN-RANDOM
	folder string
	tasks  []*task // by array index
}

// resources are what the tasks of an array have in common.
type resources struct {
	cpus, gpus int
	memory     int64
	limit      time.Duration
}

const anyNumber = 1 << 30

// slots: queueing is Slurm's own business.
func (c *slurm) slots() int { return anyNumber }

// submit makes an array for each kind of resources, as large as Slurm takes it.
func (c *slurm) submit(ctx context.Context, tasks []*task) error {
	if err := c.ask(ctx); err != nil {
		return err
	}
	kinds := map[resources][]*task{}
	var order []resources
	for _, t := range tasks {
		k := resources{t.CPUs, t.GPUs, t.Memory, t.Limit}
		if kinds[k] == nil {
			order = append(order, k)
		}
		kinds[k] = append(kinds[k], t)
	}
	for _, k := range order {
		for part := range slices.Chunk(kinds[k], c.largest) {
			if err := c.array(ctx, k, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// array submits the tasks as one array, or as smaller ones where the queue has
// no room for it.
func (c *slurm) array(ctx context.Context, k resources, tasks []*task) error {
	b, err := c.write(tasks)
	if err != nil {
		return err
	}
	id, err := c.sbatch(ctx, k, b)
	var out outage
	switch {
	case errors.Is(err, errFull):
		if err := os.RemoveAll(b.folder); err != nil {
			return fault.Wrap(fault.General, err, "removing a batch that was not submitted")
		}
		if len(tasks) == 1 {
			return err
		}
		half := (len(tasks) + 1) / 2
		if err := c.array(ctx, k, tasks[:half]); err != nil {
			return err
		}
		return c.array(ctx, k, tasks[half:])
	case errors.As(err, &out), ctx.Err() != nil:
		return err
	case err != nil:
		for _, t := range tasks {
			t.refused = err
		}
		return nil
	}
	for i, t := range tasks {
		t.id = id + "_" + strconv.Itoa(i)
		c.batches[t.id] = b
	}
	return nil
}

// sbatch submits a batch and returns the id of its array.
func (c *slurm) sbatch(ctx context.Context, k resources, b *batch) (string, error) {
	out, err := tool(ctx, "sbatch", c.options(k, b)...)
	if err == nil {
		id, _, _ := strings.Cut(strings.TrimSpace(out), ";") // ";" and the cluster's name follow
		if _, err := strconv.ParseUint(id, 10, 64); err != nil {
			return "", fault.New(fault.General, "sbatch printed %q instead of a job's number", short(out))
		}
		return id, nil
	}
	var unclear outage
	if !errors.As(err, &unclear) {
		return "", err
	}
	// It may have been submitted all the same.
	rows, listErr := c.squeue(ctx)
	if listErr != nil {
		return "", err
	}
	for _, r := range rows {
		if r.name == b.name {
			return r.array, nil
		}
	}
	return "", err
}

// options are sbatch's arguments. They reach it without a shell.
func (c *slurm) options(k resources, b *batch) []string {
	array := "--array=0-" + strconv.Itoa(len(b.tasks)-1)
	if c.o.Parallel > 0 {
		array += "%" + strconv.Itoa(c.o.Parallel)
	}
	args := []string{"--parsable", array, "--job-name=" + b.name, "--ntasks=1", "--no-requeue",
		"--chdir=" + b.folder, "--output=" + b.output(), "--open-mode=append",
		"--cpus-per-task=" + strconv.Itoa(k.cpus)}
	if k.gpus > 0 {
		args = append(args, "--gres=gpu:"+strconv.Itoa(k.gpus))
	}
	if k.memory > 0 && c.memory {
		args = append(args, "--mem="+strconv.FormatInt((k.memory+1023)/1024, 10)+"K")
	}
	if k.limit > 0 {
		args = append(args, "--time="+strconv.FormatInt(int64((k.limit+time.Minute-1)/time.Minute), 10))
	}
	if c.o.Partition != "" {
		args = append(args, "--partition="+c.o.Partition)
	}
	if c.o.Account != "" {
		args = append(args, "--account="+c.o.Account)
	}
	return append(append(args, c.o.Extra...), filepath.Join(b.folder, "batch.sh"))
}

// adopt finds the tasks of this run in the queue, by the names of their arrays.
func (c *slurm) adopt(ctx context.Context, tasks []*task) error {
	rows, err := c.squeue(ctx)
	if err != nil || len(tasks) == 0 {
		return err
	}
	byDigest := map[string]*task{}
	for _, t := range tasks {
		byDigest[t.digest] = t
	}
	known := map[string][]string{} // digests of a batch
	for _, r := range rows {
		random, ours := strings.CutPrefix(r.name, "neuroseal-"+tasks[0].run+"-")
		if !ours || !r.live() {
			continue
		}
		if known[random] == nil {
			if known[random], err = readBatch(filepath.Join(c.folder, random)); err != nil {
				return err
			}
		}
		i, err := strconv.Atoi(r.index)
		if err != nil || i < 0 || i >= len(known[random]) {
			continue
		}
		if t := byDigest[known[random][i]]; t != nil && t.id == "" {
			t.id = r.id()
			c.batches[t.id] = &batch{name: r.name, folder: filepath.Join(c.folder, random)}
		}
	}
	return nil
}

// poll reads the queue, and asks further about tasks that have left it.
func (c *slurm) poll(ctx context.Context, tasks []*task) ([]status, error) {
	rows, err := c.squeue(ctx)
	if err != nil {
		return nil, err
	}
	queue := map[string]row{}
	for _, r := range rows {
		queue[r.id()] = r
	}
	states := make([]status, len(tasks))
	left := map[string]int{} // ids of tasks that only Slurm can tell about
	for i, t := range tasks {
		r, there := queue[t.id]
		code, known := exitCode(c.batches[t.id].folder, t.id)
		switch {
		// What the script noted counts more than the queue: a controller that
		// was killed and restarted may hold a task for running that is not.
		case known && code == 0:
			states[i] = status{phase: succeeded}
		case known && !killedByCode(code):
			states[i] = status{failed, fmt.Errorf("exit status %d", code)}
		case there && r.live():
			if states[i], err = c.queued(ctx, t, r); err != nil {
				return nil, err
			}
		case finished(t.Job):
			states[i] = status{phase: succeeded}
		default:
			left[t.id] = i
			states[i] = status{phase: gone}
			if known {
				states[i].err = fmt.Errorf("it was killed (status %d)", code)
			}
		}
	}
	fates, err := c.fates(ctx, slices.Sorted(maps.Keys(left)))
	for id, s := range fates {
		if i, asked := left[id]; asked {
			states[i] = s
		}
	}
	return states, err
}

// queued judges a task that Slurm has. One that waits for what it says will not
// come is given up when that has not changed for as long as an outage may last:
// the reason may also be a node that is down for a while.
func (c *slurm) queued(ctx context.Context, t *task, r row) (status, error) {
	switch {
	case !r.waits():
		return status{phase: running}, nil
	case !slices.Contains(hopeless, strings.Trim(r.reason, "()")):
		t.hopeless = time.Time{}
	case t.hopeless.IsZero():
		t.hopeless = time.Now()
	case time.Since(t.hopeless) > c.o.Patience:
		err := fmt.Errorf("Slurm would not start it: %s", r.reason)
		return status{failed, err}, c.stop(ctx, []*task{t})
	}
	return status{phase: waiting}, nil
}

// collect adds what Slurm itself said of the task to its log.
func (c *slurm) collect(_ context.Context, t *task) error {
	if t.read {
		return nil
	}
	t.read = true
	return c.batches[t.id].remarks(t)
}

// stop cancels the tasks. Slurm is content with tasks that have ended.
func (c *slurm) stop(ctx context.Context, tasks []*task) error {
	for part := range slices.Chunk(tasks, 500) { // a command line has an end
		var ids []string
		for _, t := range part {
			ids = append(ids, t.id)
		}
		_, err := tool(ctx, "scancel", ids...)
		if err != nil && !strings.Contains(err.Error(), "Invalid job id") && !strings.Contains(err.Error(), "already completing") {
			return err
		}
	}
	return nil
}
