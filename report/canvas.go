package report

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// canvas draws anti-aliased shapes and text.
type canvas struct {
	img   *image.RGBA
	faces map[faceKey]font.Face
}

type faceKey struct {
	bold bool
	size float64
}

type point struct{ x, y float64 }

type align int

const (
	left align = iota
	centred
	right
)

var fonts = sync.OnceValues(func() ([2]*opentype.Font, error) {
	regular, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return [2]*opentype.Font{}, err
	}
	bold, err := opentype.Parse(gobold.TTF)
	return [2]*opentype.Font{regular, bold}, err
})

func newCanvas(w, h int, paper color.Color) *canvas {
	c := &canvas{img: image.NewRGBA(image.Rect(0, 0, w, h)), faces: map[faceKey]font.Face{}}
	draw.Draw(c.img, c.img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	return c
}

// face is a face of a size in pixels.
func (c *canvas) face(size float64, bold bool) (font.Face, error) {
	key := faceKey{bold, size}
	if f, ok := c.faces[key]; ok {
		return f, nil
	}
	both, err := fonts()
	if err != nil {
		return nil, err
	}
	src := both[0]
	if bold {
		src = both[1]
	}
	f, err := opentype.NewFace(src, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err == nil {
		c.faces[key] = f
	}
	return f, err
}

// style is how text looks.
type style struct {
	size  float64
	bold  bool
	ink   color.Color
	align align
	width float64 // cut to this, with an ellipsis; 0: never
	halo  bool    // in white around it, over curves
}

// text writes one line with its baseline at y and returns its width. Letters
// that the font lacks are drawn as its box.
func (c *canvas) text(x, y float64, s string, st style) float64 {
	f, err := c.face(st.size, st.bold)
	if err != nil {
		return 0 // the fonts are built in; a test parses them
	}
	s = fit(f, s, st.width)
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(st.ink), Face: f}
	w := float64(d.MeasureString(s)) / 64
	switch st.align {
	case centred:
		x -= w / 2
	case right:
		x -= w
	}
	dot := fixed.P(int(math.Round(x)), int(math.Round(y)))
	if st.halo {
		d.Src = image.White
		for i := range 9 {
			d.Dot = dot.Add(fixed.P(2*(i%3)-2, 2*(i/3)-2))
			d.DrawString(s)
		}
		d.Src = image.NewUniform(st.ink)
	}
	d.Dot = dot
	d.DrawString(s)
	return w
}

func fit(f font.Face, s string, width float64) string {
	limit := fixed.Int26_6(width * 64)
	if width <= 0 || font.MeasureString(f, s) <= limit {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && font.MeasureString(f, string(runes)+"…") > limit {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// fill paints polygons; they must all turn the same way, since coverage of
// opposite turns cancels.
func (c *canvas) fill(ink color.Color, polygons ...[]point) {
	box := bounds(polygons).Intersect(c.img.Bounds())
	if box.Empty() {
		return
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	for _, p := range polygons {
		for i, q := range p {
			x, y := float32(q.x-float64(box.Min.X)), float32(q.y-float64(box.Min.Y))
			if i == 0 {
				r.MoveTo(x, y)
			} else {
				r.LineTo(x, y)
			}
		}
		r.ClosePath()
	}
	r.Draw(c.img, box, image.NewUniform(ink), image.Point{})
}

func bounds(polygons [][]point) image.Rectangle {
	var out image.Rectangle
	for _, p := range polygons {
		for _, q := range p {
			at := image.Rect(int(math.Floor(q.x)), int(math.Floor(q.y)), int(math.Ceil(q.x))+1, int(math.Ceil(q.y))+1)
			out = out.Union(at)
		}
	}
	return out
}

func (c *canvas) rect(x, y, w, h float64, ink color.Color) {
	c.fill(ink, []point{{x, y}, {x + w, y}, {x + w, y + h}, {x, y + h}})
}

func (c *canvas) disc(x, y, r float64, ink color.Color) { c.fill(ink, circle(x, y, r)) }

func circle(x, y, r float64) []point {
	const corners = 24
	out := make([]point, corners)
	for i := range out {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		out[i] = point{x + r*cos, y + r*sin}
	}
	return out
}

// line draws a polyline with round joins; dash and gap are in pixels, a gap of 0
// draws it whole.
func (c *canvas) line(p []point, width float64, ink color.Color, dash, gap float64) {
	var shapes [][]point
	for _, part := range dashes(p, dash, gap) {
		for i := range part {
			if i > 0 {
				shapes = append(shapes, stroke(part[i-1], part[i], width))
			}
			if gap == 0 || i > 0 && i < len(part)-1 {
				shapes = append(shapes, circle(part[i].x, part[i].y, width/2))
			}
		}
	}
	c.fill(ink, shapes...)
}

// stroke is a segment's rectangle, turning as circle does.
func stroke(a, b point, width float64) []point {
	dx, dy := b.x-a.x, b.y-a.y
	n := math.Hypot(dx, dy)
	if n == 0 {
		return nil
	}
	ox, oy := -dy/n*width/2, dx/n*width/2
	return []point{{a.x + ox, a.y + oy}, {a.x - ox, a.y - oy}, {b.x - ox, b.y - oy}, {b.x + ox, b.y + oy}}
}

// dashes cuts a polyline.
func dashes(p []point, dash, gap float64) [][]point {
	if gap <= 0 || len(p) < 2 {
		return [][]point{p}
	}
	var out [][]point
	cur, on, left := []point{p[0]}, true, dash
	for i := 1; i < len(p); i++ {
		a, b := p[i-1], p[i]
		n := math.Hypot(b.x-a.x, b.y-a.y)
		for done := 0.0; done < n; {
			step := min(left, n-done)
			done, left = done+step, left-step
			at := point{a.x + (b.x-a.x)*done/n, a.y + (b.y-a.y)*done/n}
			if on {
				cur = append(cur, at)
			}
			if left > 0 {
				continue
			}
			if on {
				out = append(out, cur)
				left = gap
			} else {
				cur, left = []point{at}, dash
			}
			on = !on
		}
	}
	if on {
		out = append(out, cur)
	}
	return out
}
