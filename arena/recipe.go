package arena

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Class says what an attack needs to know, and so what a seal can do about it.
type Class string

// The classes.
const (
	// WeightSpace attacks come off the shelf and train weights, or adapters on
	// weights. A seal can hold these.
	WeightSpace Class = "A"
	// Invariant attacks come off the shelf and act on activations. The function
	// and its gradients with respect to activations are what they were, so no
	// seal that preserves the function can hold these.
	Invariant Class = "B"
	// Informed attackers know of the seal and re-balance the weights, without
	// any key. No seal can hold these.
	Informed Class = "C"
)

// Recipe is an attack: one row of a table.
type Recipe struct {
	Name  string `yaml:"name" json:"name"`
	Class Class  `yaml:"class" json:"class"`
	About string `yaml:"about" json:"about"`

	// Prepare names what is done to the weights before training, in order:
	// preparations of package arena/informed.
	Prepare []string `yaml:"prepare,omitempty" json:"prepare,omitempty"`
	// Method is how the target is learnt; Train if empty.
	Method Method `yaml:"method,omitempty" json:"method,omitempty"`
	// Density and Weight are those of Method TIES and DARE, and of all merging.
	Density float64 `yaml:"density,omitempty" json:"density,omitempty"`
	Weight  float64 `yaml:"weight,omitempty" json:"weight,omitempty"`

	Train     Training  `yaml:"train" json:"train"`
	Optimizer Optimizer `yaml:"optimizer" json:"optimizer"`

	Schedule string  `yaml:"schedule,omitempty" json:"schedule,omitempty"` // constant, linear, cosine; linear if empty
	Warmup   float64 `yaml:"warmup,omitempty" json:"warmup,omitempty"`     // part of the steps
	Clip     float64 `yaml:"clip,omitempty" json:"clip,omitempty"`         // bound of the gradients' norm; 0: none

	// Precision is that of weights, activations and states: fp32 (if empty),
	// bf16, fp16. Base is how the frozen weights are stored.
	Precision string `yaml:"precision,omitempty" json:"precision,omitempty"`
	Base      string `yaml:"base,omitempty" json:"base,omitempty"` // "", nf4, nf4-dq, int8

	Rates   Rates    `yaml:"rates" json:"rates"`
	Engines []string `yaml:"engines,omitempty" json:"engines,omitempty"` // that can run it; all if empty

	// Random asks for the same attack on a randomly initialised model, in suites
	// that have those.
	Random bool `yaml:"random,omitempty" json:"random,omitempty"`

	// Fixed budget of a recipe that repeats somebody's published proof; else
	// zero, and the suite's counts.
	Steps int `yaml:"steps,omitempty" json:"steps,omitempty"`
	Batch int `yaml:"batch,omitempty" json:"batch,omitempty"`
}

// Method is how an attack comes to its target.
type Method string

// The methods. All but Train fine-tune the public base, which is not sealed,
// and carry what was learnt over to the sealed model.
const (
	Train          Method = "train"
	Transplant     Method = "transplant"      // add the difference
	TaskArithmetic Method = "task-arithmetic" // add Weight times the difference (arXiv 2212.04089)
	TIES           Method = "ties"            // trim, elect, merge (arXiv 2306.01708)
	DARE           Method = "dare"            // drop and rescale (arXiv 2311.03099)
)

// Training says what is trained.
type Training struct {
	// Kind: full, tensors, norms, embeddings, head, lora, dora, ia3,
	// soft-prompt, residual in the embedded engine; any tuner of PEFT in lower
	// case (oft, vera, …) in the TRL engine.
	Kind string `yaml:"kind" json:"kind"`
	// Modules are roles of the table (value, output, …), names of modules, or
	// all-linear.
	Modules     []string `yaml:"modules,omitempty" json:"modules,omitempty"`
	Rank        int      `yaml:"rank,omitempty" json:"rank,omitempty"`
	Alpha       float64  `yaml:"alpha,omitempty" json:"alpha,omitempty"`
	RSLoRA      bool     `yaml:"rslora,omitempty" json:"rslora,omitempty"`
	Ratio       float64  `yaml:"ratio,omitempty" json:"ratio,omitempty"` // LoRA+
	FeedForward []string `yaml:"feed_forward,omitempty" json:"feed_forward,omitempty"`
	Virtual     int      `yaml:"virtual,omitempty" json:"virtual,omitempty"`
	// Options are passed to PEFT's configuration of the tuner as they are: JSON
	// values; whole numbers up to 2^53, as in JSON.
	Options map[string]any `yaml:"options,omitempty" json:"options,omitempty"`
}

