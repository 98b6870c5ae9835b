// Command trace measures how well neuroseal trace finds the copy from which a
// changed checkpoint was made, and writes docs/trace.md.
//
//	go run ./tools/trace                        # everything, about a quarter of an hour on two cores
//	go run ./tools/trace -models demo -doc ""   # one model, no page
//
// Everything is determined by the seeds in this program. It can be stopped at any
// time and goes on with the next seal; remove the folder of results to begin anew.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	{"wide", "", "Llama, width 256, briefly trained"},
	{"qwen3", "arena/specimen/models/qwen3", "Qwen3, width 128"},
	{"mixtral", "arena/specimen/models/mixtral", "Mixtral, 4 experts, width 128"},
	{"llama-tied", "arena/specimen/models/llama-tied", "Llama, tied head, width 128"},
}

var profiles = []seal.Profile{seal.Portable, seal.Strong, seal.Max}

// registered is how many copies stand in a registry, and leakers which of them
// leak: both of the first model with the least factors, one elsewhere.
const registered = 100

var leakers = []int{17, 99}

type options struct {
	work, doc string
	models    []string
	only      bool
}

func main() {
	var o options
	names := flag.String("models", "all", "comma-separated names, or all")
	flag.StringVar(&o.work, "out", "bench-out/trace", "folder for seals, registries and leaked checkpoints")
	flag.StringVar(&o.doc, "doc", "docs/trace.md", "page to write; empty: none")
	flag.BoolVar(&o.only, "only-write", false, "measure nothing, write the page of what is there")
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
	var page page
	for _, m := range models {
		if !slices.Contains(o.models, "all") && !slices.Contains(o.models, m.name) {
			continue
		}
		for _, s := range studies(m) {
			if err := o.one(ctx, s); err != nil {
				return fmt.Errorf("%s, %s: %w", m.name, s.name(), err)
			}
			if len(s.Rows) > 0 {
				page = append(page, s)
			}
		}
	}
	if o.doc == "" {
		return nil
	}
	return page.write(o.doc)
}

// one makes a study, or takes it from where an earlier run has left it.
func (o *options) one(ctx context.Context, s *study) error {
	kept := filepath.Join(o.work, s.model.name+"-"+strings.ReplaceAll(s.name(), ", ", "-")+".json")
	if data, err := os.ReadFile(kept); err == nil {
		return json.Unmarshal(data, &s.Rows)
	}
	if o.only {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%s, %s\n", s.model.name, s.name())
	if s.model.path == "" {
		s.model.path = filepath.Join(o.work, s.model.name)
		if _, err := os.Stat(filepath.Join(s.model.path, "config.json")); err != nil {
			if err := specimen.Train(ctx, wide, s.model.path, nil); err != nil {
				return err
			}
		}
	}
	s.work = filepath.Join(o.work, s.model.name+"-seals")
	if err := os.RemoveAll(s.work); err != nil {
		return err
	}
	tries := 1
	if s.model.name == models[0].name && s.profile == seal.Portable {
		tries = len(leakers)
	}
	for _, leaker := range leakers[:tries] {
		if err := s.try(ctx, leaker); err != nil {
			return fmt.Errorf("copy %d: %w", leaker, err)
		}
	}
	s.print(os.Stderr)
	data, err := json.MarshalIndent(s.Rows, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(kept, data, 0o666), os.RemoveAll(s.work))
}

// studies are the seals of a model: every profile, and on some models permuted
// ones with signs.
func studies(m model) (out []*study) {
	for _, p := range profiles {
		out = append(out, &study{model: m, profile: p})
		if p == seal.Max && (m.name == "demo" || m.name == "mixtral") {
			out = append(out, &study{model: m, profile: p, moved: true})
		}
	}
	return out
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
