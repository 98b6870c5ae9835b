package diagram_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/diagram"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/safetensors"
)

func network(t *testing.T, name string) (*graph.Graph, *gauge.Solution) {
	t.Helper()
	dir := filepath.Join("../arch/testdata", name)
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.ParseFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range h.Tensors {
		shapes[x.Name] = x.Shape
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: 3})
	if err != nil {
		t.Fatal(err)
	}
	sol, err := gauge.Solve(m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	return m.Graph, sol
}

// TestLayer: a block's picture shows its weights and its groups, is well-formed,
// and names nothing of another block but what it reads.
func TestLayer(t *testing.T) {
	g, sol := network(t, "llama")
	d, err := diagram.New(g, sol, 1, `a "title" <&>`)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, x := range d.Groups {
		kinds = append(kinds, string(x.Kind))
		if x.Layer == 0 {
			t.Errorf("group %s of layer 0 in a picture of layer 1", x.ID)
		}
	}
	for _, k := range []gauge.Kind{gauge.QK, gauge.VO, gauge.FFN, gauge.Norm, gauge.Residual} {
		if !strings.Contains(strings.Join(kinds, " "), string(k)) {
			t.Errorf("no group of kind %s among %v", k, kinds)
		}
	}
	svg := d.String()
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
	var dot bytes.Buffer
	if err := d.DOT(&dot); err != nil {
		t.Fatal(err)
	}
	for name := range g.Weights() {
		in := strings.HasPrefix(name, "model.layers.1.")
		short := name[strings.LastIndex(strings.TrimSuffix(strings.TrimSuffix(name, ".weight"), ".bias"), ".")+1:]
		if in && (!strings.Contains(svg, short) || !strings.Contains(dot.String(), short)) {
			t.Errorf("%s is missing", name)
		}
	}
	if strings.Contains(dot.String(), "lm_head") || !strings.Contains(dot.String(), `a \"title\" <&>`) {
		t.Error("a foreign weight, or a title that is not quoted")
	}
}

// TestExperts: of many experts two are drawn, and the picture says so.
func TestExperts(t *testing.T) {
	g, sol := network(t, "mixtral")
	d, err := diagram.New(g, sol, 0, "m")
	if err != nil {
		t.Fatal(err)
	}
	svg := d.String()
	if !strings.Contains(svg, "1.w2") || strings.Contains(svg, "2.w2") || strings.Contains(svg, "3.w1") || d.Note != "2 of 4 experts are drawn" {
		t.Errorf("experts: note %q", d.Note)
	}
	if got := diagram.Layers(g); len(got) != 3 || got[0] != -1 {
		t.Errorf("layers %v", got)
	}
	if _, err := diagram.New(g, sol, 2, ""); err == nil {
		t.Error("a layer that does not exist is drawn")
	}
}
