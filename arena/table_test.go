package arena

import (
	"strings"
	"testing"
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
	for _, c := range []struct{ old, new, want string }{
		{"about: x\n    train", "abuot: x\n    train", "line 5"},
		{"class: A", "class: D", `class "D"`},
		{"kind: full", "kind: oft", "embedded engine"},
		{"{method: adamw}", "{}", "optimizer.method"},
		{"from: -5", "from: 5", "rates"},
		{`recipes: ["*"]`, "recipes: [two]", "no recipe is named two"},
		{"steps: 10", "steps: 0", "steps"},
		{"name: one", "name: ../one", "recipe name"},
		{"version: \"1\"\n", "", "no version"},
	} {
		if !strings.Contains(smallTable, c.old) {
			t.Fatalf("%q is not in the table", c.old)
		}
		_, err := ParseTable([]byte(strings.Replace(smallTable, c.old, c.new, 1)), "t.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "t.yaml") {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(smallTable))
	f.Add([]byte("version: [1"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tab, err := ParseTable(raw, "f")
		if err == nil {
			for i := range tab.Suites {
				tab.Select(&tab.Suites[i])
			}
		}
	})
}
