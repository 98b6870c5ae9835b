package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/attack"
	"github.com/neuroseal/neuroseal/arena/embedded"
	"github.com/neuroseal/neuroseal/arena/trl"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
)

// attackOptions are the options of attack.
type attackOptions struct {
	Model, Out    string
	Against, Base string
	Suite         string
	Data, Retain  string
	Engine        string
	Python        string
	Parallel      int
	Threads       int
	PrintTable    bool
	Where         whereOptions
	Hub           hubOptions
}

func attackCommand(u *ui.UI) *cobra.Command {
	o := attackOptions{}
	cmd := &cobra.Command{
		Use:   "attack MODEL OUT",
		Short: "Fine-tune a sealed model in many ways, and say what each attack learned",
		Long: `Attack the checkpoint MODEL with a suite of recipes: methods off the shelf that
train weights (class A, which a seal can hold), methods that act on activations
(class B, which no seal can hold) and informed ones that re-balance the weights
first (class C, which no seal can hold). Each recipe is tried at many learning
rates on the sealed and on the unsealed model; the attacker's best runs count.

OUT is a run folder: trials.jsonl has every trial, report.html shows them,
card.json and card.md say what held. An interrupted attack goes on when the same
command is given again: finished trials are kept. With --suite seed and an OUT
that ends in .json, MODEL alone is trained once and OUT becomes the list of its
losses, as the original tool wrote it.

The unsealed model is --against; without it, MODEL re-balanced without a key.

` + sourceHelp,
		Example: `  neuroseal attack ./sealed ./run --against ./model --suite quick
  neuroseal attack org/name-sealed ./run --against org/name
  neuroseal attack ./sealed losses.json --suite seed
  neuroseal attack ./sealed ./run --against ./model --suite standard --data ./code.jsonl
  neuroseal attack --print-table > my-table.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.PrintTable {
				return operands()(cmd, args)
			}
			return operands("MODEL", "OUT")(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Against, "against", "", "the original checkpoint, `ORIGINAL`")
	f.StringVar(&o.Base, "base", "", "the public model that MODEL was made from, `BASE`; default: --against")
	f.StringVar(&o.Suite, "suite", "quick", "recipes and budget: seed, quick, standard, core, wide, full; or a table of your own in `FILE`, or FILE:SUITE")
	f.StringVar(&o.Data, "data", "", "text to teach: a text, .jsonl or .parquet `FILE`, or a dataset's folder; default: generated log lines")
	f.StringVar(&o.Retain, "retain", "", "text that the model should still know, likewise; default: generated tales")
	f.StringVar(&o.Engine, "engine", arena.EmbeddedEngine, "`NAME` of what trains: embedded, or trl (transformers, PEFT and TRL)")
	f.StringVar(&o.Python, "python", "", "`PATH` of the Python for --engine trl; default: NEUROSEAL_PYTHON, then python3")
	f.IntVar(&o.Parallel, "parallel", 0, "trials at a time; default: one per processor, or one with trl")
	f.IntVar(&o.Threads, "threads", 1, "threads of each trial")
	f.BoolVar(&o.PrintTable, "print-table", false, "print the built-in table of recipes, to start your own from")
	o.Where.register(f)
	o.Hub.registerToken(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.PrintTable {
			_, err := cmd.OutOrStdout().Write(arena.BuiltinYAML())
			return err
		}
		o.Model, o.Out = args[0], args[1]
		return runAttack(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func runAttack(ctx context.Context, u *ui.UI, o attackOptions) error {
	table, suite, err := arena.Load(o.Suite)
	if err != nil {
		return err
	}
	if err := o.openSources(ctx, u); err != nil {
		return err
	}
	if strings.HasSuffix(o.Out, ".json") {
		return attackOnce(ctx, u, o, table, suite)
	}
	sum, err := o.run(ctx, u, table, suite)
	if err != nil {
		// What is finished is worth a look, if there is anything.
		if _, there := arena.ReadMeta(o.Out); there == nil {
			if drawn := writeReports(o.Out, []string{o.Out}); drawn == nil {
				u.Note("what is finished is in %s", filepath.Join(o.Out, reportHTML))
			}
		}
		return err
	}
	if err := writeReports(o.Out, []string{o.Out}); err != nil {
		return err
	}
	return u.Result(sum, filepath.Join(o.Out, reportHTML), func(w io.Writer) {
		writeSummary(w, sum)
		fmt.Fprintf(w, "\nReport: %s\n", filepath.Join(o.Out, reportHTML))
	})
}

// run is the attack in a run folder.
func (o *attackOptions) run(ctx context.Context, u *ui.UI, table *arena.Table, suite *arena.Suite) (*arena.Summary, error) {
	engine, err := o.engine()
	if err != nil {
		return nil, err
	}
	if o.Parallel == 0 {
		o.Parallel = 1
		if o.Engine == arena.EmbeddedEngine {
			o.Parallel = max(1, runtime.GOMAXPROCS(0)/max(1, o.Threads))
		}
	}
	p := newTrialProgress(u)
	execute, err := o.Where.executor(o, engine, p)
	if err != nil {
		return nil, err
	}
	return attack.Run(ctx, attack.Options{
		Model: o.Model, Against: o.Against, Base: o.Base, Dir: o.Out, Table: table, Suite: suite,
		Target: o.Data, Retained: o.Retain, Engine: engine.Name(), Execute: execute,
		Notice: u.Note, Planned: p.planned,
	})
}

// openSources makes the models paths here.
func (o *attackOptions) openSources(ctx context.Context, u *ui.UI) (err error) {
	p := newStages(u)
	s := &sources{u: u, hub: &o.Hub, progress: p}
	for _, model := range []*string{&o.Model, &o.Against, &o.Base} {
		if *model, err = s.local(ctx, *model, mustBeSupported("", true)); err != nil {
			break
		}
	}
	p.end(err == nil)
	return err
}

func (o *attackOptions) engine() (arena.Engine, error) {
	switch o.Engine {
	case arena.EmbeddedEngine:
		return embedded.New(o.Threads, neuroseal.Version), nil
	case arena.TRLEngine:
		return trl.New(trl.Options{Python: o.Python, Threads: o.Threads, Version: neuroseal.Version})
	}
	return nil, fault.New(fault.Usage, "unknown engine %q", o.Engine).WithHint("known: embedded, trl")
}

// attackOnce trains the model once and writes the list of its losses.
func attackOnce(ctx context.Context, u *ui.UI, o attackOptions, table *arena.Table, suite *arena.Suite) error {
	if o.Where.On != "local" {
		return fault.New(fault.Usage, "an OUT that ends in .json is made here: --on %s has no place there", o.Where.On).
			WithHint("name a folder as OUT")
	}
	if o.Against != "" || o.Base != "" {
		return fault.New(fault.Usage, "an OUT that ends in .json is one model's losses: --against has no place there").
			WithHint("name a folder as OUT to compare models")
	}
	recipes := table.Select(suite)
	if len(recipes) != 1 || len(recipes[0].Rates.Only) != 1 || suite.Seeds != 1 {
		return fault.New(fault.Usage, "an OUT that ends in .json holds one training's losses; suite %s has more", suite.Name).
			WithHint("use --suite seed, or name a folder as OUT")
	}
	if o.Threads == 1 {
		o.Threads = runtime.GOMAXPROCS(0) // there is nothing else to do at the same time
	}
	engine, err := o.engine()
	if err != nil {
		return err
	}
	res, err := attack.Once(ctx, o.Model, recipes[0], suite, o.Data, o.Retain, engine)
	if err != nil {
		return err
	}
	if res.Status == arena.Impossible {
		return fault.New(fault.Unsupported, "recipe %s: %s", recipes[0].Name, res.Reason)
	}
	raw := arena.LossList(res)
	if err := writeOut(o.Out, raw); err != nil {
		return err
	}
	return u.Result(res, o.Out, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d steps, %s in %s; losses in %s\n", recipes[0].Name, res.Steps, res.Status,
			ui.Duration(time.Duration(res.Seconds*float64(time.Second))), o.Out)
	})
}

// trialCommand runs one trial: what a cluster's jobs call.
func trialCommand(u *ui.UI) *cobra.Command {
	o := attackOptions{}
	cmd := &cobra.Command{
		Use:    "trial TASK RESULT",
		Short:  "Run one trial of an attack (called by --on ray and --on slurm)",
		Hidden: true,
		Long: `Run the trial that the file TASK describes, or the environment variable
` + taskVariable + ` if TASK is "-", and write its result to RESULT.`,
		Example: `  neuroseal trial task.json result.json --threads 4`,
		Args:    operands("TASK", "RESULT"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Engine, "engine", arena.EmbeddedEngine, "engine")
	f.StringVar(&o.Python, "python", "", "the Python for --engine trl")
	f.IntVar(&o.Threads, "threads", 1, "threads")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runTrial(cmd.Context(), u, &o, args[0], args[1])
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

// taskVariable carries a task to a job whose machine may not see our files.
const taskVariable = "NEUROSEAL_TASK"

func runTrial(ctx context.Context, u *ui.UI, o *attackOptions, task, result string) error {
	raw := []byte(os.Getenv(taskVariable))
	if task != "-" {
		var err error
		if raw, err = os.ReadFile(task); err != nil {
			return fault.Wrap(fault.Usage, err, "reading the task")
		}
	}
	engine, err := o.engine()
	if err != nil {
		return err
	}
	res, err := arena.RunTask(ctx, engine, raw)
	if err != nil {
		return err
	}
	if err := writeJSON(result, res); err != nil {
		return err
	}
	return u.Result(res, result, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", res.ID, res.Status) })
}
