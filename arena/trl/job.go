package trl

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Files of a trial's folder.
const (
	taskFile   = "task.json"
	resultFile = "result.json"
	launchFile = "launch.yaml"
)

// job is a trial that is handed over to Python.
type job struct {
	dir    string
	task   arena.Task
	stack  *stack
	o      Options
	report func(int, float64)
	grace  time.Duration
}

// write writes what the Python side reads.
func (j *job) write(target, retained text) error {
	t := j.task.Trial
	data := map[string]string{"target": filepath.Join(j.dir, "target"), "retained": filepath.Join(j.dir, "retained")}
	if err := target.Export(data["target"], corpus.Run{Seed: t.Seed, Steps: t.Steps, Batch: t.Batch, Window: t.Window, Evals: t.Eval}); err != nil {
		return err
	}
	if err := retained.Export(data["retained"], corpus.Run{Batch: t.Batch, Window: t.Window, Evals: t.Eval}); err != nil {
		return err
	}
	model, err := filepath.Abs(j.task.Paths.Model)
	if err != nil {
		return fault.Wrap(fault.General, err, "the model's path")
	}
	j.task.Paths.Model = model
	raw, err := json.Marshal(struct {
		arena.Task
		Data map[string]string `json:"data"`
	}{j.task, data})
	if err != nil {
		return fault.Wrap(fault.General, err, "describing the trial")
	}
	if err := os.WriteFile(filepath.Join(j.dir, taskFile), raw, 0o666); err != nil {
		return fault.Wrap(fault.General, err, "describing the trial")
	}
	return nil
}

// run starts Python and waits for its end.
func (j *job) run(ctx context.Context, l launch) error {
	args := []string{j.stack.Python, "-m"}
	if l.replicas > 1 {
		config := filepath.Join(j.dir, launchFile)
		if err := os.WriteFile(config, launchConfig(l, len(j.stack.GPUs) > 0), 0o666); err != nil {
			return fault.Wrap(fault.General, err, "writing accelerate's configuration")
		}
		args = append(args, "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0", "-m")
	}
	args = append(args, "arena_trl", "run", filepath.Join(j.dir, taskFile), filepath.Join(j.dir, resultFile))
	env := append(environment(j.dir, j.o.Threads), "ARENA_TRL_STDIN=1")
	if l.visible != "" {
		env = append(env, "CUDA_VISIBLE_DEVICES="+l.visible)
	}
	p := process{args: args, env: env, log: j.o.Log, line: j.line, grace: j.grace}
	return p.run(ctx)
}

// line is a line of standard output: a step, or something that is none of ours.
func (j *job) line(b []byte) {
	var s struct {
		Step int          `json:"step"`
		Loss arena.Number `json:"loss"`
	}
	if json.Unmarshal(b, &s) == nil && s.Step > 0 && j.report != nil {
		j.report(s.Step, float64(s.Loss))
	}
}

// launchConfig is accelerate's configuration, so that the user's own, which may
// ask for anything, is not read.
func launchConfig(l launch, cuda bool) []byte {
	kind := "MULTI_CPU"
	if cuda {
		kind = "MULTI_GPU"
	}
	return fmt.Appendf(nil, "compute_environment: LOCAL_MACHINE\ndistributed_type: %s\nuse_cpu: %v\nnum_machines: 1\n"+
		"num_processes: %d\nmachine_rank: 0\nmixed_precision: 'no'\nmain_training_function: main\n", kind, !cuda, l.replicas)
}

// environment is this process's, and what keeps Python off the network and out of
// the user's folders.
func environment(dir string, threads int) []string {
	path := dir
	if old := os.Getenv("PYTHONPATH"); old != "" {
		path += string(os.PathListSeparator) + old
	}
	env := append(os.Environ(), "PYTHONPATH="+path, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "PYTHONUTF8=1",
		"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1")
	if threads > 0 {
		env = append(env, "OMP_NUM_THREADS="+strconv.Itoa(threads))
	}
	if os.Getenv("OMP_WAIT_POLICY") == "" {
		// Threads that spin while others wait for a core make a small model's steps
		// ten times as long on a busy machine.
		env = append(env, "OMP_WAIT_POLICY=PASSIVE")
	}
	return env
}
