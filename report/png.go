package report

import (
	"bytes"
	"image/color"
	"image/png"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Size of the chart in pixels, and what fits on it.
const (
	pngWidth, pngHeight = 1600, 1000
	pngRuns             = 4
	pngSplit            = 1060 // where the learned fractions begin
)

var (
	paper  = color.RGBA{255, 255, 255, 255}
	ink    = color.RGBA{20, 24, 31, 255}
	soft   = color.RGBA{82, 91, 104, 255}
	faint  = color.RGBA{226, 230, 235, 255}
	blue   = color.RGBA{27, 95, 193, 255} // normal
	red    = color.RGBA{195, 39, 47, 255} // sealed
	grey   = color.RGBA{104, 113, 125, 255}
	paleR  = color.RGBA{245, 205, 207, 255}
	green  = color.RGBA{11, 110, 85, 255}
	paleG  = color.RGBA{220, 240, 233, 255}
	byRole = map[arena.Role]color.RGBA{arena.Sealed: red, arena.Unsealed: blue, arena.Random: grey}
)

// PNG writes the impact chart, 1600×1000: on the left the loss curves of class
// A recipes, those that learned most first, blue the normal model and red the
// sealed one; on the right how much of what the unsealed model learns the
// sealed one learns, by class. The same input gives the same bytes. Of more
// than four runs it draws the first four, and says so.
func PNG(w io.Writer, in []Input) error {
	if err := check(in); err != nil {
		return err
	}
	c := newCanvas(pngWidth, pngHeight, paper)
	if _, err := c.face(16, true); err != nil {
		return fault.Wrap(fault.General, err, "reading the built-in font")
	}
	runs := view(in)
	left := len(runs) - pngRuns
	runs = runs[:min(len(runs), pngRuns)]
	c.head(runs, left)
	c.curves(runs)
	c.fractions(runs)
	c.foot(runs, left)
	var b bytes.Buffer
	if err := png.Encode(&b, c.img); err != nil {
		return fault.Wrap(fault.General, err, "encoding the chart")
	}
	return write(w, b.Bytes(), "the chart")
}

func (c *canvas) head(runs []run, more int) {
	title := "Training on the sealed model: " + runs[0].Name + ", " + runs[0].Seal
	if len(runs) > 1 {
		title = "Training on sealed models: " + strconv.Itoa(len(runs)) + " runs"
		if more > 0 {
			title += " of " + strconv.Itoa(len(runs)+more)
		}
	}
	c.text(40, 58, title, style{size: 34, bold: true, ink: ink, width: pngWidth - 80})
	s := runs[0].sum
	c.text(40, 92, "Measured "+day(s.Date)+", recipe table "+plain(s.TableVersion, 40)+", suite "+plain(s.Suite, 40)+", engine "+plain(s.Engine, 40)+
		". Attacker’s best learning rate of a sweep.", style{size: 19, ink: soft, width: pngWidth - 80})
	x := 40.0
	for _, l := range []struct {
		text string
		role arena.Role
	}{{"normal (unsealed)", arena.Unsealed}, {"sealed", arena.Sealed}, {"random weights", arena.Random}} {
		dash, gap := dashOf(l.role)
		c.line([]point{{x, 122}, {x + 44, 122}}, 4, byRole[l.role], dash, gap)
		c.marker(x+22, 122, l.role)
		x += 54 + c.text(x+54, 128, l.text, style{size: 18, ink: ink}) + 28
	}
	c.text(x, 128, "thick: held-out text; thin: training", style{size: 18, ink: soft})
}

// dashOf makes random weights' lines differ by more than colour.
func dashOf(r arena.Role) (dash, gap float64) {
	if r == arena.Random {
		return 9, 6
	}
	return 0, 0
}

// marker is a role's shape: a square for sealed, a disc for the others.
func (c *canvas) marker(x, y float64, r arena.Role) {
	if r == arena.Sealed {
		c.rect(x-5, y-5, 10, 10, red)
		c.rect(x-2.5, y-2.5, 5, 5, paper)
		return
	}
	c.disc(x, y, 5.5, byRole[r])
	c.disc(x, y, 2.8, paper)
}

func (c *canvas) foot(runs []run, more int) {
	text := "Class A: off the shelf, training weights; a seal can hold these. B: acting on activations. C: informed, re-balanced first. No seal can hold B or C."
	c.text(40, pngHeight-44, text, style{size: 18, ink: ink, width: pngWidth - 80})
	text = "Held: learned less than " + share(arena.HeldBelow) + " of what the unsealed model learns below the bound. Inconclusive recipes taught not even the unsealed model and count nowhere."
	if more > 0 {
		text += " " + strconv.Itoa(more) + " more runs are in the HTML report."
	}
	c.text(40, pngHeight-18, text, style{size: 18, ink: soft, width: pngWidth - 80})
}

// panels are the recipes to draw, the same for every run: of class A those that
// learned most on any of them; without class A, of any class.
func panels(runs []run, n int) []string {
	type candidate struct {
		name string
		most float64
		at   int
	}
	var list []candidate
	for _, only := range []bool{true, false} {
		seen := map[string]int{}
		for i := range runs {
			for j := range runs[i].Recipes {
				r := &runs[i].Recipes[j]
				if only && r.Class != arena.WeightSpace || runs[i].result(r.score.BestTrial) == nil && runs[i].result(r.score.UnsealedTrial) == nil {
					continue
				}
				x := -1.0
				if v, ok := known(r.score.LearnedFraction); ok {
					x = v
				}
				at, ok := seen[r.score.Name]
				if !ok {
					at = len(list)
					seen[r.score.Name] = at
					list = append(list, candidate{r.score.Name, x, at})
				}
				list[at].most = max(list[at].most, x)
			}
		}
		if len(list) > 0 {
			break
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		switch {
		case a.most > b.most:
			return -1
		case a.most < b.most:
			return 1
		}
		return a.at - b.at
	})
	var out []string
	for _, l := range list[:min(n, len(list))] {
		out = append(out, l.name)
	}
	return out
}

// grid is how many panels stand side by side and above each other.
func grid(runs, recipes int) (cols, rows int) {
	if runs > 1 {
		return max(1, min(3, recipes)), runs
	}
	switch {
	case recipes <= 1:
		return 1, 1
	case recipes <= 2:
		return 1, 2
	case recipes <= 4:
		return 2, 2
	case recipes <= 6:
		return 2, 3
	}
	return 3, 3
}

func (c *canvas) curves(runs []run) {
	all := panels(runs, 9)
	if len(all) == 0 {
		c.text(40, 480, "The report was made without the trials: no curves.", style{size: 22, ink: soft})
		return
	}
	cols, rows := grid(len(runs), len(all))
	const x0, y0, x1, y1 = 40.0, 150.0, float64(pngSplit - 40), float64(pngHeight - 92)
	w, h, name := (x1-x0)/float64(cols), (y1-y0)/float64(rows), 0.0
	if len(runs) > 1 {
		name = 26
	}
	for i := range cols * rows {
		col, row := i%cols, i/cols
		r, k := &runs[0], i
		if len(runs) > 1 {
			r, k = &runs[row], col
		}
		if len(runs) > 1 && col == 0 {
			c.text(x0, y0+float64(row)*h+19, r.Label, style{size: 19, bold: true, ink: ink, width: x1 - x0})
		}
		if k < len(all) {
			c.panel(r, all[k], box{x0 + float64(col)*w, y0 + float64(row)*h + name, w - 18, h - 14 - name})
		}
	}
}

// known loss axis: from the lowest best loss to the start.
func (r *run) lossAxis() (lo, hi float64) {
	lo, hi = r.lowest(), math.Inf(-1)
	for _, x := range []float64{r.sum.Start, r.sum.Uniform, r.sum.Unigram} {
		if finite(x) {
			lo, hi = min(lo, x), max(hi, x)
		}
	}
	if !(lo < hi) {
		if !finite(lo) {
			lo = 0
		}
		hi = lo + 1
	}
	pad := 0.06 * (hi - lo)
	return max(0, lo-pad), hi + pad
}
