package report

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/arena"
)

// What the page's script draws. Names are short: there are thousands of points.
type (
	drawnRun struct {
		Lines   []json.RawMessage `json:"lines"` // start, unigram, uniform, bound
		Low     json.RawMessage   `json:"low"`   // lowest loss of any best run
		First   int               `json:"first"` // recipe to show first
		Recipes []drawnRecipe     `json:"recipes"`
	}
	drawnRecipe struct {
		Name    string              `json:"n"`
		About   string              `json:"a"`
		Class   arena.Class         `json:"c"`
		Verdict arena.Verdict       `json:"v"`
		Reason  string              `json:"w,omitempty"`
		Learned string              `json:"l"`
		Curves  []drawnCurve        `json:"k"`
		Points  [][]json.RawMessage `json:"p"` // role, rate, seed, diverged, best, final, long
	}
	drawnCurve struct {
		Role     int             `json:"r"`
		Rate     json.RawMessage `json:"lr"`
		Seed     uint64          `json:"s"`
		Diverged bool            `json:"d,omitempty"`
		Training series          `json:"t"`
		HeldOut  series          `json:"e"`
	}
	// series is steps and losses.
	series [2][]json.RawMessage
)

// Points of training curves on a page, and their bounds per curve. Held-out
// curves are short and stay whole up to the upper bound.
const (
	pagePoints           = 12000
	curveLeast, curveMax = 24, 96
)

var roles = []arena.Role{arena.Sealed, arena.Unsealed, arena.Random}

func drawing(runs []run) []drawnRun {
	curves := 0
	for i := range runs {
		curves += len(roles) * len(runs[i].Recipes)
	}
	n := min(curveMax, max(curveLeast, pagePoints/max(1, curves)))
	out := make([]drawnRun, len(runs))
	for i := range runs {
		out[i] = drawRun(&runs[i], n)
	}
	return out
}

func drawRun(r *run, n int) drawnRun {
	s := r.sum
	out := drawnRun{Lines: numbers(4, s.Start, s.Unigram, s.Uniform, s.Bound), Low: raw(r.lowest(), 4)}
	most := math.Inf(-1)
	for i := range r.Recipes {
		rec := &r.Recipes[i]
		// What learned most off the shelf is shown first.
		if x, ok := known(rec.score.LearnedFraction); ok && rec.Class == arena.WeightSpace && x > most {
			out.First, most = i, x
		}
		d := drawnRecipe{Name: rec.Name, About: rec.About, Class: rec.Class, Verdict: rec.Verdict, Reason: rec.Reason, Learned: rec.Learned,
			Curves: []drawnCurve{}, Points: [][]json.RawMessage{}}
		for role, id := range []string{rec.score.BestTrial, rec.score.UnsealedTrial, rec.score.RandomTrial} {
			if res := r.result(id); res != nil {
				d.Curves = append(d.Curves, drawCurve(role, res, n))
			}
		}
		for _, p := range rec.score.Points {
			d.Points = append(d.Points, drawPoint(p))
		}
		out.Recipes = append(out.Recipes, d)
	}
	return out
}

func drawCurve(role int, r *arena.Result, n int) drawnCurve {
	return drawnCurve{Role: role, Rate: raw(r.Trial.LR, 4), Seed: r.Trial.Seed, Diverged: r.Status == arena.Diverged,
		Training: seriesOf(thin(training(r), n)), HeldOut: seriesOf(thin(heldOut(r), curveMax))}
}

func seriesOf(dots []dot) series {
	out := series{{}, {}}
	for _, d := range dots {
		out[0] = append(out[0], json.RawMessage(strconv.Itoa(d.step)))
		out[1] = append(out[1], raw(d.loss, 4))
	}
	return out
}

func drawPoint(p arena.Point) []json.RawMessage {
	role := 0
	for i, r := range roles {
		if r == p.Role {
			role = i
		}
	}
	flag := func(b bool) json.RawMessage {
		if b {
			return json.RawMessage("1")
		}
		return json.RawMessage("0")
	}
	return []json.RawMessage{json.RawMessage(strconv.Itoa(role)), raw(p.LR, 4), json.RawMessage(strconv.FormatUint(p.Seed, 10)),
		flag(p.Status == arena.Diverged), raw(float64(p.Best), 4), raw(float64(p.Final), 4), flag(p.Long)}
}

func numbers(digits int, x ...float64) []json.RawMessage {
	out := make([]json.RawMessage, len(x))
	for i := range x {
		out[i] = raw(x[i], digits)
	}
	return out
}

// raw is a number in JSON with few digits, null where it is not finite.
func raw(x float64, digits int) json.RawMessage {
	if !finite(x) {
		return json.RawMessage("null")
	}
	return json.RawMessage(short(x, digits))
}

// short is the shortest decimal form of x rounded to some digits.
func short(x float64, digits int) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', digits, 64), 64)
	if err != nil {
		rounded = x // out of range by rounding: keep what there is
	}
	plain, exponent := strconv.FormatFloat(rounded, 'f', -1, 64), strconv.FormatFloat(rounded, 'e', -1, 64)
	if len(exponent) < len(plain) {
		return exponent
	}
	return plain
}
