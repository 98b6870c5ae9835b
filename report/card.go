package report

import (
	"encoding/json"
	"io"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// cardSchema is the version of the card's JSON, spec/card.schema.json.
const cardSchema = 1

// card is the JSON card. Numbers that are not finite, and figures that were not
// measured, are null.
type card struct {
	Schema int `json:"schema"`
	cardModel
	Models []cardModel `json:"models,omitempty"`
}

type cardModel struct {
	Date         string       `json:"date"`
	TableVersion string       `json:"table_version"`
	Suite        string       `json:"suite"`
	Engine       string       `json:"engine"`
	ToolVersion  string       `json:"tool_version"`
	Model        arena.Model  `json:"model"`
	Reference    arena.Model  `json:"reference"`
	HeldBelow    float64      `json:"held_below"`
	Start        arena.Number `json:"start"`
	Unigram      arena.Number `json:"unigram"`
	Uniform      arena.Number `json:"uniform"`
	Bound        arena.Number `json:"bound"`

	Recipes []cardRecipe `json:"recipes"`

	Held           int `json:"held"`
	Tried          int `json:"tried"`
	InvariantHeld  int `json:"invariant_held"`
	InvariantTried int `json:"invariant_tried"`
	InformedHeld   int `json:"informed_held"`
	InformedTried  int `json:"informed_tried"`
	Inconclusive   int `json:"inconclusive"`
	NotRun         int `json:"not_run"`

	Cheapest *cardBreak `json:"cheapest_break"`
	Notes    []string   `json:"notes"`
}

type cardRecipe struct {
	Name            string        `json:"name"`
	Class           arena.Class   `json:"class"`
	Informed        bool          `json:"informed"`
	Verdict         arena.Verdict `json:"verdict"`
	Reason          string        `json:"reason,omitempty"`
	BestLoss        *arena.Number `json:"best_loss"`
	UnsealedBest    *arena.Number `json:"unsealed_best_loss"`
	LearnedFraction *arena.Number `json:"learned_fraction"`
	BoundedFraction *arena.Number `json:"bounded_learned_fraction"`
	CostMultiplier  *arena.Number `json:"cost_multiplier"`
	CostCensoredAt  arena.Number  `json:"cost_censored_at"`
}

type cardBreak struct {
	Recipe    string       `json:"recipe"`
	Class     arena.Class  `json:"class"`
	Seconds   arena.Number `json:"seconds"`
	BytesRead int64        `json:"bytes_read"`
}

// CardJSON writes the card as JSON, described by spec/card.schema.json. The
// fields at the top are the first run's. With several runs "models" holds the
// same fields of every run, the first included.
func CardJSON(w io.Writer, in []Input) error {
	if err := check(in); err != nil {
		return err
	}
	out := card{Schema: cardSchema, cardModel: cardOf(in[0].Summary)}
	if len(in) > 1 {
		for i := range in {
			out.Models = append(out.Models, cardOf(in[i].Summary))
		}
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fault.Wrap(fault.General, err, "encoding the card")
	}
	return write(w, append(raw, '\n'), "the card")
}

// write writes a finished output.
func write(w io.Writer, raw []byte, what string) error {
	if _, err := w.Write(raw); err != nil {
		return fault.Wrap(fault.General, err, "writing %s", what)
	}
	return nil
}

func cardOf(s *arena.Summary) cardModel {
	out := cardModel{
		Date: s.Date, TableVersion: s.TableVersion, Suite: s.Suite, Engine: s.Engine, ToolVersion: s.ToolVersion,
		Model: s.Sealed, Reference: s.Reference, HeldBelow: arena.HeldBelow,
		Start: arena.Number(s.Start), Unigram: arena.Number(s.Unigram), Uniform: arena.Number(s.Uniform), Bound: arena.Number(s.Bound),
		Recipes: []cardRecipe{},
		Held:    s.Held, Tried: s.Tried, InvariantHeld: s.InvariantHeld, InvariantTried: s.InvariantTry,
		InformedHeld: s.InformedHeld, InformedTried: s.InformedTried, Inconclusive: s.Inconclusive,
		Notes: append([]string{}, s.Notes...),
	}
	for i := range s.Recipes {
		r := &s.Recipes[i]
		if r.Verdict == arena.NotRun {
			out.NotRun++
		}
		out.Recipes = append(out.Recipes, cardRecipe{
			Name: r.Name, Class: r.Class, Informed: r.Class == arena.Informed, Verdict: r.Verdict, Reason: r.Reason,
			BestLoss: number(r.BestLoss), UnsealedBest: number(r.UnsealedBestLoss),
			LearnedFraction: number(r.LearnedFraction), BoundedFraction: number(r.BoundedFraction),
			CostMultiplier: number(r.CostMultiplier), CostCensoredAt: arena.Number(r.CostCensoredAt),
		})
	}
	if b := s.Cheapest; b != nil {
		out.Cheapest = &cardBreak{b.Recipe, b.Class, arena.Number(b.Seconds), b.BytesRead}
	}
	return out
}

func number(x *float64) *arena.Number {
	if x == nil {
		return nil
	}
	n := arena.Number(*x)
	return &n
}
