package pt2_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/pt2"
)

// versions are those torches whose archives differ in their layout, oldest
// first: one JSON file and pickles beside it; the same in folders, in a folder
// named after the file; tensors as raw bytes with a list of them. model.pt2 of
// the fixtures is from 2.15. Written by interop/pt2.py --small, run by that torch
// and by transformers 4.57, 4.57 and 5.3.
var versions = []string{"2.5", "2.8", "2.10"}

// TestVersions: archives of older torches give the graph that those of the
// newest do, up to how it is written down.
func TestVersions(t *testing.T) {
	for _, name := range []string{"llama", "t5"} {
		p, ck := open(t, name)
		newest, _, err := p.Graph(ck.Shapes(), pt2.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := groups(t, newest)
		for _, v := range versions {
			t.Run(name+"-"+v, func(t *testing.T) {
				p := openArchive(t, filepath.Join("testdata", name, "torch-"+v+".pt2"))
				if !strings.HasPrefix(p.Torch, v+".") {
					t.Errorf("torch %s", p.Torch)
				}
				g, info, err := p.Graph(ck.Shapes(), pt2.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if len(info.Opaque) != 0 || len(info.Unread) != 0 || info.Layers != 2 {
					t.Errorf("%+v", info)
				}
				sameAnswers(t, name, g, ck)
				if got := groups(t, g); !maps.Equal(got, want) {
					t.Errorf("groups %v, want %v", got, want)
				}
			})
		}
	}
}

// groups are the sizes of a graph's groups by their id.
func groups(t *testing.T, g *graph.Graph) map[string]int {
	t.Helper()
	sol, err := gauge.Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, x := range sol.Groups {
		out[x.ID] = x.Classes
	}
	return out
}
