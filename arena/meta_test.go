package arena

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestReadMeta(t *testing.T) {
	dir := t.TempDir()
	good := func() *Meta {
		m := landscapeMeta()
		m.Suite.Recipes = []string{"*"}
		return m
	}
	if err := WriteMeta(dir, good()); err != nil {
		t.Fatal(err)
	}
	if m, err := ReadMeta(dir); err != nil || len(m.Recipes) != 4 {
		t.Fatalf("%+v, %v", m, err)
	}
	// Every suite of the built-in table can be read again.
	tab := Builtin()
	for _, s := range tab.Suites {
		m := good()
		m.Suite, m.Recipes = s, tab.Select(&s)
		if err := WriteMeta(dir, m); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadMeta(dir); err != nil {
			t.Errorf("suite %s: %v", s.Name, err)
		}
	}
	for want, change := range map[string]func(*Meta){
		"version":       func(m *Meta) { m.TableVersion = "" },
		"steps is 0":    func(m *Meta) { m.Suite.Steps = 0 },
		"seeds":         func(m *Meta) { m.Suite.Seeds = 1 << 40 },
		"unknown optim": func(m *Meta) { m.Recipes[0].Optimizer.Method = "x" },
		"rates":         func(m *Meta) { m.Recipes[0].Rates.To = 1 << 40 },
		"no recipe is":  func(m *Meta) { m.Recipes = nil },
		"engine":        func(m *Meta) { m.Engine = "x" },
		"vocabulary":    func(m *Meta) { m.Vocabulary = 0 },
		"unigram":       func(m *Meta) { m.Unigram = -1 },
	} {
		m := good()
		change(m)
		if err := WriteMeta(dir, m); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadMeta(dir); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, metaFile), []byte(`{"schema":1}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMeta(dir); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "run.json does not describe a run") {
		t.Errorf("an empty description: %v", err)
	}
}

// TestBoundsAreFinite: what the bounds allow has a JSON form.
func TestBoundsAreFinite(t *testing.T) {
	m := landscapeMeta()
	r := m.Recipes[0]
	r.Clip, r.Train.Alpha, r.Optimizer.Eps, r.Rates.Only = maxFactor, -maxFactor, -1, []float64{maxFactor, 1 / maxFactor}
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Fatal(err)
	}
}
