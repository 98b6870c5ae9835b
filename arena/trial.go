package arena

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// schema is the version of trials and results; a change of meaning changes
// every trial's identity.
const schema = 1

// Role is the part that a model plays.
type Role string

// The roles.
const (
	Sealed   Role = "sealed"   // the model under attack
	Unsealed Role = "unsealed" // the reference: the original, or the re-balanced model
	Random   Role = "random"   // the same shape with random weights
)

// Trial is one training: everything that its outcome depends on. Models and
// texts are named by digest, so a moved folder is still the same trial.
type Trial struct {
	Schema   int     `json:"schema"`
	Engine   string  `json:"engine"`
	Recipe   Recipe  `json:"recipe"`
	Role     Role    `json:"role"`
	Model    string  `json:"model"`          // digest of the attacked folder, before preparation
	Base     string  `json:"base,omitempty"` // of the public base, where the recipe uses it
	Target   string  `json:"target"`         // digests of the texts
	Retained string  `json:"retained"`
	LR       float64 `json:"lr"`
	Seed     uint64  `json:"seed"`
	Steps    int     `json:"steps"`
	Batch    int     `json:"batch"`  // sequences
	Window   int     `json:"window"` // tokens of a sequence
	Eval     int     `json:"eval"`   // held-out windows
	Evals    int     `json:"evals"`  // evaluations, besides the one at the start
}

// ID is the trial's content hash: 16 bytes of SHA-256 in hex. The recipe's
// name and description are left out: they change nothing, and two recipes of one
// name cannot be taken for each other.
func (t Trial) ID() string {
	t.Recipe.Name, t.Recipe.About, t.Recipe.Rates, t.Recipe.Engines = "", "", Rates{}, nil
	t.Recipe.Class, t.Recipe.Random = "", false
	raw, err := json.Marshal(t)
	if err != nil {
		panic(err) // a recipe's check leaves only values that have JSON forms
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// check says what is wrong with a trial that did not come from a table's check.
func (t *Trial) check() error {
	if err := t.Recipe.check(); err != nil {
		return err
	}
	if t.Engine != EmbeddedEngine && t.Engine != TRLEngine {
		return fault.New(fault.Usage, "unknown engine %q", t.Engine)
	}
	if t.Role != Sealed && t.Role != Unsealed && t.Role != Random {
		return fault.New(fault.Usage, "unknown role %q", t.Role)
	}
	if !(t.LR > 0) || math.IsInf(t.LR, 0) {
		return fault.New(fault.Usage, "learning rate %v", t.LR)
	}
	// A long run has that many times the suite's steps and evaluations.
	return within("trial of recipe "+t.Recipe.Name,
		whole("steps", t.Steps, 1, maxSteps*maxLong), whole("batch", t.Batch, 1, maxBatch), whole("window", t.Window, 2, maxWindow),
		whole("eval", t.Eval, 1, maxEval), whole("evals", t.Evals, 1, maxEvals*maxLong))
}

// Paths say where a trial finds what it names.
type Paths struct {
	Model     string `json:"model"` // prepared, if the recipe prepares
	Base      string `json:"base,omitempty"`
	Target    string `json:"target"`    // specification of the text, as corpus.Open takes it
	Retained  string `json:"retained"`  // likewise
	Tokenizer string `json:"tokenizer"` // folder whose tokenizer is meant

	// What preparing Model cost.
	PrepareSeconds float64 `json:"prepare_seconds,omitempty"`
	BytesRead      int64   `json:"bytes_read,omitempty"`
}

// Status is how a trial ended.
type Status string

// The ways in which a trial ends. A trial that failed for another reason (no
// memory, a lost worker) has no result and is run again.
const (
	Done       Status = "done"
	Diverged   Status = "diverged"   // the loss left all bounds; stopped early
	Impossible Status = "impossible" // the recipe does not apply to this model; Reason says why
)

// Number is a float64 whose JSON form is null where it is not finite.
type Number float64

// MarshalJSON writes the shortest form that keeps the value, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as NaN.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// Finite reports whether n is a number.
func (n Number) Finite() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// Eval is one look at the held-out texts; losses in nats per token.
type Eval struct {
	Step     int    `json:"step"`
	Target   Number `json:"target"`
	Retained Number `json:"retained"`
}

// Result is a finished trial: one line of a run's trials.jsonl.
type Result struct {
	ID     string `json:"id"`
	Trial  Trial  `json:"trial"`
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"`

	Losses []Number `json:"losses"` // training loss of every step
	Evals  []Eval   `json:"evals"`  // the first is before training

	Steps     int     `json:"steps"` // taken
	Tokens    int64   `json:"tokens"`
	Trainable int64   `json:"trainable"` // parameters trained
	Seconds   float64 `json:"seconds"`
	Peak      int64   `json:"peak_bytes"` // the engine's memory

	// What preparing the weights cost, beyond the training.
	PrepareSeconds float64 `json:"prepare_seconds"`
	BytesRead      int64   `json:"bytes_read"`

	Versions map[string]string `json:"versions"`
	Time     string            `json:"time"` // RFC 3339, UTC
}

// Start is the held-out target loss before training.
func (r *Result) Start() float64 {
	if len(r.Evals) == 0 {
		return math.NaN()
	}
	return float64(r.Evals[0].Target)
}

// Best is the lowest held-out target loss that the attacker saw: he keeps the
// best of his checkpoints. Not a number if there is none.
func (r *Result) Best() float64 {
	best := math.NaN()
	for _, e := range r.Evals {
		if x := float64(e.Target); e.Target.Finite() && !(x >= best) {
			best = x
		}
	}
	return best
}

// BestWithin is Best over the checkpoints that lost at most the given part of
// what the model knew: retained loss at most (1 + part) times the first.
func (r *Result) BestWithin(part float64) float64 {
	best := math.NaN()
	for _, e := range r.Evals {
		if !(float64(e.Retained) <= (1+part)*float64(r.Evals[0].Retained)) {
			continue
		}
		if x := float64(e.Target); e.Target.Finite() && !(x >= best) {
			best = x
		}
	}
	return best
}
