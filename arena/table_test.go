package arena

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestBuiltin(t *testing.T) {
	tab := Builtin()
	for _, s := range tab.Suites {
		if got, suite, err := Load(s.Name); err != nil || suite.Name != s.Name || got.Version != tab.Version {
			t.Fatalf("suite %s: %v", s.Name, err)
		}
		if len(tab.Select(&s)) == 0 {
			t.Fatalf("suite %s selects nothing", s.Name)
		}
	}
	classes := map[Class]int{}
	for _, r := range tab.Recipes {
		classes[r.Class]++
		if (r.Class == Informed) != (len(r.Prepare) > 0 || r.Optimizer.Method == "pair" || r.Optimizer.Method == "row-col") {
			t.Errorf("recipe %s is of class %s", r.Name, r.Class)
		}
	}
	if classes[WeightSpace] < 20 || classes[Invariant] < 4 || classes[Informed] < 10 {
		t.Errorf("recipes by class: %v", classes)
	}
}

const smallTable = `version: "1"
recipes:
  - name: one
    class: A
    about: x
    train: {kind: full}
    optimizer: {method: adamw}
    rates: {from: -5, to: -2}
suites:
  - {name: s, about: x, recipes: ["*"], steps: 10, batch: 2, window: 16, eval: 2, evals: 2, seeds: 1, refine: 1, extend: 1, long: 0, random: false}
`