// Optimizer is how parameters are updated; zero fields have the defaults of
// the method.
type Optimizer struct {
	Method      string  `yaml:"method" json:"method"`
	Beta1       float64 `yaml:"beta1,omitempty" json:"beta1,omitempty"`
	Beta2       float64 `yaml:"beta2,omitempty" json:"beta2,omitempty"`
	Eps         float64 `yaml:"eps,omitempty" json:"eps,omitempty"`
	WeightDecay float64 `yaml:"weight_decay,omitempty" json:"weight_decay,omitempty"`
	Momentum    float64 `yaml:"momentum,omitempty" json:"momentum,omitempty"`
}

// Rates are the learning rates that a sweep begins with: powers of ten from
// 10^From to 10^To, both within ±36, Every decades apart (1 if zero).
type Rates struct {
	From  int       `yaml:"from" json:"from"`
	To    int       `yaml:"to" json:"to"`
	Every int       `yaml:"every,omitempty" json:"every,omitempty"`
	Only  []float64 `yaml:"only,omitempty" json:"only,omitempty"` // no sweep: just these
}

var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// What recipes may name. This package does not know those that do the work, so
// the names stand here once more; a test of package arena/embedded compares them.
var (
	// embeddedKinds of training are those that package arena/train knows.
	embeddedKinds = []string{"full", "tensors", "norms", "embeddings", "head", "lora", "dora", "ia3", "soft-prompt", "residual"}
	// optimizers of package arena/train; the TRL engine has some of them and no
	// others.
	optimizers = []string{"adamw", "sgd", "lion", "adafactor", "muon", "lamb", "shampoo", "row-col", "pair"}
	// preparations of package arena/informed.
	preparations = []string{"undo", "fold-norms", "equalise", "smoothquant", "svd", "align"}
)

// Optimizers are the names that a recipe's optimizer.method may have.
func Optimizers() []string { return slices.Clone(optimizers) }

// Preparations are the names that a recipe's prepare may hold.
func Preparations() []string { return slices.Clone(preparations) }

// Bounds of what recipes and suites ask for: far beyond use, and small enough
// that no product of them overflows.
const (
	maxSteps   = 1_000_000
	maxBatch   = 4096
	maxRank    = 1 << 16
	maxVirtual = 4096
	maxOnly    = 64
	maxModules = 256
	maxPrepare = 16
	maxText    = 256 // bytes of a name
	maxOptions = 1000
	maxNesting = 16
	// Beyond 36 decades a rate, or a factor, is no float32.
	maxDecades = farthest / perDecade
	maxFactor  = 1e36
	// maxWhole is the largest integer up to which a JSON number is exact.
	maxWhole = 1 << 53
)

// bound is a number of a table and the range it must lie in.
type bound struct {
	name      string
	x, lo, hi float64
}

// whole is a bound of an integer. Integers beyond 2^53 lose their last digits
// here, and lie outside of every range.
func whole(name string, x, lo, hi int) bound {
	return bound{name, float64(x), float64(lo), float64(hi)}
}

// within returns an error for the first number that is outside of its range, or
// not a number; what says whose numbers they are.
func within(what string, all ...bound) error {
	for _, b := range all {
		if !(b.x >= b.lo && b.x <= b.hi) {
			return fault.New(fault.Usage, "%s: %s is %s; it must be a number from %s to %s", what, b.name, digits(b.x), digits(b.lo), digits(b.hi))
		}
	}
	return nil
}

