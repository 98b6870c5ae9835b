package arena

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
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
// FILE or FILE:SUITE with a table of his own, whose first suite FILE alone means.
func Load(name string) (*Table, *Suite, error) {
	t := Builtin()
	if s := t.suite(name); s != nil {
		return t, s, nil
	}
	if !strings.ContainsAny(name, "./\\") {
		return nil, nil, fault.New(fault.Usage, "unknown suite %q", name).
			WithHint("built in: %s; or give the path of a table (.yaml), or of one of its suites (.yaml:SUITE)", strings.Join(t.suites(), ", "))
	}
	file, suite, named := fileAndSuite(name)
	t, err := readTable(file)
	if err != nil {
		return nil, nil, err
	}
	if !named {
		return t, &t.Suites[0], nil
	}
	s := t.suite(suite)
	if s == nil {
		return nil, nil, fault.New(fault.Usage, "%s has no suite %q", file, suite).
			WithHint("it has: %s", strings.Join(t.suites(), ", "))
	}
	return t, s, nil
}

// fileAndSuite splits FILE:SUITE, unless there is a file of the whole name. A
// colon after one letter is a drive's.
func fileAndSuite(name string) (file, suite string, named bool) {
	i := strings.LastIndexByte(name, ':')
	if _, err := os.Stat(name); err == nil || i < 2 || strings.ContainsAny(name[i:], "/\\") {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

func readTable(file string) (*Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "opening the recipe table")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, tableLimit+1))
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the recipe table %s", file)
	}
	return ParseTable(raw, file)
}

func (t *Table) suite(name string) *Suite {
	for i := range t.Suites {
		if t.Suites[i].Name == name {
			return &t.Suites[i]
		}
	}
	return nil
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
	if err := dec.Decode(t); errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Usage, "%s: no table in it", file).WithHint(showTable)
	} else if err != nil {
		return nil, fault.New(fault.Usage, "%s: %s", file, strings.TrimPrefix(fmt.Sprint(err), "yaml: ")).WithHint(showTable)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Usage, "%s: more than one document", file)
	}
	if list, i, err := t.check(); err != nil {
		if n := lineOf(raw, list, i); n > 0 {
			file = fmt.Sprintf("%s, line %d", file, n)
		}
		return nil, fault.Wrap(fault.Usage, err, "%s", file)
	}
	return t, nil
}

const showTable = "the built-in table shows what a recipe holds: neuroseal attack --print-table"

// lineOf finds the line of an entry of one of the table's lists; 0 if it is not
// in plain sight.
func lineOf(raw []byte, list string, i int) int {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return 0
	}
	top := doc.Content[0].Content
	for k := 0; k+1 < len(top); k += 2 {
		entries := top[k+1]
		if entries.Kind == yaml.AliasNode {
			entries = entries.Alias
		}
		if top[k].Value == list && entries.Kind == yaml.SequenceNode && i < len(entries.Content) {
			return entries.Content[i].Line
		}
	}
	return 0
}

// Bounds of a table and its suites; see those of recipes.
const (
	maxRecipes = 1000
	maxSuites  = 100
	maxWindow  = 1 << 16
	maxEval    = 100_000
	maxEvals   = 1000
	maxSeeds   = 100
	maxRefine  = 8
	maxExtend  = 40
	maxLong    = 64
)

// check says what is wrong with a table, and which entry of which list it is.
func (t *Table) check() (list string, i int, err error) {
	if t.Version == "" {
		return "", 0, fault.New(fault.Usage, "the table has no version")
	}
	if len(t.Recipes) > maxRecipes || len(t.Suites) > maxSuites {
		return "", 0, fault.New(fault.Usage, "%d recipes and %d suites, at most %d and %d", len(t.Recipes), len(t.Suites), maxRecipes, maxSuites)
	}
	for _, role := range slices.Sorted(maps.Keys(t.Roles)) {
		if err := readable("role "+role, t.Roles[role]); err != nil {
			return "", 0, err
		}
	}
	seen := map[string]bool{}
	for i := range t.Recipes {
		r := &t.Recipes[i]
		if err := r.check(); err != nil {
			return "recipes", i, err
		}
		if n := max(len(t.modules(r.Train.Modules)), len(t.modules(r.Train.FeedForward))); n > maxModules {
			return "recipes", i, fault.New(fault.Usage, "recipe %s: its roles stand for %d modules, at most %d", r.Name, n, maxModules)
		}
		if seen[r.Name] {
			return "recipes", i, fault.New(fault.Usage, "two recipes are named %s", r.Name)
		}
		seen[r.Name] = true
	}
	if len(t.Suites) == 0 {
		return "", 0, fault.New(fault.Usage, "the table has no suite")
	}
	seen = map[string]bool{}
	for i := range t.Suites {
		if err := t.checkSuite(&t.Suites[i]); err != nil {
			return "suites", i, err
		}
		if seen[t.Suites[i].Name] {
			return "suites", i, fault.New(fault.Usage, "two suites are named %s", t.Suites[i].Name)
		}
		seen[t.Suites[i].Name] = true
	}
	return "", 0, nil
}

func (t *Table) checkSuite(s *Suite) error {
	if s.Name == "" {
		return fault.New(fault.Usage, "a suite has no name")
	}
	if err := within("suite "+s.Name,
		whole("steps", s.Steps, 1, maxSteps), whole("batch", s.Batch, 1, maxBatch), whole("window", s.Window, 2, maxWindow),
		whole("eval", s.Eval, 1, maxEval), whole("evals", s.Evals, 1, maxEvals), whole("seeds", s.Seeds, 1, maxSeeds),
		whole("refine", s.Refine, 0, maxRefine), whole("extend", s.Extend, 0, maxExtend), whole("long", s.Long, 0, maxLong)); err != nil {
		return err
	}
	if len(s.Recipes) == 0 {
		return fault.New(fault.Usage, "suite %s names no recipes", s.Name).WithHint(`"*" stands for all`)
	}
	if len(s.Recipes) > maxRecipes {
		return fault.New(fault.Usage, "suite %s names %d recipes, at most %d", s.Name, len(s.Recipes), maxRecipes)
	}
	for _, name := range s.Recipes {
		if !slices.ContainsFunc(t.Recipes, func(r Recipe) bool { return names(name, r.Name) }) {
			return fault.New(fault.Usage, "suite %s: no recipe is named %s", s.Name, name)
		}
	}
	return nil
}

// names reports whether a name in a suite, which may end in a wildcard, stands
// for a recipe.
func names(name, recipe string) bool {
	prefix, wild := strings.CutSuffix(name, "*")
	return name == recipe || wild && strings.HasPrefix(recipe, prefix)
}

// Select returns a suite's recipes in the table's order, with the roles in
// their modules replaced by module names.
func (t *Table) Select(s *Suite) []Recipe {
	var out []Recipe
	for _, r := range t.Recipes {
		if slices.ContainsFunc(s.Recipes, func(n string) bool { return names(n, r.Name) }) {
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
