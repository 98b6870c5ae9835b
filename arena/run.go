package arena

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// metaFile says what a run folder is about.
const metaFile = "run.json"

// Meta is what a run is about: with the finished trials it gives the summary.
type Meta struct {
	Schema       int      `json:"schema"`
	ToolVersion  string   `json:"tool_version"`
	TableVersion string   `json:"table_version"`
	Suite        Suite    `json:"suite"`
	Recipes      []Recipe `json:"recipes"`
	Engine       string   `json:"engine"`

	Sealed    Model  `json:"sealed"`
	Reference Model  `json:"reference"`
	Base      string `json:"base"`   // digest of the public base; "" if there is none
	Random    string `json:"random"` // digest of the random model; "" if there is none
	Target    Text   `json:"target"`
	Retained  Text   `json:"retained"`

	Vocabulary int     `json:"vocabulary"`
	Unigram    float64 `json:"unigram"`

	Notes []string `json:"notes"`
}

// WriteMeta writes a run folder's description.
func WriteMeta(dir string, m *Meta) error {
	m.Schema = schema
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fault.Wrap(fault.General, err, "describing the run")
	}
	return atomicdir.WriteFile(filepath.Join(dir, metaFile), append(raw, '\n'), 0o666, true)
}

// ReadMeta reads it.
func ReadMeta(dir string) (*Meta, error) {
	path := filepath.Join(dir, metaFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "%s is no run folder", dir).WithHint("neuroseal attack MODEL OUT makes one")
	}
	m := new(Meta)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", path)
	}
	if m.Schema != schema {
		return nil, fault.New(fault.Unsupported, "%s: schema %d, this program reads %d", path, m.Schema, schema)
	}
	if err := m.check(); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s does not describe a run", path).
			WithHint("it was edited, or is damaged: take a new run folder")
	}
	return m, nil
}

// check holds a run to what its table was held to.
func (m *Meta) check() error {
	t := Table{Version: m.TableVersion, Recipes: m.Recipes, Suites: []Suite{m.Suite}}
	if _, _, err := t.check(); err != nil {
		return err
	}
	if m.Engine != EmbeddedEngine && m.Engine != TRLEngine {
		return fault.New(fault.Mismatch, "unknown engine %q", m.Engine)
	}
	if m.Vocabulary < 1 {
		return fault.New(fault.Mismatch, "a vocabulary of %d tokens", m.Vocabulary)
	}
	if !(m.Unigram >= 0) || math.IsInf(m.Unigram, 0) {
		return fault.New(fault.Mismatch, "a unigram loss of %v", m.Unigram)
	}
	return nil
}

// NewTrial is a trial with a suite's budget; its models and texts are yet to be
// named.
func NewTrial(engine string, r Recipe, s *Suite, role Role, lr float64, seed uint64) Trial {
	t := Trial{Schema: schema, Engine: engine, Recipe: r, Role: role, LR: lr, Seed: seed,
		Steps: s.Steps, Batch: s.Batch, Window: s.Window, Eval: s.Eval, Evals: s.Evals}
	if r.Steps > 0 {
		t.Steps = r.Steps
	}
	if r.Batch > 0 {
		t.Batch = r.Batch
	}
	return t
}

// trial is a point of a recipe's sweep on a model.
func (m *Meta) trial(r Recipe, role Role, p point) Trial {
	t := NewTrial(m.Engine, r, &m.Suite, role, p.lr(), p.seed)
	t.Target, t.Retained = m.Target.Digest, m.Retained.Digest
	if p.long {
		t.Steps *= m.Suite.Long
		t.Evals *= m.Suite.Long
	}
	switch role {
	case Sealed:
		t.Model = m.Sealed.Digest
		if r.NeedsBase() {
			t.Base = m.Base
		}
	case Unsealed, Random:
		// There is nothing to prepare, and nothing to carry over.
		t.Recipe.Prepare, t.Recipe.Method, t.Recipe.Density, t.Recipe.Weight = nil, "", 0, 0
		t.Model = m.Reference.Digest
		if role == Random {
			t.Model = m.Random
		}
	}
	return t
}

// NeedsBase reports whether the attacker needs the public base.
func (r *Recipe) NeedsBase() bool {
	return r.Method != "" && r.Method != Train || slices.Contains(r.Prepare, "align")
}

// sweep returns the sweep of a recipe on a model over what has been found.
func (m *Meta) sweep(r Recipe, role Role, get func(id string) *Result) *sweep {
	return &sweep{
		rates: r.Rates, refine: m.Suite.Refine, extend: m.Suite.Extend, seeds: m.Suite.Seeds, bound: m.Unigram,
		thorough: role == Sealed && m.Suite.Extend >= Far,
		long:     role == Sealed && m.Suite.Long > 1,
		result:   func(p point) *Result { return get(m.trial(r, role, p).ID()) },
	}
}

// roles are the models that a recipe is tried on.
func (m *Meta) roles(r Recipe) []Role {
	out := []Role{Sealed, Unsealed}
	if m.Random != "" && r.Random {
		out = append(out, Random)
	}
	return out
}

// unable says why a recipe is not tried at all.
func (m *Meta) unable(r Recipe) string {
	switch {
	case !r.Runs(m.Engine):
		return "needs another engine (" + r.engines()[0] + ")"
	case r.NeedsBase() && m.Base == "":
		return "needs the public base (--base or --against)"
	}
	return ""
}

// Next returns the trials that can be run now; none when the run is complete.
func (m *Meta) Next(get func(id string) *Result) []Trial {
	var out []Trial
	seen := map[string]bool{}
	for _, r := range m.Recipes {
		if m.unable(r) != "" {
			continue
		}
		for _, role := range m.roles(r) {
			for _, p := range m.sweep(r, role, get).next() {
				t := m.trial(r, role, p)
				if id := t.ID(); !seen[id] {
					seen[id] = true
					out = append(out, t)
				}
			}
		}
	}
	return out
}

// Executor runs tasks that do not depend on each other and hands over each
// result as it comes. It returns the first error after all have ended; a task
// without a result is run again by the next run.
type Executor func(ctx context.Context, tasks []Task, each func(*Result) error) error

// Run runs trials until the run is complete. paths says where a trial finds
// what it names, and may prepare it.
func Run(ctx context.Context, m *Meta, s *Store, paths func(context.Context, Trial) (Paths, error), run Executor, planned func(n int)) error {
	for {
		trials := m.Next(s.Get)
		if len(trials) == 0 {
			return nil
		}
		tasks := make([]Task, 0, len(trials))
		for _, t := range trials {
			p, err := paths(ctx, t)
			if fault.KindOf(err) == fault.Unsupported {
				if err := s.Append(impossible(t, err)); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			tasks = append(tasks, Task{Trial: t, Paths: p})
		}
		if planned != nil {
			planned(len(tasks))
		}
		if err := run(ctx, tasks, s.Append); err != nil {
			return err
		}
		for _, t := range trials {
			if s.Get(t.ID()) == nil {
				return fault.New(fault.General, "trial %s (%s) ended without a result", t.ID(), t.Recipe.Name).
					WithHint("run the command again: finished trials are kept")
			}
		}
	}
}
