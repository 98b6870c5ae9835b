package informed

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// gauged is a model together with the freedom that its network leaves: which
// elements each class of factors multiplies.
type gauged struct {
	*Model
	net *arch.Model
	sol *gauge.Solution

	byGroup [][]*gauge.Tensor // the tensors that a group's classes multiply
}

// factors are the signed factors of all classes, by group; a group without any
// stays.
type factors [][]float64

// gauge derives a model's freedom.
func (m *Model) gauge() (*gauged, error) {
	net, err := m.network(1)
	if err != nil {
		return nil, err
	}
	sol, err := gauge.Solve(net.Graph)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "deriving pairs")
	}
	g := &gauged{Model: m, net: net, sol: sol, byGroup: make([][]*gauge.Tensor, len(sol.Groups))}
	for i := range sol.Tensors {
		t := &sol.Tensors[i]
		for _, ax := range t.Terms {
			for _, s := range ax.Segments {
				if b := g.byGroup[s.Group]; len(b) == 0 || b[len(b)-1] != t {
					g.byGroup[s.Group] = append(b, t)
				}
			}
		}
	}
	return g, nil
}

// still returns factors of one for all classes.
func (g *gauged) still() factors {
	f := make(factors, len(g.sol.Groups))
	for i := range f {
		f[i] = g.ones(i)
	}
	return f
}

func (g *gauged) ones(group int) []float64 {
	return slices.Repeat([]float64{1}, g.sol.Groups[group].Classes)
}

func (f factors) inverse() factors {
	out := make(factors, len(f))
	for g := range f {
		for _, x := range f[g] {
			out[g] = append(out[g], 1/x)
		}
	}
	return out
}

// power is f^n, exact for powers of two.
func power(f float64, n int) float64 {
	out := 1.0
	for range max(n, -n) {
		out *= f
	}
	if n < 0 {
		return 1 / out
	}
	return out
}

// apply multiplies the weights, and the norms' epsilons, by the factors.
func (g *gauged) apply(f factors) error {
	for i := range g.sol.Tensors {
		t := &g.sol.Tensors[i]
		scaleTensor(t, g.byName[t.Name].Data, f)
	}
	if g.sol.Residual < 0 {
		return nil
	}
	edits := map[string]any{}
	for _, e := range g.sol.Eps {
		v, ok := g.number(e.Key)
		if r := f[g.sol.Residual]; ok && r != nil && r[0] != 1 {
			edits[e.Key] = v * power(r[0], 2*e.Coef)
		}
	}
	if len(edits) == 0 {
		return nil
	}
	return g.setConfig(edits)
}

func scaleTensor(t *gauge.Tensor, x []float32, f factors) {
	var terms []walk
	var per [][]float64 // per term, the factor of each of its elements
	for _, ax := range t.Terms {
		p := slices.Repeat([]float64{1}, ax.Len)
		for _, s := range ax.Segments {
			if f[s.Group] == nil {
				continue
			}
			for k := range s.Count {
				p[s.Start+k] *= power(f[s.Group][s.First+k/s.Div], s.Coef)
			}
		}
		if slices.ContainsFunc(p, func(x float64) bool { return x != 1 }) {
			terms, per = append(terms, newWalk(t.Shape, ax.Axes)), append(per, p)
		}
	}
	if len(terms) == 0 {
		return
	}
	width := lastAxis(t.Shape)
	for row := 0; row*width < len(x); row++ {
		line, scale := x[row*width:(row+1)*width], 1.0
		var cols []float64
		for i, w := range terms {
			k := w.at(row)
			switch {
			case !w.along:
				scale *= per[i][k]
			case cols == nil:
				cols = per[i][k : k+width]
			default:
				cols = slices.Clone(cols)
				for j := range cols {
					cols[j] *= per[i][k+j]
				}
			}
		}
		for j := range line {
			v := float64(line[j]) * scale
			if cols != nil {
				v *= cols[j]
			}
			line[j] = float32(v)
		}
	}
}

// walk finds where rows of a tensor's last axis stand along some of its axes.
type walk struct {
	div, mod, mul []int
	along         bool // the last axis is among them: at gives the row's first element
	width         int
}

