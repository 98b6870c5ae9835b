package report

import (
	"image/color"
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/arena"
)

type box struct{ x, y, w, h float64 }

// axes maps steps and losses to pixels.
type axes struct {
	plot   box
	last   float64
	lo, hi float64
}

func (a *axes) at(d dot) point {
	y := min(max(d.loss, a.lo), a.hi)
	return point{a.plot.x + float64(d.step)/a.last*a.plot.w, a.plot.y + (a.hi-y)/(a.hi-a.lo)*a.plot.h}
}

// panel draws one recipe's curves.
func (c *canvas) panel(r *run, name string, b box) {
	var rec *recipe
	for i := range r.Recipes {
		if r.Recipes[i].score.Name == name {
			rec = &r.Recipes[i]
			break
		}
	}
	title := plain(name, nameLimit)
	st := style{size: 18, bold: true, ink: ink, width: b.w - 90}
	if rec == nil {
		c.text(b.x, b.y+20, title+" (not in this run)", st)
		return
	}
	verdict := string(rec.Verdict)
	if rec.score.LearnedFraction != nil {
		verdict += ", " + rec.Learned
	}
	st.width = b.w - 12 - c.text(b.x+b.w, b.y+20, verdict, style{size: 18, ink: soft, align: right})
	c.text(b.x, b.y+20, title, st)
	c.plot(r, rec, box{b.x + 34, b.y + 32, b.w - 34, b.h - 72})
}

func (c *canvas) plot(r *run, rec *recipe, b box) {
	a := axes{plot: b, last: 1}
	a.lo, a.hi = r.lossAxis()
	type curve struct {
		role arena.Role
		res  *arena.Result
	}
	var all []curve
	for _, k := range []curve{{arena.Random, r.result(rec.score.RandomTrial)}, {arena.Unsealed, r.result(rec.score.UnsealedTrial)}, {arena.Sealed, r.result(rec.score.BestTrial)}} {
		if k.res == nil {
			continue
		}
		all = append(all, k)
		for _, d := range append(heldOut(k.res), training(k.res)...) {
			a.last = max(a.last, float64(d.step))
		}
	}
	c.frame(&a)
	c.reference(&a, r.sum, false)
	for _, k := range all {
		c.thin(&a, training(k.res), k.role)
	}
	for _, k := range all {
		c.thick(&a, heldOut(k.res), k)
	}
	c.reference(&a, r.sum, true)
}

// frame draws grid, ticks and the axes' names.
func (c *canvas) frame(a *axes) {
	small := style{size: 15, ink: soft}
	for _, v := range nice(a.lo, a.hi, 4) {
		y := a.at(dot{0, v}).y
		c.rect(a.plot.x, y-0.5, a.plot.w, 1, faint)
		c.text(a.plot.x-6, y+5, strconv.FormatFloat(v, 'g', 4, 64), style{size: 15, ink: soft, align: right})
	}
	for _, v := range nice(0, a.last, 4) {
		if v != math.Trunc(v) {
			continue
		}
		x := a.plot.x + v/a.last*a.plot.w
		c.rect(x-0.5, a.plot.y+a.plot.h, 1, 5, soft)
		c.text(x, a.plot.y+a.plot.h+20, strconv.FormatFloat(v, 'f', 0, 64), style{size: 15, ink: soft, align: centred})
	}
	c.rect(a.plot.x, a.plot.y+a.plot.h, a.plot.w, 1, soft)
	c.text(a.plot.x-30, a.plot.y+a.plot.h+38, "training step; loss in nats per token", small)
}

// nice returns round values within a range, about n of them.
func nice(lo, hi float64, n int) []float64 {
	p := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	step := 10 * p
	for _, k := range []float64{1, 2, 5} {
		if k*p*float64(n) >= hi-lo {
			step = k * p
			break
		}
	}
	var out []float64
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi+1e-9*step && len(out) < 4*n; i++ {
		if i == 0 {
			i = 0 // not minus zero
		}
		out = append(out, math.Round(i*step*1e9)/1e9)
	}
	return out
}

// reference draws start, uniform guess and unigram, the bound in longer dashes:
// the lines, which lie below the curves, or their names, which lie above.
func (c *canvas) reference(a *axes, s *arena.Summary, names bool) {
	free := math.Inf(-1)
	for _, l := range []struct {
		name string
		loss float64
	}{{"start", s.Start}, {"uniform guess", s.Uniform}, {"unigram", s.Unigram}} {
		if !finite(l.loss) {
			continue
		}
		dash, gap, name := 2.0, 5.0, l.name
		if l.loss == s.Bound {
			dash, gap, name = 9, 5, name+" = bound"
		}
		y := a.at(dot{0, l.loss}).y
		if !names {
			c.line([]point{{a.plot.x, y}, {a.plot.x + a.plot.w, y}}, 1.5, soft, dash, gap)
			continue
		}
		if l.loss == s.Unigram {
			y -= 22 // above it: curves run below, where they end
		}
		if at := max(y+17, a.plot.y+12); at > free+14 {
			c.text(a.plot.x+a.plot.w-4, at, name, style{size: 14, ink: soft, align: right, halo: true})
			free = at
		}
	}
}

// thin draws training losses, lighter than the ones on held-out text.
func (c *canvas) thin(a *axes, dots []dot, role arena.Role) {
	k := byRole[role]
	light := color.RGBA{k.R/2 + 127, k.G/2 + 127, k.B/2 + 127, 255}
	for _, part := range pieces(dots) {
		c.line(a.points(part), 1.3, light, 0, 0)
	}
}

func (a *axes) points(dots []dot) []point {
	out := make([]point, len(dots))
	for i, d := range dots {
		out[i] = a.at(d)
	}
	return out
}

// pieces cuts a curve where its losses are not finite.
func pieces(dots []dot) [][]dot {
	var out [][]dot
	open := false
	for _, d := range dots {
		if !finite(d.loss) {
			open = false
			continue
		}
		if !open {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], d)
		open = true
	}
	return out
}

func (c *canvas) thick(a *axes, dots []dot, k struct {
	role arena.Role
	res  *arena.Result
}) {
	dash, gap := dashOf(k.role)
	var last dot
	for _, part := range pieces(dots) {
		p := a.points(part)
		c.line(p, 3.5, byRole[k.role], dash, gap)
		if len(dots) <= 24 {
			for _, q := range p {
				c.marker(q.x, q.y, k.role)
			}
		}
		last = part[len(part)-1]
	}
	if k.res.Status != arena.Diverged || len(dots) == 0 {
		return
	}
	// Where it diverged, a cross and the word.
	last.step = max(last.step, k.res.Steps)
	p := a.at(last)
	c.line([]point{a.at(dots[0]), p}, 2, byRole[k.role], 2, 5)
	c.line([]point{{p.x - 7, p.y - 7}, {p.x + 7, p.y + 7}}, 3, byRole[k.role], 0, 0)
	c.line([]point{{p.x - 7, p.y + 7}, {p.x + 7, p.y - 7}}, 3, byRole[k.role], 0, 0)
	c.text(p.x+12, p.y+20, wordDiverged, style{size: 15, bold: true, ink: byRole[k.role]})
}
