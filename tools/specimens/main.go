// Command specimens makes the models that the arena attacks.
//
//	go run ./tools/specimens train [-out FOLDER] [-workers N] [NAME …]
//	go run ./tools/specimens fine-tune [-domain logs] [-steps N] [-lr RATE] [-seed N] [-workers N] SOURCE DST
//	go run ./tools/specimens random [-seed N] SOURCE DST
//
// train writes FOLDER/NAME (arena/specimen/models in this repository by
// default) for every known specimen, or those named. Its figures are in each
// folder's train.json; speed goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/neuroseal/neuroseal/arena/specimen"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "specimens: error:", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "specimens: hint:", hint)
		}
		os.Exit(int(fault.KindOf(err)))
	}
}

func run(ctx context.Context, args []string) error {
	verbs := map[string]func(context.Context, []string) error{"train": trainAll, "fine-tune": fineTune, "random": random}
	if len(args) == 0 || verbs[args[0]] == nil {
		return fault.New(fault.Usage, "no command").WithHint("specimens train | fine-tune | random")
	}
	return verbs[args[0]](ctx, args[1:])
}

func trainAll(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("train", flag.ContinueOnError)
	out := flags.String("out", filepath.Dir(specimen.Dir(".", "any")), "where the folders are made")
	workers := flags.Int("workers", 1, "processors; the result does not depend on them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var specs []specimen.Spec
	for _, name := range flags.Args() {
		s, err := specimen.Find(name)
		if err != nil {
			return err
		}
		specs = append(specs, s)
	}
	if len(specs) == 0 {
		specs = specimen.Known()
	}
	for _, s := range specs {
		s.Training.Workers = *workers
		fmt.Fprintln(os.Stderr, s.Name)
		if err := specimen.Train(ctx, s, filepath.Join(*out, s.Name), printer(s.Training)); err != nil {
			return err
		}
	}
	return nil
}

func fineTune(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fine-tune", flag.ContinueOnError)
	domain := flags.String("domain", "logs", "what text to train on")
	def := specimen.Tuning("")
	steps := flags.Int("steps", def.Steps, "steps")
	lr := flags.Float64("lr", def.LR, "learning rate")
	seed := flags.Uint64("seed", def.Seed, "of the text's order")
	workers := flags.Int("workers", 1, "processors; the result does not depend on them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fault.New(fault.Usage, "fine-tune needs SOURCE and DST")
	}
	t := specimen.Tuning(*domain)
	t.Steps, t.LR, t.Seed, t.Workers = *steps, *lr, *seed, *workers
	return specimen.FineTune(ctx, flags.Arg(0), flags.Arg(1), t, printer(t))
}

func random(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("random", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "same seed, same weights")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fault.New(fault.Usage, "random needs SOURCE and DST")
	}
	return specimen.Random(ctx, flags.Arg(0), flags.Arg(1), *seed)
}

// printer prints the mean loss and the speed, some twenty times a training.
func printer(t specimen.Training) func(specimen.Step) {
	began, sum, n := time.Now(), 0.0, 0
	every := max(1, t.Steps/20)
	return func(s specimen.Step) {
		sum, n = sum+s.Loss, n+1
		if s.Number%every != 0 && s.Number != s.Of {
			return
		}
		took := time.Since(began).Seconds()
		fmt.Fprintf(os.Stderr, "step %5d of %d  training loss %.4f nats/byte  %.0f s  %.0f bytes/s\n",
			s.Number, s.Of, sum/float64(n), took, float64(s.Number*t.Batch*t.Window)/took)
		sum, n = 0, 0
	}
}
