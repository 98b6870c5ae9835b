package arena

import (
	"regexp"
	"slices"

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
	// Options are passed to PEFT's configuration of the tuner as they are.
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
// 10^From to 10^To, Every decades apart (1 if zero).
type Rates struct {
	From  int       `yaml:"from" json:"from"`
	To    int       `yaml:"to" json:"to"`
	Every int       `yaml:"every,omitempty" json:"every,omitempty"`
	Only  []float64 `yaml:"only,omitempty" json:"only,omitempty"` // no sweep: just these
}

var recipeName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// Kinds of training that package arena/train knows.
var embeddedKinds = []string{"full", "tensors", "norms", "embeddings", "head", "lora", "dora", "ia3", "soft-prompt", "residual"}

// check says what is wrong with a recipe.
func (r *Recipe) check() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Usage, "recipe "+r.Name+": "+format, args...)
	}
	if !recipeName.MatchString(r.Name) {
		return fault.New(fault.Usage, "recipe name %q: lower case letters, digits, dots and hyphens, at most 64", r.Name)
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
		return bad("optimizer.method is missing")
	}
	if len(r.Rates.Only) == 0 && (r.Rates.From > r.Rates.To || r.Rates.To-r.Rates.From > 80 || r.Rates.Every < 0) {
		return bad("rates from 10^%d to 10^%d", r.Rates.From, r.Rates.To)
	}
	for _, lr := range r.Rates.Only {
		if !(lr > 0) {
			return bad("learning rate %v", lr)
		}
	}
	if r.Warmup < 0 || r.Warmup > 1 || r.Clip < 0 || r.Steps < 0 || r.Batch < 0 {
		return bad("warmup is a part of the steps (0 to 1); clip, steps and batch are not negative")
	}
	return nil
}

func (r *Recipe) engines() []string {
	if len(r.Engines) == 0 {
		return []string{EmbeddedEngine, TRLEngine}
	}
	return r.Engines
}

// Runs reports whether an engine can run the recipe, as the recipe says.
func (r *Recipe) Runs(engine string) bool { return slices.Contains(r.engines(), engine) }
