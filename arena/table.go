package arena

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Names of the engines.
const (
	EmbeddedEngine = "embedded"
	TRLEngine      = "trl"
)

// Table is a versioned set of recipes and the suites that run them.
type Table struct {
	// Version names the table; results of different versions are not compared.
	Version string `yaml:"version"`
	// Roles are names that recipes use for modules: role → the modules that play
	// it in the families. A model has some of them.
	Roles   map[string][]string `yaml:"roles"`
	Recipes []Recipe            `yaml:"recipes"`
	Suites  []Suite             `yaml:"suites"`
}

// Suite is a selection of recipes and a budget.
type Suite struct {
	Name    string   `yaml:"name" json:"name"`
	About   string   `yaml:"about" json:"about"`
	Recipes []string `yaml:"recipes" json:"recipes"` // names; "*" is a wildcard at the end
	Steps   int      `yaml:"steps" json:"steps"`
	Batch   int      `yaml:"batch" json:"batch"`
	Window  int      `yaml:"window" json:"window"` // tokens of a sequence
	Eval    int      `yaml:"eval" json:"eval"`     // held-out windows
	Evals   int      `yaml:"evals" json:"evals"`   // how often they are evaluated
	Seeds   int      `yaml:"seeds" json:"seeds"`
	// Refine is how often the sweep halves its step around the best rate;
	// Extend how often it may go on beyond its ends.
	Refine int `yaml:"refine" json:"refine"`
	Extend int `yaml:"extend" json:"extend"`
	// Long is how many times the steps the sealed model gets to reach what the
	// unsealed one reaches: the cost multiplier is censored there.
	Long int `yaml:"long" json:"long"`
	// Random attacks a randomly initialised model, too: what the weights were
	// worth to the attacker.
	Random bool `yaml:"random" json:"random"`
}

// Far is the least Extend of a suite whose sweeps look everywhere: on a sealed
// model the best rate may be many decades away.
const Far = 6

//go:embed table.yaml
var builtin embed.FS

// Builtin returns the table that is built into the program.
func Builtin() *Table {
	raw, err := builtin.ReadFile("table.yaml")
	if err == nil {
		var t *Table
		if t, err = ParseTable(raw, "table.yaml"); err == nil {
			return t
		}
	}
	panic(err) // a test parses it
}

// tableLimit bounds the size of a table in bytes.
const tableLimit = 1 << 20

// Load returns the table and the suite that a user names: a built-in suite, or
// a file with a table of his own, whose first suite is meant.
func Load(name string) (*Table, *Suite, error) {
	t := Builtin()
	for i := range t.Suites {
		if t.Suites[i].Name == name {
			return t, &t.Suites[i], nil
		}
	}
	if !strings.ContainsAny(name, "./\\") {
		return nil, nil, fault.New(fault.Usage, "unknown suite %q", name).
			WithHint("built in: %s; or give the path of a table (.yaml)", strings.Join(t.suites(), ", "))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Usage, err, "opening the recipe table")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, tableLimit+1))
	if err != nil {
		return nil, nil, fault.Wrap(fault.General, err, "reading the recipe table %s", name)
	}
	if t, err = ParseTable(raw, name); err != nil {
		return nil, nil, err
	}
	return t, &t.Suites[0], nil
}

func (t *Table) suites() []string {
	var out []string
	for _, s := range t.Suites {
		out = append(out, s.Name)
	}
	return out
}

// ParseTable parses and validates a table; file is its name in errors, which
// carry the line.
func ParseTable(raw []byte, file string) (*Table, error) {
	if len(raw) > tableLimit {
		return nil, fault.New(fault.Usage, "%s: more than %d bytes", file, tableLimit)
	}
	t := new(Table)
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(t); err != nil {
		return nil, fault.New(fault.Usage, "%s: %s", file, strings.TrimPrefix(fmt.Sprint(err), "yaml: ")).
			WithHint("the built-in table shows what a recipe holds: neuroseal attack --print-table")
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Usage, "%s: more than one document", file)
	}
	if err := t.check(); err != nil {
		return nil, fault.Wrap(fault.Usage, err, "%s", file)
	}
	return t, nil
}

func (t *Table) check() error {
	if t.Version == "" {
		return fault.New(fault.Usage, "the table has no version")
	}
	seen := map[string]bool{}
	for i := range t.Recipes {
		r := &t.Recipes[i]
		if err := r.check(); err != nil {
			return err
		}
		if seen[r.Name] {
			return fault.New(fault.Usage, "two recipes are named %s", r.Name)
		}
		seen[r.Name] = true
	}
	if len(t.Suites) == 0 {
		return fault.New(fault.Usage, "the table has no suite")
	}
	for i := range t.Suites {
		if err := t.checkSuite(&t.Suites[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) checkSuite(s *Suite) error {
	if s.Name == "" || s.Steps < 1 || s.Batch < 1 || s.Window < 2 || s.Eval < 1 || s.Evals < 1 || s.Seeds < 1 ||
		s.Refine < 0 || s.Extend < 0 || s.Long < 0 {
		return fault.New(fault.Usage, "suite %q: name, steps, batch, window (2 at least), eval, evals and seeds must be given", s.Name)
	}
	for _, name := range s.Recipes {
		if len(t.match(name)) == 0 {
			return fault.New(fault.Usage, "suite %s: no recipe is named %s", s.Name, name)
		}
	}
	if len(s.Recipes) == 0 {
		return fault.New(fault.Usage, "suite %s names no recipes", s.Name).WithHint(`"*" stands for all`)
	}
	return nil
}

func (t *Table) match(name string) []Recipe {
	var out []Recipe
	prefix, wild := strings.CutSuffix(name, "*")
	for _, r := range t.Recipes {
		if r.Name == name || wild && strings.HasPrefix(r.Name, prefix) {
			out = append(out, r)
		}
	}
	return out
}

// Select returns a suite's recipes in the table's order, with the roles in
// their modules replaced by module names.
func (t *Table) Select(s *Suite) []Recipe {
	var out []Recipe
	for _, r := range t.Recipes {
		if slices.ContainsFunc(s.Recipes, func(n string) bool {
			return slices.ContainsFunc(t.match(n), func(m Recipe) bool { return m.Name == r.Name })
		}) {
			r.Train.Modules = t.modules(r.Train.Modules)
			r.Train.FeedForward = t.modules(r.Train.FeedForward)
			out = append(out, r)
		}
	}
	return out
}

func (t *Table) modules(names []string) []string {
	var out []string
	for _, n := range names {
		if role, ok := t.Roles[n]; ok {
			out = append(out, role...)
		} else {
			out = append(out, n)
		}
	}
	return out
}

// BuiltinYAML is the table that is built into the program, as it is written.
func BuiltinYAML() []byte {
	raw, err := builtin.ReadFile("table.yaml")
	if err != nil {
		panic(err) // it is embedded
	}
	return raw
}
