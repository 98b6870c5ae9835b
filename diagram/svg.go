package diagram

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// Sizes of the drawing, in pixels.
const (
	rowGap, columnGap = 34, 18
	lineHeight        = 14
	charWidth         = 6.6
	margin            = 24
	detour            = 240 // edges longer than this go around
)

type box struct{ x, y, w, h float64 }

// SVG writes the diagram as a picture on its own.
func (d *Diagram) SVG(w io.Writer) error {
	boxes, width, height := d.place()
	legend := float64(len(d.Groups))*18 + 3*lineHeight
	for _, g := range d.Groups {
		width = max(width, charWidth*float64(len(g.ID)+12)+2*margin)
	}
	width = max(width, charWidth*float64(len(d.caption()))*1.2+2*margin)
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`+"\n", width, height+legend, width, height+legend)
	fmt.Fprintf(b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(d.Title))
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="13" font-weight="bold">%s</text>`+"\n", margin, margin, html.EscapeString(d.caption()))
	for _, e := range d.edges {
		drawEdge(b, boxes[e.from], boxes[e.to], e.groups)
	}
	for i, it := range d.items {
		drawItem(b, boxes[i], it)
	}
	fmt.Fprintf(b, `<text x="%d" y="%.0f" font-weight="bold">Groups: classes that share a factor move together</text>`+"\n", margin, height+lineHeight)
	for i, g := range d.Groups {
		y := height + 2*lineHeight + float64(i)*18
		fmt.Fprintf(b, `<rect x="%d" y="%.0f" width="12" height="12" fill="%s"/><text x="%d" y="%.0f">%s: %d</text>`+"\n",
			margin, y-10, color(i), margin+18, y, html.EscapeString(g.ID), g.Classes)
	}
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

func drawEdge(w io.Writer, from, to box, groups []int) {
	x1, y1, x2, y2 := from.x+from.w/2, from.y+from.h, to.x+to.w/2, to.y
	bend := max((y2-y1)/2, 10)
	side := 0.0
	if y2-y1 > detour { // around what stands between
		side = max(-160, 8-min(x1, x2))
	}
	colors := []string{"#bbb"}
	width := 1.0
	if len(groups) > 0 {
		colors, width = nil, 1.8
		for _, g := range groups[:min(len(groups), 4)] {
			colors = append(colors, color(g))
		}
	}
	for i, c := range colors {
		off := (float64(i) - float64(len(colors)-1)/2) * 2.4
		fmt.Fprintf(w, `<path d="M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n",
			x1+off, y1, x1+off+side, y1+bend, x2+off+side, y2-bend, x2+off, y2, c, width)
	}
}

func drawItem(w io.Writer, b box, it item) {
	stroke, fill, more := "#777", "#fff", ""
	switch it.shape {
	case weight:
		fill = "#f1f3f5"
	case move:
		stroke = "none"
	case outside:
		more = ` stroke-dasharray="4 3"`
	}
	radius := 7.0
	if it.shape == weight {
		radius = 0
	}
	fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.0f" fill="%s" stroke="%s"%s/>`+"\n", b.x, b.y, b.w, b.h, radius, fill, stroke, more)
	for i, g := range it.groups {
		step := b.w / float64(len(it.groups))
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="3" fill="%s"/>`+"\n", b.x+float64(i)*step, b.y+b.h-3, step, color(g))
	}
	for i, l := range it.lines {
		gray := ""
		if i > 0 {
			gray = ` fill="#666" font-size="10"`
		}
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="middle"%s>%s</text>`+"\n", b.x+b.w/2, b.y+13+float64(i)*(lineHeight-2), gray, html.EscapeString(l))
	}
}

// place lays the items out in rows: what a row reads stands above it, and every
// leaf stands right above its first reader.
func (d *Diagram) place() (boxes []box, width, height float64) {
	rows := d.rows()
	boxes = make([]box, len(d.items))
	height = 2 * margin
	for _, row := range rows {
		x, tall := float64(margin), 0.0
		for _, i := range row {
			chars := 0
			for _, l := range d.items[i].lines {
				chars = max(chars, len([]rune(l)))
			}
			b := box{x, height, charWidth*float64(chars) + 12, float64(len(d.items[i].lines))*(lineHeight-2) + 8}
			boxes[i] = b
			x += b.w + columnGap
			tall = max(tall, b.h)
		}
		width = max(width, x-columnGap+margin)
		height += tall + rowGap
	}
	for _, row := range rows { // centre
		last := boxes[row[len(row)-1]]
		shift := (width - margin - (last.x + last.w)) / 2
		for _, i := range row {
			boxes[i].x += shift
		}
	}
	return boxes, width, height
}

// rows assigns items to rows and orders each by where its neighbours stand.
func (d *Diagram) rows() [][]int {
	level := make([]int, len(d.items))
	in := make([]int, len(d.items))
	order := d.sorted(in)
	for _, i := range order {
		for _, e := range d.edges {
			if e.from == i {
				level[e.to] = max(level[e.to], level[i]+1)
			}
		}
	}
	for i := range d.items {
		if in[i] == 0 { // a leaf: as low as its readers let it
			low := -1
			for _, e := range d.edges {
				if e.from == i && (low < 0 || level[e.to]-1 < low) {
					low = level[e.to] - 1
				}
			}
			level[i] = max(low, 0)
		}
	}
	var rows [][]int
	for i, l := range level {
		for len(rows) <= l {
			rows = append(rows, nil)
		}
		rows[l] = append(rows[l], i)
	}
	rows = slices.DeleteFunc(rows, func(r []int) bool { return len(r) == 0 })
	pos := make([]float64, len(d.items))
	for _, r := range rows {
		for k, i := range r {
			pos[i] = float64(k)
		}
	}
	for pass := range 8 {
		for _, r := range rows {
			d.barycentre(r, pos, pass%2 == 0)
		}
	}
	return rows
}

// barycentre sorts a row by the mean place of what its items read, or of what
// reads them.
func (d *Diagram) barycentre(row []int, pos []float64, down bool) {
	want := map[int]float64{}
	for _, i := range row {
		sum, n := 0.0, 0
		for _, e := range d.edges {
			switch {
			case down && e.to == i:
				sum, n = sum+pos[e.from], n+1
			case !down && e.from == i:
				sum, n = sum+pos[e.to], n+1
			}
		}
		want[i] = pos[i]
		if n > 0 {
			want[i] = sum / float64(n)
		}
	}
	slices.SortStableFunc(row, func(a, b int) int {
		switch {
		case want[a] < want[b]:
			return -1
		case want[a] > want[b]:
			return 1
		}
		return 0
	})
	mid := float64(len(row)-1) / 2
	for k, i := range row {
		pos[i] = float64(k) - mid
	}
}

// sorted returns the items so that each stands after what it reads, and counts
// what each reads.
func (d *Diagram) sorted(in []int) []int {
	for _, e := range d.edges {
		in[e.to]++
	}
	left := slices.Clone(in)
	var out []int
	for i := range left {
		if left[i] == 0 {
			out = append(out, i)
		}
	}
	for k := 0; k < len(out); k++ {
		for _, e := range d.edges {
			if e.from == out[k] {
				if left[e.to]--; left[e.to] == 0 {
					out = append(out, e.to)
				}
			}
		}
	}
	return out
}

// String is the diagram's SVG.
func (d *Diagram) String() string {
	var s strings.Builder
	_ = d.SVG(&s) // a strings.Builder does not fail
	return s.String()
}