// digits writes a number as people do, without an exponent where it has few.
func digits(x float64) string {
	if math.Abs(x) >= 1e-4 && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// check says what is wrong with a recipe, and gives its options the values that
// they have after a way through JSON.
func (r *Recipe) check() error {
	if !recipeName.MatchString(r.Name) {
		return fault.New(fault.Usage, "recipe name %q: lower case letters, digits, dots and hyphens, at most 64", r.Name)
	}
	for _, f := range []func(string) error{r.checkNames, r.checkNumbers, r.checkRates, r.checkOptions} {
		if err := f("recipe " + r.Name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recipe) checkNames(what string) error {
	bad := func(format string, args ...any) *fault.Error {
		return fault.New(fault.Usage, what+": "+format, args...)
	}
	if !slices.Contains([]Class{WeightSpace, Invariant, Informed}, r.Class) {
		return bad("class %q: A (weight space), B (gauge-invariant) or C (informed)", r.Class)
	}
	if !slices.Contains([]Method{"", Train, Transplant, TaskArithmetic, TIES, DARE}, r.Method) {
		return bad("unknown method %q", r.Method)
	}
	if !slices.Contains([]string{"", "constant", "linear", "cosine"}, r.Schedule) {
		return bad("unknown schedule %q", r.Schedule)
	}
	if !slices.Contains([]string{"", "fp32", "bf16", "fp16"}, r.Precision) {
		return bad("unknown precision %q", r.Precision)
	}
	if !slices.Contains([]string{"", "nf4", "nf4-dq", "int8"}, r.Base) {
		return bad("unknown base %q", r.Base)
	}
	for _, e := range r.Engines {
		if e != EmbeddedEngine && e != TRLEngine {
			return bad("unknown engine %q", e)
		}
	}
	if r.Train.Kind == "" {
		return bad("train.kind is missing")
	}
	if !slices.Contains(embeddedKinds, r.Train.Kind) && slices.Contains(r.engines(), EmbeddedEngine) {
		return bad("kind %q is unknown to the embedded engine; say engines: [trl]", r.Train.Kind)
	}
	if r.Optimizer.Method == "" {
		return bad("optimizer.method is missing").WithHint("known: %s", strings.Join(optimizers, ", "))
	}
	if !slices.Contains(optimizers, r.Optimizer.Method) {
		return bad("unknown optimizer %q", r.Optimizer.Method).WithHint("known: %s", strings.Join(optimizers, ", "))
	}
	for _, p := range r.Prepare {
		if !slices.Contains(preparations, p) {
			return bad("unknown preparation %q", p).WithHint("known: %s", strings.Join(preparations, ", "))
		}
	}
	if len(r.Prepare) > maxPrepare {
		return bad("%d preparations, at most %d", len(r.Prepare), maxPrepare)
	}
	if err := readable(what+": train.kind", []string{r.Train.Kind}); err != nil {
		return err
	}
	if err := readable(what+": train.modules", r.Train.Modules); err != nil {
		return err
	}
	return readable(what+": train.feed_forward", r.Train.FeedForward)
}

// readable refuses names that JSON cannot hold as they are, and lists of no use.
func readable(what string, names []string) error {
	if len(names) > maxModules {
		return fault.New(fault.Usage, "%s: %d names, at most %d", what, len(names), maxModules)
	}
	for _, s := range names {
		if s == "" || len(s) > maxText || !utf8.ValidString(s) {
			return fault.New(fault.Usage, "%s: %q: 1 to %d bytes of UTF-8 are a name", what, s[:min(len(s), maxText)], maxText)
		}
	}
	return nil
}

func (r *Recipe) checkNumbers(what string) error {
	o := r.Optimizer // in which a negative number stands for zero
	return within(what,
		whole("steps", r.Steps, 0, maxSteps), whole("batch", r.Batch, 0, maxBatch),
		whole("train.rank", r.Train.Rank, 0, maxRank), whole("train.virtual", r.Train.Virtual, 0, maxVirtual),
		bound{"train.alpha", r.Train.Alpha, -maxFactor, maxFactor}, bound{"train.ratio", r.Train.Ratio, 0, maxFactor},
		bound{"density", r.Density, 0, 1}, bound{"weight", r.Weight, -maxFactor, maxFactor},
		bound{"warmup", r.Warmup, 0, 1}, bound{"clip", r.Clip, 0, maxFactor},
		bound{"optimizer.beta1", o.Beta1, -1, 1}, bound{"optimizer.beta2", o.Beta2, -1, 1},
		bound{"optimizer.eps", o.Eps, -maxFactor, maxFactor},
		bound{"optimizer.weight_decay", o.WeightDecay, -maxFactor, maxFactor},
		bound{"optimizer.momentum", o.Momentum, -1, 1})
}

func (r *Recipe) checkRates(what string) error {
	if err := within(what, whole("rates.from", r.Rates.From, -maxDecades, maxDecades),
		whole("rates.to", r.Rates.To, -maxDecades, maxDecades), whole("rates.every", r.Rates.Every, 0, maxDecades)); err != nil {
		return err
	}
	if len(r.Rates.Only) == 0 && r.Rates.From > r.Rates.To {
		return fault.New(fault.Usage, "%s: rates from 10^%d to 10^%d", what, r.Rates.From, r.Rates.To)
	}
	if len(r.Rates.Only) > maxOnly {
		return fault.New(fault.Usage, "%s: %d rates in rates.only, at most %d", what, len(r.Rates.Only), maxOnly)
	}
	for _, lr := range r.Rates.Only {
		if err := within(what, bound{"learning rate", lr, 1 / maxFactor, maxFactor}); err != nil {
			return err
		}
	}
	return nil
}

// checkOptions replaces the options by what JSON makes of them, so that a trial
// that comes back from a file or another machine is the same trial.
func (r *Recipe) checkOptions(what string) error {
	if len(r.Train.Options) == 0 {
		return nil
	}
	o := options{left: maxOptions}
	v, err := o.value("train.options", r.Train.Options, 0)
	if err != nil {
		return fault.Wrap(fault.Usage, err, "%s", what)
	}
	r.Train.Options = v.(map[string]any)
	return nil
}

// options walks through a tree of options; left is how many values it may still
// meet.
type options struct{ left int }

func (o *options) value(path string, v any, depth int) (any, error) {
	if o.left--; o.left < 0 || depth > maxNesting {
		return nil, fault.New(fault.Usage, "%s: more than %d values, or nested more than %d deep", path, maxOptions, maxNesting)
	}
	switch x := v.(type) {
	case nil, bool:
		return x, nil
	case string:
		if !utf8.ValidString(x) {
			return nil, fault.New(fault.Usage, "%s: a text that is not UTF-8", path)
		}
		return x, nil
	case int:
		return exact(path, x)
	case int64:
		return exact(path, x)
	case uint64:
		return exact(path, x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fault.New(fault.Usage, "%s is %v: not a finite number", path, x)
		}
		return x, nil
	case []any:
		out := make([]any, len(x))
		for i := range x {
			var err error
			if out[i], err = o.value(fmt.Sprintf("%s[%d]", path, i), x[i], depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		return o.object(path, x, depth)
	case map[any]any:
		return nil, fault.New(fault.Usage, "%s: a key that is no text", path).WithHint("put keys in quotes")
	}
	return nil, fault.New(fault.Usage, "%s: a %T has no JSON form", path, v).WithHint("put dates in quotes")
}

func (o *options) object(path string, x map[string]any, depth int) (any, error) {
	out := make(map[string]any, len(x))
	for _, k := range slices.Sorted(maps.Keys(x)) {
		if len(k) > maxText || !utf8.ValidString(k) {
			return nil, fault.New(fault.Usage, "%s: the key %q: at most %d bytes of UTF-8", path, k[:min(len(k), maxText)], maxText)
		}
		var err error
		if out[k], err = o.value(path+"."+k, x[k], depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// exact is an integer as JSON reads it, if that is the same number.
func exact[N int | int64 | uint64](path string, x N) (any, error) {
	f := float64(x)
	if math.Abs(f) > maxWhole || N(f) != x {
		return nil, fault.New(fault.Usage, "%s is %d: JSON numbers are exact up to 2^53 only", path, x).
			WithHint("put it in quotes if a text will do")
	}
	return f, nil
}

func (r *Recipe) engines() []string {
	if len(r.Engines) == 0 {
		return []string{EmbeddedEngine, TRLEngine}
	}
	return r.Engines
}

// Runs reports whether an engine can run the recipe, as the recipe says.
func (r *Recipe) Runs(engine string) bool { return slices.Contains(r.engines(), engine) }
