package embedded_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/informed"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func demoGraph(t *testing.T) *graph.Graph {
	t.Helper()
	const dir = "../../internal/demo/model"
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	shapes := map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := arch.Build(config, shapes, arch.Options{Tokens: 8})
	if err != nil {
		t.Fatal(err)
	}
	return m.Graph
}

// TestOptimizerNames: a table may name the optimizers that package arena/train
// has, and no others.
func TestOptimizerNames(t *testing.T) {
	g := demoGraph(t)
	try := func(name string) error {
		_, err := train.Estimate(g, train.Options{Batch: 1, Trainable: train.Trainable{Kind: train.Norms}},
			train.TrainOptions{Optimizer: train.Optimizer{Method: train.Method(name)}})
		return err
	}
	for _, name := range arena.Optimizers() {
		if err := try(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	known, ok := strings.CutPrefix(fault.HintOf(try("none of them")), "known: ")
	if !ok {
		t.Fatal("package arena/train does not list its optimizers")
	}
	if a, b := slices.Sorted(slices.Values(arena.Optimizers())), slices.Sorted(slices.Values(strings.Split(known, ", "))); !slices.Equal(a, b) {
		t.Errorf("a table may name %v, package arena/train knows %v", a, b)
	}
}

// TestPreparationNames: likewise with package arena/informed.
func TestPreparationNames(t *testing.T) {
	var known []string
	for _, p := range informed.Preparations() {
		known = append(known, p.Name)
	}
	if a, b := slices.Sorted(slices.Values(arena.Preparations())), slices.Sorted(slices.Values(known)); !slices.Equal(a, b) {
		t.Errorf("a table may name %v, package arena/informed knows %v", a, b)
	}
}
