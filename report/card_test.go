package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/modelcard"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./report -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func cardBytes(t *testing.T, in []Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := CardJSON(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func section(t *testing.T, in []Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := CardMarkdown(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// small is a run with one recipe of every verdict, in round figures.
func small() []Input {
	x := func(v float64) *float64 { return &v }
	s := &arena.Summary{
		Date: "2026-11-23T10:20:30Z", TableVersion: "2026-11-23", Suite: "quick", Engine: "embedded", ToolVersion: "neuroseal 3.0.0",
		Sealed:    arena.Model{Name: "tiny_llama", Digest: "sha256:01", Seal: "gauge, strong", Params: 1017984, Family: "llama", Holes: 1, Promise: "bit-exact in bf16 and fp32"},
		Reference: arena.Model{Name: "original", Digest: "sha256:02", Params: 1017984, Family: "llama"},
		Start:     7.5, Unigram: 3.5, Uniform: 5.5, Bound: 3.5,
		Recipes: []arena.Score{
			{Name: "full-adamw", Class: "A", Verdict: arena.Held, BestLoss: x(7.5), UnsealedBestLoss: x(2.5), LearnedFraction: x(0), BoundedFraction: x(0), CostCensoredAt: 4},
			{Name: "full-lamb", Class: "A", Verdict: arena.Broken, BestLoss: x(3), UnsealedBestLoss: x(2.5), LearnedFraction: x(0.5), BoundedFraction: x(0.25), CostMultiplier: x(2.5), CostCensoredAt: 4, Seconds: 12, BytesRead: 2_000_000},
			{Name: "norms-sgd", Class: "A", Verdict: arena.Inconclusive, Reason: "teaches the unsealed model nothing, either", BestLoss: x(7.5), UnsealedBestLoss: x(7.5), CostCensoredAt: 4},
			{Name: "transplant", Class: "A", Verdict: arena.NotRun, Reason: "needs the public base", CostCensoredAt: 4},
			{Name: "ia3", Class: "B", Verdict: arena.Broken, BestLoss: x(3), UnsealedBestLoss: x(3), LearnedFraction: x(1), CostMultiplier: x(1), CostCensoredAt: 4, Seconds: 11},
			{Name: "undo-full-adamw", Class: "C", Informed: true, Verdict: arena.Broken, BestLoss: x(2.5), UnsealedBestLoss: x(2.5), LearnedFraction: x(1), CostMultiplier: x(1), CostCensoredAt: 4,
				Seconds: 9, PrepareSeconds: 0.5, BytesRead: 4_071_936},
		},
		Held: 1, Tried: 2, InvariantTry: 1, InformedTried: 1, Inconclusive: 1,
		Cheapest: &arena.Break{Recipe: "undo-full-adamw", Class: "C", Seconds: 9.5, BytesRead: 4_071_936},
		Trials:   34, Seconds: 300, Notes: []string{"Seconds are those of one machine with two cores."},
	}
	return []Input{{Summary: s}}
}

func TestCardGolden(t *testing.T) {
	golden(t, "card.md", section(t, small()))
	golden(t, "card.json", cardBytes(t, small()))
	two := append(small(), small()...)
	two[1].Summary.Sealed.Seal, two[1].Summary.Cheapest = "gauge, max", nil
	golden(t, "cards.md", section(t, two))
	golden(t, "cards.json", cardBytes(t, two))
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "spec", "card.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func valid(t *testing.T, s *jsonschema.Schema, raw []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestCardSchema(t *testing.T) {
	s := schema(t)
	odd := small()
	nan, inf := math.NaN(), math.Inf(1)
	odd[0].Summary.Start, odd[0].Summary.Recipes[0].BestLoss, odd[0].Summary.Recipes[1].CostMultiplier = nan, &inf, &nan
	odd[0].Summary.Cheapest.Seconds, odd[0].Summary.Notes = nan, nil
	for name, in := range map[string][]Input{"small": small(), "one": one(), "several": several(), "hostile": hostile(), "not finite": odd} {
		if err := valid(t, s, cardBytes(t, in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw := cardBytes(t, small())
	for _, edit := range [][2]string{{`"class": "A"`, `"class": "D"`}, {`"tried": 2`, `"tried": "2"`}, {`"held": 1`, `"holds": 1`},
		{`"verdict": "held"`, `"verdict": "won"`}, {`"date"`, `"day"`}, {`"schema": 1`, `"schema": 2`}} {
		bad := bytes.Replace(raw, []byte(edit[0]), []byte(edit[1]), 1)
		if bytes.Equal(bad, raw) || valid(t, s, bad) == nil {
			t.Errorf("the schema accepts %s for %s", edit[1], edit[0])
		}
	}
}

// TestCardFields: what readers of the card may rely on.
func TestCardFields(t *testing.T) {
	var c struct {
		Date          string
		TableVersion  string `json:"table_version"`
		Held, Tried   *int
		InformedHeld  *int `json:"informed_held"`
		InformedTried *int `json:"informed_tried"`
		Recipes       []struct {
			Name, Class     string
			Informed        bool
			LearnedFraction *float64 `json:"learned_fraction"`
		}
		Cheapest struct {
			Recipe    string
			Seconds   float64
			BytesRead int64 `json:"bytes_read"`
		} `json:"cheapest_break"`
		Models []json.RawMessage
	}
	in := several()
	if err := json.Unmarshal(cardBytes(t, in), &c); err != nil {
		t.Fatal(err)
	}
	s := in[0].Summary
	if c.Date != s.Date || c.TableVersion != s.TableVersion || *c.Held != s.Held || *c.Tried != s.Tried || *c.InformedHeld != s.InformedHeld ||
		*c.InformedTried != s.InformedTried || len(c.Models) != len(in) || c.Cheapest.Recipe != s.Cheapest.Recipe || c.Cheapest.BytesRead != s.Cheapest.BytesRead {
		t.Errorf("%+v", c)
	}
	for i, r := range c.Recipes {
		if r.Name != s.Recipes[i].Name || r.Informed != (s.Recipes[i].Class == arena.Informed) || r.Class != string(s.Recipes[i].Class) {
			t.Errorf("recipe %d: %+v", i, r)
		}
	}
}

// TestMarkdownHostile: names make no markup, no line and no marker.
func TestMarkdownHostile(t *testing.T) {
	raw := section(t, hostile())
	lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	if lines[0] != modelcard.ArenaBegin || lines[len(lines)-1] != modelcard.ArenaEnd || bytes.Count(raw, []byte(modelcard.ArenaBegin)) != 1 || bytes.Count(raw, []byte(modelcard.ArenaEnd)) != 1 {
		t.Errorf("markers:\n%s", raw)
	}
	rest := strings.ReplaceAll(strings.ReplaceAll(string(raw), modelcard.ArenaBegin, ""), modelcard.ArenaEnd, "")
	for _, bad := range []string{"<", "](", "\n# head", "![", "https:", "www.", "\u202e"} {
		if strings.Contains(rest, bad) {
			t.Errorf("%q got through:\n%s", bad, raw)
		}
	}
}
