package pt2

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"fmt"
	"path/filepath"
	"sort"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/safetensors"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

func TestZZ(t *testing.T) {
	dir := os.Getenv("PT2_OUT")
	if dir == "" {
		t.Skip()
	}
	fs, _ := filepath.Glob(dir + "/" + os.Getenv("PT2_FAM") + "*/model.pt2")
	sort.Strings(fs)
	for _, f := range fs {
		name := filepath.Base(filepath.Dir(f))
		p, err := Open(f)
		if err != nil {
			fmt.Println("@@", name, "OPEN", err)
			continue
		}
		h, err := safetensors.ParseFile(filepath.Dir(f) + "/model.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		shapes := map[string][]int{}
		for _, x := range h.Tensors {
			shapes[x.Name] = x.Shape
		}
		g, info, err := p.Graph(shapes, Options{})
		if err != nil {
			fmt.Println("@@", name, "GRAPH", err)
			p.Close()
			continue
		}
		free := -1
		func() {
			defer func() {
				if r := recover(); r != nil {
					fmt.Println("panic in solve", r)
				}
			}()
			if sol, err := gauge.Solve(g); err != nil {
				fmt.Println("@@", name, "SOLVE", err)
			} else {
				free = sol.FreeDims
			}
		}()
		diff := run(t, filepath.Dir(f), g)
		fmt.Println("@@", name, diff, "ok nodes", len(g.Nodes), "free", free, "opaque", info.Opaque, "unread", info.Unread, "buffers", info.Buffers, "vocab", info.Vocab, "layers", info.Layers)
		p.Close()
	}
}

func run(t *testing.T, dir string, g *graph.Graph) string {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		return err.Error()
	}
	defer ck.Close()
	var exp struct {
		Inputs  map[string][2]json.RawMessage
		Outputs [][2]json.RawMessage
	}
	b, _ := os.ReadFile(dir + "/expected.json")
	if err := json.Unmarshal(b, &exp); err != nil {
		return err.Error()
	}
	opt := probe.Options{Inputs: map[string][]float32{}}
	for k, v := range exp.Inputs {
		var f []float32
		json.Unmarshal(v[1], &f)
		if g.Tokens == len(f) && (k == "input_ids") {
			for _, x := range f {
				opt.Tokens = append(opt.Tokens, int(x))
			}
			continue
		}
		opt.Inputs[k] = f
	}
	outs, err := probe.Run(context.Background(), g, ck, opt)
	if err != nil {
		return "RUN " + err.Error()
	}
	s := ""
	for i, o := range outs {
		var f []float32
		json.Unmarshal(exp.Outputs[i][1], &f)
		if len(f) != len(o) {
			s += fmt.Sprintf("LEN %d %d ", len(o), len(f))
			continue
		}
		d, m := 0.0, 0.0
		for j := range f {
			d = math.Max(d, math.Abs(float64(f[j]-o[j])))
			if math.IsNaN(float64(o[j])) { d = math.Inf(1) }
			m = math.Max(m, math.Abs(float64(f[j])))
		}
		s += fmt.Sprintf("%.1e/%.1e ", d, m)
		if !(d < 1e-4*math.Max(1,m)) {
			s += "BAD "
		}
	}
	return s
}
