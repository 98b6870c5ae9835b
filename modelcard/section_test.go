package modelcard

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/neuroseal/neuroseal/manifest"
)

func sample() *manifest.Manifest {
	return &manifest.Manifest{
		SealID: "0123456789abcdef", Method: "gauge", Profile: "portable", Tool: "neuroseal 0.1.0", ModelType: "evil\"\n```\n" + SealEnd + "\n: {",
		Coverage: 0.99999, FreeDims: 12, Holes: []manifest.Hole{{Tensor: "a", Why: "b"}}, OriginalDigest: "sha256:00",
		Promise: manifest.Promise{BitExact: []string{"bf16", "fp32"}, Runs: []string{"bf16", "fp32", "fp16"}, Quantisers: []string{"llama.cpp Q8_0, Q4_0"}, Reversible: true},
	}
}

// TestRecord: the record is YAML that says what the manifest does, and survives
// a card with any line ends.
func TestRecord(t *testing.T) {
	m := sample()
	for _, card := range []string{"", "a\r\n"} {
		r := Amend([]byte(card), Additions{Seal: Section(m, "org/name"), Tags: Tags()})
		text := string(r.Content)
		if strings.Count(text, SealEnd) != 1 {
			t.Fatalf("marks:\n%s", text)
		}
		_, text, _ = strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "```yaml\n")
		text, _, _ = strings.Cut(text, "```\n")
		var got struct {
			NeuroSeal struct {
				SealID    string `yaml:"seal_id"`
				ModelType string `yaml:"model_type"`
				Base      string `yaml:"base_model"`
				Digest    string `yaml:"original_digest"`
				Coverage  float64
				FreeDims  int `yaml:"free_dims"`
				Holes     int
				Promise   struct {
					BitExact   []string `yaml:"bit_exact"`
					Runs       []string
					Quantisers []string
					Reversible bool
					Reordered  bool
				}
			}
		}
		if err := yaml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		n := got.NeuroSeal
		if n.SealID != m.SealID || n.ModelType != m.ModelType || n.Base != "org/name" || n.Digest != m.OriginalDigest || n.Coverage != m.Coverage ||
			n.FreeDims != 12 || n.Holes != 1 || len(n.Promise.Runs) != 3 || n.Promise.Quantisers[0] != m.Promise.Quantisers[0] || !n.Promise.Reversible {
			t.Errorf("%+v", n)
		}
	}
}

// TestSection: every method says what is true of it.
func TestSection(t *testing.T) {
	m := sample()
	has := func(name string, want, not []string) {
		t.Helper()
		text := string(Section(m, ""))
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s lacks %q:\n%s", name, s, text)
			}
		}
		for _, s := range not {
			if strings.Contains(text, s) {
				t.Errorf("%s has %q:\n%s", name, s, text)
			}
		}
	}
	has("gauge", []string{"bit for bit", "99.9%", "1 tensor is", "without any key", "IA3", "--key-file", "reordered: false"}, []string{"base_model", "rounding"})
	has("plain", []string{"multiplied by powers of two that cancel out"}, nil)
	m.Promise.Reordered, m.Holes = true, nil
	has("permuted", []string{"order in which sums", "every tensor"}, []string{"bit for bit"})
	m.Groups, m.Permute = []manifest.Group{{}, {Signs: true}}, &manifest.Permute{}
	has("signs and places", []string{"powers of two, some with a minus sign, and change places, in ways that cancel out"}, nil)
	m.Method, m.Promise = "static", manifest.Promise{}
	m.SealID = ""
	has("static", []string{"up to rounding", "not byte for byte", "bit_exact: []"}, []string{"bit for bit", "--key-file", "key restores", "seal_id"})
}

// TestPercent: rounded down, but not by what floating point loses.
func TestPercent(t *testing.T) {
	for x, want := range map[float64]string{0: "0%", 0.29: "29%", 0.57: "57%", 0.9276: "92.7%", 0.99999: "99.9%", 0.9999999999999: "99.9%", 1: "100%"} {
		if got := percent(x); got != want {
			t.Errorf("%v: %s, want %s", x, got, want)
		}
	}
}

// TestBaseModel: only what is plainly the id of somebody's model.
func TestBaseModel(t *testing.T) {
	for name, ok := range map[string]bool{
		"meta-llama/Llama-3.2-3B-Instruct": true, "Qwen/Qwen2.5-0.5B": true, "01-ai/Yi-6B": true,
		"": false, "gpt2": false, "./model": false, "/data/model": false, "../a/b": false, "a/b/c": false, "models/llama": false,
		"Outputs/run1": false, "me/checkpoint-500": false, "a--b/c": false, "a/b.git": false, "a/..": false, "C:/x": false, "a b/c": false,
		"org/name\n": false, "tmp/abc": false,
	} {
		conf, _ := json.Marshal(map[string]any{"_name_or_path": name})
		if got := BaseModel(conf); (got == name && ok) != ok || !ok && got != "" {
			t.Errorf("%q: %q", name, got)
		}
	}
	for _, conf := range []string{"", "[]", `{"_name_or_path": 3}`, `{}`} {
		if got := BaseModel([]byte(conf)); got != "" {
			t.Errorf("%s: %q", conf, got)
		}
	}
	if Relation([]byte(`{"quantization_config": {"bits": 4}}`)) != "quantized" || Relation([]byte(`{"quantization_config": null}`)) != "finetune" || Relation(nil) != "finetune" {
		t.Error("relation")
	}
}

// TestLargeCard: the largest card takes little time and only small edits.
func TestLargeCard(t *testing.T) {
	card := bytes.Repeat([]byte("a line of a very long card\n"), MaxSize/27)
	r := Amend(card, Additions{Seal: Section(sample(), ""), Tags: Tags()})
	n := 0
	for _, e := range r.Edits {
		n += len(e.Before) + len(e.After)
	}
	if n > 1<<14 || len(r.Content) != len(card)+n {
		t.Errorf("edits of %d bytes", n)
	}
}