func newWalk(shape, axes []int) walk {
	w := walk{width: lastAxis(shape)}
	last := len(shape) - 1
	w.along = last >= 0 && slices.Contains(axes, last)
	div, mul := 1, 1
	for a := last - 1; a >= 0; a-- {
		if slices.Contains(axes, a) {
			w.div, w.mod, w.mul = append(w.div, div), append(w.mod, shape[a]), append(w.mul, mul)
			mul *= shape[a]
		}
		div *= shape[a]
	}
	return w
}

func (w walk) at(row int) int {
	k := 0
	for i := range w.div {
		k += row / w.div[i] % w.mod[i] * w.mul[i]
	}
	if w.along {
		k *= w.width
	}
	return k
}

func lastAxis(shape []int) int {
	if len(shape) == 0 {
		return 1
	}
	return shape[len(shape)-1]
}

// each visits every element of a tensor with its place in a term.
func each(t *gauge.Tensor, ax gauge.Axis, x []float32, visit func(place, element int)) {
	w, width := newWalk(t.Shape, ax.Axes), lastAxis(t.Shape)
	for row := 0; row*width < len(x); row++ {
		k := w.at(row)
		for j := range width {
			if w.along {
				visit(k+j, row*width+j)
			} else {
				visit(k, row*width+j)
			}
		}
	}
}

// side is what one side of a class measures: the elements that its factor
// multiplies, or those that it divides.
type side struct {
	max, sum, count float64 // largest element, sum of squares, elements that are not zero
	coef            int     // largest coefficient
	vector          bool    // measured on vectors, for want of a matrix
}

// rms is the root mean square of the elements that are not zero; 0 when all are.
func (s side) rms() float64 {
	if s.count == 0 {
		return 0
	}
	return math.Sqrt(s.sum / s.count)
}

// terms visits the terms of a group's tensors in which its classes stand.
func (g *gauged) terms(group int, visit func(t *gauge.Tensor, ax gauge.Axis, mine []gauge.Segment)) {
	for _, t := range g.byGroup[group] {
		for _, ax := range t.Terms {
			var mine []gauge.Segment
			for _, s := range ax.Segments {
				if s.Group == group {
					mine = append(mine, s)
				}
			}
			if len(mine) > 0 {
				visit(t, ax, mine)
			}
		}
	}
}

// sideOf is 0 for elements that a factor multiplies, 1 for those it divides.
func sideOf(s gauge.Segment) int {
	if s.Coef < 0 {
		return 1
	}
	return 0
}

// sides measures both sides of a group's classes. A side that has a matrix is
// measured on its matrices alone: biases follow.
func (g *gauged) sides(group int) [][2]side {
	var matrix [2]bool
	g.terms(group, func(t *gauge.Tensor, _ gauge.Axis, mine []gauge.Segment) {
		for _, s := range mine {
			matrix[sideOf(s)] = matrix[sideOf(s)] || len(t.Shape) > 1
		}
	})
	out := make([][2]side, g.sol.Groups[group].Classes)
	g.terms(group, func(t *gauge.Tensor, ax gauge.Axis, mine []gauge.Segment) {
		per := places(t, ax, g.byName[t.Name].Data)
		for _, s := range mine {
			k := sideOf(s)
			if matrix[k] && len(t.Shape) < 2 {
				continue
			}
			for i := range s.Count {
				d, p := &out[s.First+i/s.Div][k], per[s.Start+i]
				d.max, d.sum, d.count = math.Max(d.max, p.max), d.sum+p.sum, d.count+p.count
				d.coef, d.vector = max(d.coef, s.Coef, -s.Coef), len(t.Shape) < 2
			}
		}
	})
	return out
}

// places measures a tensor per place of a term.
func places(t *gauge.Tensor, ax gauge.Axis, x []float32) []side {
	out := make([]side, ax.Len)
	each(t, ax, x, func(p, i int) {
		v := math.Abs(float64(x[i]))
		if v == 0 || v-v != 0 {
			return
		}
		o := &out[p]
		o.max, o.sum, o.count = math.Max(o.max, v), o.sum+v*v, o.count+1
	})
	return out
}
