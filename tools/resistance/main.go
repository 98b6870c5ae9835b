// Command resistance measures what seals are worth on the models that the
// project trains itself, and writes docs/resistance.md from what it measured.
//
//	go run ./tools/resistance                 # everything, some hours on two cores
//	go run ./tools/resistance -models demo    # one model
//	go run ./tools/resistance -only-write     # from what is there
//
// It can be stopped at any time and goes on where it stopped.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/attack"
	"github.com/neuroseal/neuroseal/arena/embedded"
)

// model is a model to seal and attack.
type model struct {
	name, path, about string
}

// models are those that the repository holds. The first one, and profile max on
// it, are looked at most closely: that is where a break would say most.
var models = []model{
	{"demo", "internal/demo/model", "Llama, untied head"},
	{"llama-tied", "arena/specimen/models/llama-tied", "Llama, tied head"},
	{deep, "arena/specimen/models/llama-deep", "Llama, 16 layers of 64 channels"},
	{"qwen3", "arena/specimen/models/qwen3", "Qwen3, q/k norms"},
	{"mixtral", "arena/specimen/models/mixtral", "Mixtral, 4 experts"},
}

// deep is the model of many layers: of interest is what tells them apart.
const deep = "llama-deep"

// suites are what is tried on a model, in order of interest: the page shows the
// last one that is complete.
func suites(m model, seal string) []string {
	switch {
	case m.name == deep && (seal == "max" || seal == "strong"):
		return []string{"layers"}
	case m.name == deep:
		return nil
	case seal == "max":
		return []string{"core", "wide"}
	case m.name == models[0].name || seal == "strong" || seal == "portable":
		return []string{"core"}
	}
	return nil
}

type options struct {
	out, doc      string
	models, seals []string
	suites        []string
	study         bool
	parallel      int
}

func main() {
	var o options
	names, seals := flag.String("models", "all", "comma-separated names, or all"), flag.String("seals", "all", "comma-separated names, or all")
	suites := flag.String("suites", "all", "comma-separated names, or all")
	flag.StringVar(&o.out, "out", "bench-out/resistance", "folder of the runs")
	flag.StringVar(&o.doc, "doc", "docs/resistance.md", "page to write; empty: none")
	flag.BoolVar(&o.study, "study", true, "also measure what each effect of a seal contributes")
	flag.IntVar(&o.parallel, "parallel", runtime.GOMAXPROCS(0), "trials at a time")
	only := flag.Bool("only-write", false, "measure nothing, write the page")
	text := flag.String("key", "neuroseal resistance", "the seals' key is the SHA-256 of this text; another one wants another -out")
	flag.Parse()
	key = sha256.Sum256([]byte(*text))
	o.models, o.seals = strings.Split(*names, ","), strings.Split(*seals, ",")
	o.suites = strings.Split(*suites, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := o.measure(ctx, *only)
	if err == nil && o.doc != "" {
		err = o.write()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "resistance:", err)
		os.Exit(1)
	}
}

func wanted(names []string, name string) bool {
	return slices.Contains(names, "all") || slices.Contains(names, name)
}

func (o *options) measure(ctx context.Context, only bool) error {
	if only {
		return nil
	}
	for _, m := range models {
		if !wanted(o.models, m.name) {
			continue
		}
		for _, s := range slices.Backward(seals) {
			for _, suite := range suites(m, s.name) {
				if !wanted(o.seals, s.name) || !wanted(o.suites, suite) {
					continue
				}
				if err := o.one(ctx, m, s, arena.Builtin(), suite); err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, s.name, err)
				}
			}
		}
	}
	if !o.study || !wanted(o.models, models[0].name) {
		return nil
	}
	for _, s := range effects {
		if err := o.one(ctx, models[0], s, arena.Builtin(), "few"); err != nil {
			return fmt.Errorf("study, %s: %w", s.name, err)
		}
	}
	return nil
}

// one seals a model, attacks it and keeps the summary.
func (o *options) one(ctx context.Context, m model, s sealing, table *arena.Table, suiteName string) error {
	sealed := filepath.Join(o.out, "seals", m.name+"-"+s.name)
	if _, err := os.Stat(filepath.Join(sealed, "config.json")); err != nil {
		if err := s.make(ctx, m.path, sealed); err != nil {
			return err
		}
	}
	var suite *arena.Suite
	for i := range table.Suites {
		if table.Suites[i].Name == suiteName {
			suite = &table.Suites[i]
		}
	}
	if suite == nil {
		return fmt.Errorf("no suite %s", suiteName)
	}
	fmt.Fprintf(os.Stderr, "%s, %s, suite %s\n", m.name, s.name, suiteName)
	engine := embedded.New(1, neuroseal.Version)
	sum, err := attack.Run(ctx, attack.Options{
		Model: sealed, Against: m.path, Dir: filepath.Join(o.out, "runs", m.name), Table: table, Suite: suite,
		Engine: engine.Name(), Execute: arena.Local(engine, o.parallel, arena.FreeMemory(), nil),
		Planned: func(done, more int) { fmt.Fprintf(os.Stderr, "  %d trials done, %d to run\n", done, more) },
	})
	if err != nil {
		return err
	}
	sum.Sealed.Seal = s.name
	return save(filepath.Join(o.out, "summaries", suiteName+"-"+m.name+"-"+s.name+".json"), sum)
}
