//go:build interop

package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/pt2"
)

// exported is what became of one family.
type exported struct {
	Family  string         `json:"family"`
	Known   int            `json:"known_free_dims,omitempty"` // from elsewhere; 0: nobody said
	Free    int            `json:"free_dims"`
	Nodes   int            `json:"nodes"`
	MaxDiff float64        `json:"max_diff"`
	Opaque  map[string]int `json:"opaque,omitempty"`
	Unread  []string       `json:"unread,omitempty"`
	Refused string         `json:"refused,omitempty"`
}

// TestExportedPrograms: every family that can be exported is translated to a
// graph that computes what transformers does, and whose free dimensions are
// those known. PT2_REPORT names a file for the table; PT2_MODELS a folder that
// pt2.py has already filled.
func TestExportedPrograms(t *testing.T) {
	s := need(t)
	dir := os.Getenv("PT2_MODELS")
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "pt2")
		if out, err := exec.Command(s.python, "-B", "pt2.py", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	known := s.knownFreeDims(t)
	folders, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var rows []exported
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			r := exported{Family: f.Name(), Known: known[f.Name()]}
			if err := r.judge(filepath.Join(dir, f.Name())); err != nil {
				r.Refused = err.Error()
			}
			rows = append(rows, r)
			switch {
			case r.Known > 0 && r.Refused != "":
				t.Error(r.Refused)
			case r.Known > 0 && r.Known != r.Free:
				t.Errorf("%d free dimensions, known are %d", r.Free, r.Known)
			case r.Refused == "" && !(r.MaxDiff <= 1e-4):
				t.Errorf("differs from transformers by %g of the largest output", r.MaxDiff)
			}
		})
	}
	if path := os.Getenv("PT2_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(exportedTable(rows)), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func (s *shared) knownFreeDims(t *testing.T) map[string]int {
	t.Helper()
	out, err := exec.Command(s.python, "-c", "import json, pt2_families; print(json.dumps(pt2_families.FREE_DIMS))").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]int{}
	if err := json.Unmarshal(out, &known); err != nil {
		t.Fatal(err)
	}
	return known
}

// judge fills in what the graph of one folder says; an error is the reason why
// there is none.
func (r *exported) judge(dir string) error {
	if why, err := os.ReadFile(filepath.Join(dir, "refused.txt")); err == nil {
		return fmt.Errorf("%s", strings.TrimSpace(string(why)))
	}
	p, err := pt2.Open(filepath.Join(dir, "model.pt2"))
	if err != nil {
		return err
	}
	defer p.Close()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer ck.Close()
	g, info, err := p.Graph(ck.Shapes(), pt2.Options{})
	if err != nil {
		return err
	}
	sol, err := gauge.Solve(g)
	if err != nil {
		return err
	}
	r.Free, r.Nodes, r.Opaque, r.Unread = sol.FreeDims, len(g.Nodes), info.Opaque, info.Unread
	r.MaxDiff, err = answers(dir, g, ck)
	return err
}

// answers returns the largest difference from transformers' outputs, as a part
// of the largest output or of 1.
func answers(dir string, g *graph.Graph, ck *checkpoint.Checkpoint) (float64, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		return 0, err
	}
	type tensor struct {
		Data []float32 `json:"data"`
	}
	var want struct {
		Inputs  map[string]tensor `json:"inputs"`
		Outputs []tensor          `json:"outputs"`
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		return 0, err
	}
	opt := probe.Options{Inputs: map[string][]float32{}}
	for name, v := range want.Inputs {
		if name != "input_ids" {
			opt.Inputs[name] = v.Data
			continue
		}
		for _, x := range v.Data {
			opt.Tokens = append(opt.Tokens, int(x))
		}
	}
	outs, err := probe.Run(context.Background(), g, ck, opt)
	if err != nil {
		return 0, err
	}
	if len(outs) != len(want.Outputs) {
		return 0, fmt.Errorf("%d outputs, transformers has %d", len(outs), len(want.Outputs))
	}
	worst, largest := 0.0, 1.0
	for i, o := range outs {
		if len(o) != len(want.Outputs[i].Data) {
			return 0, fmt.Errorf("output %d has %d values, transformers' has %d", i, len(o), len(want.Outputs[i].Data))
		}
		for j, v := range o {
			w := float64(want.Outputs[i].Data[j])
			largest = math.Max(largest, math.Abs(w))
			// A difference that is no number must not be lost in a comparison.
			if d := math.Abs(float64(v) - w); !(d <= worst) {
				worst = d
			}
		}
	}
	return worst / largest, nil
}

// exportedTable is a Markdown table.
func exportedTable(rows []exported) string {
	var b strings.Builder
	b.WriteString("| Family | Operations | Free dimensions | Known | Difference | Opaque | Unread | Refused |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		opaque := slices.Sorted(maps.Keys(r.Opaque))
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %.0e | %s | %s | %s |\n", r.Family, r.Nodes, r.Free, r.Known, r.MaxDiff,
			strings.Join(opaque, ", "), strings.Join(r.Unread, ", "), r.Refused)
	}
	return b.String()
}
