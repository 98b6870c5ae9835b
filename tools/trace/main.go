// Command trace measures how well neuroseal trace finds the copy from which a
// changed checkpoint was made, and writes docs/trace.md.
//
//	go run ./tools/trace                        # everything, about half an hour on two cores
//	go run ./tools/trace -models demo -doc ""   # one model, no page
//
// Everything is determined by the seeds in this program.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arena/specimen"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// model is a model to seal.
type model struct{ name, path, about string }

// models are those that the repository holds, and one that is trained here:
// blocks of Q4_K are 256 long, and the others are narrower.
var models = []model{
	{"demo", "internal/demo/model", "Llama, width 128"},
	{"llama-tied", "arena/specimen/models/llama-tied", "Llama, tied head, width 128"},
	{"qwen3", "arena/specimen/models/qwen3", "Qwen3, width 128"},
	{"mixtral", "arena/specimen/models/mixtral", "Mixtral, 4 experts, width 128"},
	{"wide", "", "Llama, width 256, briefly trained"},
}

var profiles = []seal.Profile{seal.Portable, seal.Strong, seal.Max}

// registered is how many copies stand in a registry, and tries which of them
// leak, one after the other.
const registered = 100

var tries = []int{17, 42, 99}

type options struct {
	work, doc string
	models    []string
	tries     int
}

func main() {
	var o options
	names := flag.String("models", "all", "comma-separated names, or all")
	flag.StringVar(&o.work, "out", "bench-out/trace", "folder for seals, registries and leaked checkpoints")
	flag.StringVar(&o.doc, "doc", "docs/trace.md", "page to write; empty: none")
	flag.IntVar(&o.tries, "tries", len(tries), "copies that leak, of each model and profile")
	flag.Parse()
	o.models = strings.Split(*names, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "trace: error:", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "trace: hint:", hint)
		}
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	if err := os.RemoveAll(o.work); err != nil {
		return err
	}
	var page page
	for _, m := range models {
		if !slices.Contains(o.models, "all") && !slices.Contains(o.models, m.name) {
			continue
		}
		if m.path == "" {
			m.path = filepath.Join(o.work, m.name)
			if err := specimen.Train(ctx, wide, m.path, nil); err != nil {
				return err
			}
		}
		for _, p := range profiles {
			s := &study{work: filepath.Join(o.work, m.name+"-"+string(p)), model: m, profile: p}
			fmt.Fprintf(os.Stderr, "%s, %s\n", m.name, p)
			for _, leaker := range tries[:o.tries] {
				if err := s.try(ctx, leaker); err != nil {
					return fmt.Errorf("%s, %s, copy %d: %w", m.name, p, leaker, err)
				}
			}
			page = append(page, s)
			s.print(os.Stderr)
			if err := os.RemoveAll(s.work); err != nil {
				return err
			}
		}
	}
	if o.doc == "" {
		return nil
	}
	return page.write(o.doc)
}

// wide is a Llama whose rows are whole blocks of 256.
var wide = specimen.Spec{
	Name: "wide", About: "a Llama of width 256",
	Network: specimen.Network{
		Type: "llama", Vocab: specimen.Bytes, Layers: 3, Hidden: 256, Heads: 8, KVHeads: 4, HeadDim: 32, Intermediate: 768, Theta: 10000, Eps: 1e-5, Positions: 512,
	},
	Training: specimen.Training{
		Text: specimen.Text{Domain: "tales", Seed: 3, Bytes: 200_000}, Window: 64, Batch: 8, Steps: 120, Warmup: 10, LR: 2e-3, Seed: 3, Workers: 2,
	},
}
