package trl

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/python"
)

// Options of an engine.
type Options struct {
	// Python is the interpreter; where it is empty, $NEUROSEAL_PYTHON, an
	// activated or a local virtual environment (.venv), or python3.
	Python string
	// Threads of a trial on the CPU; 0 leaves it to torch.
	Threads int
	// Replicas are the processes that share a trial's batch (accelerate); 0 means
	// one for every GPU, as far as the batch can be divided.
	Replicas int
	// Log receives what Python and its libraries print; nil drops it, and an
	// error still quotes the end of it.
	Log io.Writer
	// Version of this program, for the record.
	Version string

	texts func(context.Context, arena.Task) (target, retained text, err error)
}

// Engine implements arena.Engine. Its methods may be called from several
// goroutines at once.
type Engine struct {
	o     Options
	exe   string // the interpreter
	setup sync.Mutex
	stack *stack // nil until it was asked
	texts texts
}

// New returns an engine, or an error with a hint where there is no interpreter. It
// starts nothing.
func New(o Options) (*Engine, error) {
	exe, err := interpreter(o.Python)
	if err != nil {
		return nil, err
	}
	e := &Engine{o: o, exe: exe}
	if e.o.texts == nil {
		e.o.texts = e.texts.open
	}
	return e, nil
}

// Name is "trl".
func (e *Engine) Name() string { return arena.TRLEngine }

// Ready says whether all packages are there; the error's hint is what to install.
func (e *Engine) Ready(ctx context.Context) error {
	_, err := e.find(ctx)
	return err
}

// find looks for the Python stack once.
func (e *Engine) find(ctx context.Context) (*stack, error) {
	e.setup.Lock()
	defer e.setup.Unlock()
	if e.stack == nil {
		s, err := findStack(ctx, e.exe)
		if err != nil {
			return nil, err
		}
		e.stack = s
	}
	return e.stack, nil
}

var (
	optimizers = []string{"adamw", "sgd", "lion", "adafactor", "muon", "lamb"}
	ownParts   = []string{"full", "tensors", "norms", "embeddings", "head"}
)

// Check says whether the recipe applies to this engine. Whether it applies to the
// model, PEFT knows: Run may still return a result that says "impossible".
func (e *Engine) Check(ctx context.Context, t arena.Task) error {
	r := &t.Trial.Recipe
	no := func(format string, args ...any) error { return fault.New(fault.Unsupported, format, args...) }
	switch {
	case !r.Runs(arena.TRLEngine):
		return no("recipe %s is not for the TRL engine", r.Name)
	case r.Method != "" && r.Method != arena.Train:
		return no("method %s: the embedded engine carries weights over, the TRL engine only trains", r.Method)
	case r.Train.Kind == "residual":
		return no("bottleneck adapters in the residual stream: only the embedded engine has them")
	case !slices.Contains(optimizers, r.Optimizer.Method):
		return no("optimizer %s: only the embedded engine has it", r.Optimizer.Method)
	case r.Base != "" && slices.Contains(ownParts, r.Train.Kind):
		return no("training %s on a base stored as %s: only adapters can be trained on that", r.Train.Kind, r.Base)
	}
	return e.Ready(ctx)
}

// Run trains in a process of its own.
func (e *Engine) Run(ctx context.Context, t arena.Task, report func(step int, loss float64)) (*arena.Result, error) {
	return e.run(ctx, t, report, grace)
}

func (e *Engine) run(ctx context.Context, t arena.Task, report func(int, float64), grace time.Duration) (*arena.Result, error) {
	s, err := e.find(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "neuroseal-trl-")
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "creating a folder for the trial")
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, python.Files()); err != nil {
		return nil, fault.Wrap(fault.General, err, "writing the Python side of the TRL engine")
	}
	target, retained, err := e.o.texts(ctx, t)
	if err != nil {
		return nil, err
	}
	job := &job{dir: dir, task: t, stack: s, o: e.o, report: report, grace: grace}
	if err := job.write(target, retained); err != nil {
		return nil, err
	}
	need, err := e.deviceMemory(t)
	if err != nil {
		return nil, err
	}
	if err := job.run(ctx, plan(s.GPUs, t.Trial.Batch, need, e.o.Replicas)); err != nil {
		return nil, err
	}
	r, err := readResult(filepath.Join(dir, resultFile), t.Trial)
	if err == nil && e.o.Version != "" {
		r.Versions["neuroseal"] = e.o.Version
	}
	return r, err
}

var _ arena.Engine = (*Engine)(nil)
