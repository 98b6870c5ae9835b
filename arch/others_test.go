package arch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
)

// given is an input or an output in reference.json.
type given struct {
	Output string
	Shape  []int
	Values []float32
	IDs    []float32
}

// reference is what transformers computed.
type reference struct {
	Tokens []int
	Inputs map[string]given
	Shape  []int
	Logits []float32
	More   []given
}

type stored struct{ ck *checkpoint.Checkpoint }

func (s stored) Weight(name string) (dtype.DType, int64, bool) {
	t, ok := s.ck.Tensor(name)
	return t.DType, t.Size, ok
}

func (s stored) ReadWeight(name string, p []byte, off int64) error {
	t, ok := s.ck.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	return s.ck.ReadAt(t, p, off)
}

// others are the fixtures of networks that are no plain decoders, and the free
// dimensions that an independent automatic finder found for some of them.
var others = map[string]int{
	"mamba": 114, "mamba-untied": 0, "mamba-bare": 0, "falcon_mamba": 112, "falcon_mamba-tied": 0,
	"mamba2": 224, "mamba2-tied": 0, "mamba2-limited": 0, "jamba": 257, "jamba-bias": 0, "rwkv": 160, "rwkv-rescaled": 0,
	"bamba": 0, "bamba-bias": 0, "nemotron_h": 0, "nemotron_h-groups": 0,
	"modernbert": 0, "modernbert-bias": 0, "modernbert-bare": 0, "t5-untied": 0,
	"t5": 464, "t5v11": 464, "t5-encoder": 0, "t5-bare": 0, "bart": 0, "bart-bare": 0, "mbart": 0, "marian": 0,
	"whisper": 368, "whisper-bare": 0,
	"bert": 80, "bert-bare": 0, "bert-pretraining": 0, "bert-classifier": 0, "roberta": 0, "roberta-bare": 0, "distilbert": 0,
	"vit": 144, "vit-bare": 0, "dinov2": 192, "dinov2-swiglu": 0, "dinov2-classifier": 0,
	"clip": 254, "clip-eos": 0, "clip-text": 0, "clip-vision": 0, "clip-text-projection": 0, "siglip": 0,
}

// TestOthers compares every output of a network, not the first alone, with
// transformers', and its free dimensions with the finder's; and it counts the
// same ones whatever the number of tokens.
func TestOthers(t *testing.T) {
	for name, dims := range others {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(otherDir(), name)
			for _, conf := range []string{"config.json", "config-v4.json"} {
				raw, err := os.ReadFile(filepath.Join(dir, conf))
				if err != nil {
					t.Fatal(err)
				}
				other(t, dir, raw, dims)
			}
		})
	}
}

func otherDir() string {
	if d := os.Getenv("OTHERS"); d != "" {
		return d
	}
	return "testdata"
}

func other(t *testing.T, dir string, conf []byte, dims int) {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	data, err := os.ReadFile(filepath.Join(dir, "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref reference
	if err := json.Unmarshal(data, &ref); err != nil {
		t.Fatal(err)
	}
	m, err := arch.Build(conf, ck.Shapes(), arch.Options{Tokens: len(ref.Tokens)})
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string][]float32{}
	for name, x := range ref.Inputs {
		id, ok := m.Graph.Inputs()[name]
		if !ok {
			t.Fatalf("the network does not read %s", name)
		}
		if n := elements(m.Graph.Shape(id)); n != elements(x.Shape) {
			t.Fatalf("%s of shape %v, transformers' %v", name, m.Graph.Shape(id), x.Shape)
		}
		inputs[name] = slices.Concat(x.Values, x.IDs)
	}
	tokens := ref.Tokens[:m.Graph.Tokens] // none, where the network reads no text
	out, err := probe.Run(context.Background(), m.Graph, stored{ck}, probe.Options{Tokens: tokens, Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	want := append([]given{{Output: "the first output", Values: ref.Logits}}, ref.More...)
	if len(out) != len(want) {
		t.Fatalf("%d outputs, want %d", len(out), len(want))
	}
	for i, w := range want {
		if d := distance(out[i], w.Values); !(d <= 1e-4) {
			t.Errorf("%s differs from transformers' by %g of its largest element", w.Output, d)
		}
	}
	for _, n := range []int{1, 5, 12} {
		m, err := arch.Build(conf, ck.Shapes(), arch.Options{Tokens: n})
		if err != nil {
			t.Fatal(err)
		}
		sol, err := gauge.Solve(m.Graph)
		if err != nil {
			t.Fatal(err)
		}
		if dims == 0 {
			dims = sol.FreeDims
		}
		if sol.FreeDims != dims {
			t.Errorf("%d free dimensions with %d tokens, want %d", sol.FreeDims, n, dims)
		}
	}
	t.Logf("%d free dimensions", dims)
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// distance is the largest difference, relative to the largest element.
func distance(got, want []float32) float64 {
	if len(got) != len(want) || len(got) == 0 {
		return math.Inf(1)
	}
	diff, scale := 0.0, 0.0
	for i := range want {
		diff = max(diff, math.Abs(float64(got[i])-float64(want[i])))
		scale = max(scale, math.Abs(float64(want[i])))
	}
	return diff / scale
}

// TestClassifiers: a token classifier may keep the pooler of the model that it
// was made from, and reads every token all the same: its columns move against
// the last norm, those of a pooled one cannot. A checkpoint that names no class
// may be read either way, so neither moves.
func TestClassifiers(t *testing.T) {
	ck, err := checkpoint.Open(filepath.Join(otherDir(), "bert-classifier"))
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	type moving struct{ classifier, norm bool }
	for class, want := range map[string]moving{
		"BertForSequenceClassification": {norm: true},
		"BertForMultipleChoice":         {norm: true},
		"BertForTokenClassification":    {classifier: true, norm: true},
		"":                              {},
	} {
		conf := bytes.Replace(ck.ConfigJSON(), []byte("BertForSequenceClassification"), []byte(class), 1)
		m, err := arch.Build(conf, ck.Shapes(), arch.Options{Tokens: 4})
		if err != nil {
			t.Fatal(err)
		}
		sol, err := gauge.Solve(m.Graph)
		if err != nil {
			t.Fatal(err)
		}
		moves := func(name string) bool {
			return !slices.ContainsFunc(sol.Holes, func(h gauge.Hole) bool { return h.Tensor == name })
		}
		got := moving{moves("classifier.weight"), moves("bert.encoder.layer.1.output.LayerNorm.weight")}
		if got != want {
			t.Errorf("class %q: %+v, want %+v", class, got, want)
		}
	}
}
