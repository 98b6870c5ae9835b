package report

import (
	"slices"
	"strconv"

	"github.com/neuroseal/neuroseal/arena"
)

// bars is the right side of the chart: learned fractions on one scale.
type bars struct {
	c         *canvas
	x, width  float64
	top, axis float64
	most      float64 // at the right end
}

// Heights of a row with a recipe or a class, and of a class's or run's name.
const (
	rowLeast, rowMost = 19, 34
	groupHeight       = 34
)

func (b *bars) at(f float64) float64 { return b.x + min(max(f, 0), b.most)/b.most*b.width }

// fractions draws how much was learned: of one run every recipe, of several the
// classes.
func (c *canvas) fractions(runs []run) {
	b := bars{c: c, x: pngSplit, width: pngWidth - pngSplit - 46, top: 194, axis: pngHeight - 144, most: 1}
	c.text(b.x, 170, "Learned, in % of what the unsealed model learns", style{size: 18, bold: true, ink: ink})
	for i := range runs {
		for j := range runs[i].Classes {
			for _, m := range runs[i].Classes[j].Marks {
				b.most = max(b.most, min(m.Fraction, 1.5))
			}
		}
	}
	b.scale(len(runs) == 1)
	if len(runs) == 1 {
		b.recipes(&runs[0])
	} else {
		b.classes(runs)
	}
}

func (b *bars) scale(single bool) {
	c, h := b.c, b.axis-b.top
	c.rect(b.x, b.top, b.at(arena.HeldBelow)-b.x, h, paleG)
	for _, f := range []float64{0, 0.25, 0.5, 0.75, 1} {
		c.rect(b.at(f)-0.5, b.top, 1, h, faint)
		c.text(b.at(f), b.axis+20, percent(f), style{size: 15, ink: soft, align: centred})
	}
	c.rect(b.at(arena.HeldBelow)-0.5, b.top, 1.5, h, green)
	c.text(b.x, b.axis+42, "green: held, below "+share(arena.HeldBelow), style{size: 15, ink: green})
	what := "bar: a recipe"
	if !single {
		what = "dot: a recipe; bar: the most learned"
	}
	c.text(b.x+b.width, b.axis+42, what, style{size: 15, ink: soft, align: right})
}

// recipes draws a bar for every scored recipe, by class, most learned first. If
// there is no room for all, those that learned least share a line.
func (b *bars) recipes(r *run) {
	scored, classes := 0, 0
	for i := range r.Classes {
		scored += len(r.Classes[i].Marks)
		classes++
	}
	room := b.axis - b.top - groupHeight*float64(classes)
	fits := int(room / rowLeast)
	height := min(rowMost, room/float64(max(1, min(scored, fits))))
	y := b.top
	for i := range r.Classes {
		k := &r.Classes[i]
		y = b.heading(k, y)
		// Every class keeps its part of the room.
		n := len(k.Marks)
		if scored > fits {
			n = min(n, max(2, fits*n/scored))
		}
		marks := slices.Clone(k.Marks)
		slices.SortStableFunc(marks, func(a, b mark) int {
			if a.Fraction > b.Fraction {
				return -1
			}
			if a.Fraction < b.Fraction {
				return 1
			}
			return 0
		})
		for j := range n {
			if j == n-1 && n < len(marks) {
				text := strconv.Itoa(len(marks)-j) + " more, each at most " + percent(marks[j].Fraction)
				b.c.text(b.x+8, y+height*0.72, text, style{size: 15, ink: soft, width: b.width})
			} else {
				b.recipe(marks[j], y, height)
			}
			y += height
		}
	}
}

func (b *bars) heading(k *class, y float64) float64 {
	c := b.c
	right := c.text(b.x+b.width, y+23, k.Rest(), style{size: 15, ink: soft, align: right})
	c.text(b.x+8, y+23, string(k.Class)+"  "+k.Short+": "+strconv.Itoa(k.Held)+" of "+strconv.Itoa(k.Tried)+" held",
		style{size: 17, bold: true, ink: ink, width: b.width - right - 20})
	return y + groupHeight
}

// recipe draws the name inside a long bar, beside a short one.
func (b *bars) recipe(m mark, y, h float64) {
	end := b.at(m.Fraction)
	b.c.rect(b.x, y+2, max(2, end-b.x), h-4, paleR)
	b.c.rect(end-1.5, y+2, 3, h-4, red)
	st := style{size: 15, ink: ink, width: b.width - 60}
	label, base := m.Name+"  "+percent(m.Fraction), y+h/2+5
	if end-b.x > b.width*0.55 {
		b.c.text(b.x+10, base, label, st)
		return
	}
	st.width = b.x + b.width - end - 12
	b.c.text(max(end, b.at(arena.HeldBelow))+8, base, label, st)
}

// classes draws for every run and class what was learned most, and a dot for
// every recipe.
func (b *bars) classes(runs []run) {
	const name = 26
	row := (b.axis - b.top - name*float64(len(runs))) / float64(len(classTexts)*len(runs))
	y := b.top
	for i := range runs {
		b.c.text(b.x+8, y+19, runs[i].Label, style{size: 17, bold: true, ink: ink, width: b.width - 8})
		y += name
		for j := range runs[i].Classes {
			b.class(&runs[i].Classes[j], y, row)
			y += row
		}
	}
}

func (b *bars) class(k *class, y, h float64) {
	c := b.c
	right := c.text(b.x+b.width, y+18, k.Rest(), style{size: 15, ink: soft, align: right})
	c.text(b.x+8, y+18, string(k.Class)+"  "+k.Short+": "+strconv.Itoa(k.Held)+" of "+strconv.Itoa(k.Tried)+" held",
		style{size: 16, ink: ink, width: b.width - right - 20})
	y, bar := y+25, min(40, h-32)
	if k.Worst != nil {
		c.rect(b.x, y, max(2, b.at(*k.Worst.score.LearnedFraction)-b.x), bar, paleR)
	}
	for i, m := range k.Marks {
		// Spread over the bar's height, so that equal ones stay countable.
		at := y + bar*(0.15+0.7*float64(i%5)/4)
		c.disc(b.at(m.Fraction), at, 5, paper)
		c.disc(b.at(m.Fraction), at, 4, red)
	}
}