func TestParseTableErrors(t *testing.T) {
	if _, err := ParseTable([]byte(smallTable), "t.yaml"); err != nil {
		t.Fatal(err)
	}
	train, rates := "train: {kind: full}", "{from: -5, to: -2}"
	for _, c := range []struct{ old, new, want string }{
		{"about: x\n    train", "abuot: x\n    train", "line 5"},
		{"class: A", "class: D", `class "D"`},
		{"kind: full", "kind: oft", "embedded engine"},
		{"{method: adamw}", "{}", "optimizer.method"},
		{"{method: adamw}", "{method: adam}", `recipe one: unknown optimizer "adam"`},
		{train, train + "\n    prepare: [undone]", `recipe one: unknown preparation "undone"`},
		{"from: -5", "from: 5", "rates"},
		{"from: -5", "from: -9223372036854775808", "line 3: recipe one: rates.from"},
		{"to: -2", "to: 37", "rates.to"},
		{"to: -2", "to: -2, every: 9223372036854775807", "rates.every"},
		{rates, "{only: [.inf]}", "recipe one: learning rate is +Inf"},
		{rates, "{only: [.nan]}", "learning rate is NaN"},
		{rates, "{only: [0]}", "learning rate is 0"},
		{rates, "{only: [" + strings.Repeat("1,", 64) + "1]}", "65 rates"},
		{train, train + "\n    clip: .nan", "clip is NaN"},
		{train, train + "\n    warmup: .nan", "warmup is NaN"},
		{train, train + "\n    density: .inf", "density is +Inf"},
		{train, train + "\n    weight: -.inf", "weight is -Inf"},
		{train, train + "\n    steps: 1000001", "steps is 1000001; it must be a number from 0 to 1000000"},
		{train, train + "\n    batch: 4097", "batch is 4097"},
		{train, "train: {kind: full, alpha: .nan}", "train.alpha is NaN"},
		{train, "train: {kind: full, ratio: .nan}", "train.ratio is NaN"},
		{train, "train: {kind: full, rank: 65537}", "train.rank is 65537"},
		{train, "train: {kind: full, rank: -1}", "train.rank is -1"},
		{train, "train: {kind: full, virtual: 4097}", "train.virtual is 4097"},
		{train, "train: {kind: full, modules: [!!binary /w==]}", "train.modules"},
		{train, "train: {kind: full, modules: [" + strings.Repeat("a,", 256) + "a]}", "257 names"},
		{train, "train: {kind: full, options: {a: {b: [.nan]}}}", "recipe one: train.options.a.b[0] is NaN"},
		{train, "train: {kind: full, options: {a: 9007199254740993}}", "train.options.a is 9007199254740993: JSON numbers are exact up to 2^53"},
		{train, "train: {kind: full, options: {a: -9007199254740993}}", "train.options.a is -9007199254740993"},
		{train, "train: {kind: full, options: {a: 18446744073709551615}}", "train.options.a is 18446744073709551615"},
		{train, "train: {kind: full, options: {a: {1: 2}}}", "train.options.a: a key that is no text"},
		{train, "train: {kind: full, options: {a: !!binary /w==}}", "not UTF-8"},
		{train, "train: {kind: full, options: {a: 2001-01-01}}", "no JSON form"},
		{train, "train: {kind: full, options: {a: " + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}}", "nested"},
		{"{method: adamw}", "{method: adamw, eps: .nan}", "optimizer.eps is NaN"},
		{"{method: adamw}", "{method: adamw, beta1: .inf}", "optimizer.beta1 is +Inf"},
		{`recipes: ["*"]`, "recipes: [two]", "line 10: suite s: no recipe is named two"},
		{"steps: 10", "steps: 0", "line 10: suite s: steps is 0"},
		{"steps: 10", "steps: 1000001", "suite s: steps"},
		{"batch: 2", "batch: 1099511627776", "suite s: batch"},
		{"window: 16", "window: 65537", "suite s: window"},
		{"eval: 2", "eval: 100001", "suite s: eval"},
		{"evals: 2", "evals: 1001", "suite s: evals"},
		{"seeds: 1", "seeds: 101", "suite s: seeds"},
		{"refine: 1", "refine: 9", "suite s: refine"},
		{"extend: 1", "extend: 41", "suite s: extend"},
		{"long: 0", "long: 65", "suite s: long"},
		{"name: one", "name: ../one", "line 3: recipe name"},
		{"version: \"1\"\n", "", "no version"},
		{smallTable, "", "no table"},
		{"suites:", "roles: {r: [" + strings.Repeat("a,", 200) + "]}\nsuites:", ""},
	} {
		if !strings.Contains(smallTable, c.old) {
			t.Fatalf("%q is not in the table", c.old)
		}
		_, err := ParseTable([]byte(strings.Replace(smallTable, c.old, c.new, 1)), "t.yaml")
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.new, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "t.yaml") {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

// TestModulesFitWithRoles: what Select makes of a table is within the bounds to
// which a run's description is held.
func TestModulesFitWithRoles(t *testing.T) {
	raw := strings.Replace(smallTable, "train: {kind: full}", "train: {kind: full, modules: [r, r]}", 1)
	raw = strings.Replace(raw, "suites:", "roles: {r: ["+strings.Repeat("a,", 200)+"]}\nsuites:", 1)
	if _, err := ParseTable([]byte(raw), "t.yaml"); err == nil || !strings.Contains(err.Error(), "400 modules") {
		t.Fatal(err)
	}
}

// TestOptionsThroughJSON: a trial whose options were written and read again is
// the same trial.
func TestOptionsThroughJSON(t *testing.T) {
	tab, err := ParseTable([]byte(strings.Replace(smallTable, "kind: full}",
		"kind: full, options: {a: 9007199254740992, b: [1, 1.5, -0.0, 1e300, ~, true], c: {d: \"<\\u2028>\", e: {}}}}", 1)), "t.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sameThroughJSON(t, tab)
}

func sameThroughJSON(t *testing.T, tab *Table) {
	t.Helper()
	for i := range tab.Suites {
		s := &tab.Suites[i]
		for _, r := range tab.Select(s) {
			x := NewTrial(EmbeddedEngine, r, s, Sealed, 1e-3, 1)
			if err := x.check(); err != nil {
				t.Fatalf("suite %s, recipe %s: %v", s.Name, r.Name, err)
			}
			raw, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			var back Trial
			if err := json.Unmarshal(raw, &back); err != nil || back.ID() != x.ID() {
				t.Fatalf("recipe %s: %s after JSON, was %s (%v)\n%s", r.Name, back.ID(), x.ID(), err, raw)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.yaml")
	two := smallTable + strings.Replace(smallTable[strings.LastIndex(smallTable, "  - {name"):], "name: s", "name: other", 1)
	for _, name := range []string{path, path + ":odd"} {
		if err := os.WriteFile(name, []byte(two), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{path: "s", path + ":s": "s", path + ":other": "other", path + ":odd": "s", path + ":odd:other": "other", "quick": "quick"} {
		if _, s, err := Load(name); err != nil || s.Name != want {
			t.Errorf("%s: %v, want suite %s", name, err, want)
		}
	}
	for name, want := range map[string]string{path + ":third": "s, other", path + ":": "s, other", "quik": "quick"} {
		if _, _, err := Load(name); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), want) {
			t.Errorf("%s: %v (%s), want %q", name, err, fault.HintOf(err), want)
		}
	}
	if _, _, err := Load(filepath.Join(dir, "none.yaml:s")); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "none.yaml:") {
		t.Error(err)
	}
	twice := strings.Replace(two, "name: other", "name: s", 1)
	if _, err := ParseTable([]byte(twice), "t.yaml"); err == nil || !strings.Contains(err.Error(), "line 11: two suites") {
		t.Error(err)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(smallTable))
	f.Add([]byte("version: [1"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte(strings.Replace(smallTable, "kind: full", "kind: oft, options: {a: 9007199254740993, b: [.nan], 1: !!binary /w==}", 1)))
	f.Add([]byte(strings.Replace(smallTable, "{kind: full}", "{kind: oft, options: {a: -0.0, b: [~, 1e300]}}\n    engines: [trl]", 1)))
	f.Add([]byte(strings.Replace(smallTable, "{from: -5, to: -2}", "{only: [.inf]}", 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if tab, err := ParseTable(raw, "f"); err == nil {
			sameThroughJSON(t, tab)
		}
	})
}
