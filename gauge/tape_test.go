package gauge_test

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// tape runs a graph in float64 and notes every result's derivatives by the
// elements that it was computed from, so that any output can be traced back.
// It shares no code with package probe.
type tape struct {
	g      *graph.Graph
	x      [][]float64
	from   []derivatives
	eps    map[string]int // place of each epsilon key among the variables
	inputs func(n *graph.Node) []float64
	slots  map[graph.ID][]int32 // source of every element of a move
}

// derivatives are those of one node's elements, one after the other: ptr holds
// where each begins.
type derivatives struct {
	ptr  []int32
	in   []int16 // which operand; epsilon where negative
	at   []int32
	by   []float64
	node []graph.ID // operands
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// row collects the derivatives of one element.
func (d *derivatives) add(in, at int, by float64) {
	if by != 0 {
		d.in, d.at, d.by = append(d.in, int16(in)), append(d.at, int32(at)), append(d.by, by)
	}
}

func (d *derivatives) end() { d.ptr = append(d.ptr, int32(len(d.at))) }

// run evaluates the graph.
func (t *tape) run() {
	k := len(t.g.Nodes)
	t.x, t.from = make([][]float64, k), make([]derivatives, k)
	if t.slots == nil {
		t.slots = map[graph.ID][]int32{}
	}
	for i := range t.g.Nodes {
		n := &t.g.Nodes[i]
		t.from[i] = derivatives{ptr: []int32{0}, node: n.In}
		t.x[i] = t.eval(graph.ID(i), n, &t.from[i])
	}
}

func (t *tape) eval(id graph.ID, n *graph.Node, d *derivatives) []float64 {
	if len(n.In) == 0 {
		return t.inputs(n)
	}
	a := t.x[n.In[0]]
	switch {
	case n.Op == graph.OpConcat:
		return t.concat(n, d)
	case n.Op == graph.OpIndex, n.Op == graph.OpGather, n.Op == graph.OpEmbedding:
		return pick(a, t.lookup(n), d)
	case n.Op.Move():
		s, ok := t.slots[id]
		if !ok {
			s = t.place(n)
			t.slots[id] = s
		}
		return pick(a, s, d)
	case n.Op == graph.OpWhere, n.Op >= graph.OpAdd && n.Op <= graph.OpMinimum,
		n.Op == graph.OpEqual, n.Op == graph.OpLess, n.Op == graph.OpAnd, n.Op == graph.OpOr:
		return t.binary(n, d)
	}
	switch n.Op {
	case graph.OpLinear:
		return t.linear(n, d)
	case graph.OpMatMul:
		return t.matmul(n, d)
	case graph.OpConv:
		return t.conv(n, d)
	case graph.OpScatter, graph.OpScatterAdd:
		return t.scatter(n, d)
	case graph.OpOneHot:
		out := make([]float64, elements(n.Shape))
		for i, v := range a {
			out[i*n.K+int(v)] = 1
		}
		d.ptr = make([]int32, len(out)+1)
		return out
	}
	if f := pointwise(n); f != nil {
		out := make([]float64, len(a))
		for i, v := range a {
			y, dy := f(v)
			out[i] = y
			if !n.Int {
				d.add(0, i, dy)
			}
			d.end()
		}
		return out
	}
	return t.along(n, a, d)
}

// pointwise returns an element-wise function and its derivative.
func pointwise(n *graph.Node) func(float64) (y, dy float64) {
	s := n.Scalar
	truth := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	tanhGELU := func(v float64) (float64, float64) {
		c := math.Sqrt(2 / math.Pi)
		th := math.Tanh(c * (v + 0.044715*v*v*v))
		return 0.5 * v * (1 + th), 0.5*(1+th) + 0.5*v*(1-th*th)*c*(1+3*0.044715*v*v)
	}
	switch n.Op {
	case graph.OpAddScalar:
		return func(v float64) (float64, float64) { return v + s, 1 }
	case graph.OpMulScalar:
		return func(v float64) (float64, float64) { return v * s, s }
	case graph.OpPow:
		return func(v float64) (float64, float64) { return math.Pow(v, s), s * math.Pow(v, s-1) }
	case graph.OpClamp:
		return func(v float64) (float64, float64) {
			return max(n.Min, min(n.Max, v)), truth(v > n.Min && v < n.Max)
		}
	case graph.OpNeg:
		return func(v float64) (float64, float64) { return -v, -1 }
	case graph.OpAbs:
		return func(v float64) (float64, float64) { return math.Abs(v), math.Copysign(1, v) }
	case graph.OpReLU:
		return func(v float64) (float64, float64) { return max(v, 0), truth(v > 0) }
	case graph.OpLeakyReLU:
		return func(v float64) (float64, float64) {
			if v > 0 {
				return v, 1
			}
			return s * v, s
		}
	case graph.OpSiLU:
		return func(v float64) (float64, float64) { g := sigmoid(v); return v * g, g * (1 + v*(1-g)) }
	case graph.OpGELU:
		return func(v float64) (float64, float64) {
			p := 0.5 * (1 + math.Erf(v/math.Sqrt2))
			return v * p, p + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi)
		}
	case graph.OpGELUTanh:
		return tanhGELU
	case graph.OpTanh:
		return func(v float64) (float64, float64) { y := math.Tanh(v); return y, 1 - y*y }
	case graph.OpSigmoid:
		return func(v float64) (float64, float64) { y := sigmoid(v); return y, y * (1 - y) }
	case graph.OpSoftplus:
		return func(v float64) (float64, float64) {
			return max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))), sigmoid(v)
		}
	case graph.OpELU:
		return func(v float64) (float64, float64) {
			if v > 0 {
				return v, 1
			}
			return s * math.Expm1(v), s * math.Exp(v)
		}
	case graph.OpExp:
		return func(v float64) (float64, float64) { y := math.Exp(v); return y, y }
	case graph.OpLog:
		return func(v float64) (float64, float64) { return math.Log(v), 1 / v }
	case graph.OpSin:
		return func(v float64) (float64, float64) { return math.Sin(v), math.Cos(v) }
	case graph.OpCos:
		return func(v float64) (float64, float64) { return math.Cos(v), -math.Sin(v) }
	case graph.OpErf:
		return func(v float64) (float64, float64) { return math.Erf(v), 2 / math.Sqrt(math.Pi) * math.Exp(-v*v) }
	case graph.OpFloor:
		return func(v float64) (float64, float64) { return math.Floor(v), 0 }
	case graph.OpRound:
		return func(v float64) (float64, float64) { return math.RoundToEven(v), 0 }
	case graph.OpNot:
		return func(v float64) (float64, float64) { return truth(v == 0), 0 }
	}
	return nil
}

// binary evaluates operations with broadcasting.
func (t *tape) binary(n *graph.Node, d *derivatives) []float64 {
	var s [3][]int32
	for i, in := range n.In {
		s[i] = broadcast(t.g.Shape(in), n.Shape)
	}
	truth := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	out := make([]float64, elements(n.Shape))
	for i := range out {
		p, q := int(s[0][i]), int(s[1][i])
		a, b := t.x[n.In[0]][p], t.x[n.In[1]][q]
		da, db := 0.0, 0.0
		switch n.Op {
		case graph.OpAdd:
			out[i], da, db = a+b, 1, 1
		case graph.OpSub:
			out[i], da, db = a-b, 1, -1
		case graph.OpMul:
			out[i], da, db = a*b, b, a
		case graph.OpDiv:
			out[i], da, db = a/b, 1/b, -a/b/b
		case graph.OpMaximum:
			out[i], da, db = max(a, b), truth(a >= b), truth(b > a)
		case graph.OpMinimum:
			out[i], da, db = min(a, b), truth(a <= b), truth(b < a)
		case graph.OpEqual:
			out[i] = truth(a == b)
		case graph.OpLess:
			out[i] = truth(a < b)
		case graph.OpAnd:
			out[i] = truth(a != 0 && b != 0)
		case graph.OpOr:
			out[i] = truth(a != 0 || b != 0)
		case graph.OpWhere:
			k := 1
			if a == 0 {
				k = 2
			}
			at := int(s[k][i])
			out[i] = t.x[n.In[k]][at]
			d.add(k, at, 1)
		}
		d.add(0, p, da)
		d.add(1, q, db)
		d.end()
	}
	return out
}

// along evaluates operations along the last axis.
func (t *tape) along(n *graph.Node, a []float64, d *derivatives) []float64 {
	shape := t.g.Shape(n.In[0])
	k := shape[len(shape)-1]
	var out []float64
	for r := 0; r < len(a); r += k {
		x := a[r : r+k]
		switch n.Op {
		case graph.OpSoftmax:
			y, sum := make([]float64, k), 0.0
			for i, v := range x {
				y[i] = math.Exp(v - slices.Max(x))
				sum += y[i]
			}
			for i := range y {
				y[i] /= sum
			}
			for i := range y {
				for j := range y {
					by := -y[i] * y[j]
					if i == j {
						by += y[i]
					}
					d.add(0, r+j, by)
				}
				d.end()
			}
			out = append(out, y...)
		case graph.OpRMSNorm, graph.OpLayerNorm:
			out = append(out, t.norm(n, x, r, d)...)
		case graph.OpSum, graph.OpCumSum:
			sum := 0.0
			for i, v := range x {
				if sum += v; n.Op == graph.OpCumSum || i == k-1 {
					for j := range i + 1 {
						d.add(0, r+j, 1)
					}
					d.end()
					out = append(out, sum)
				}
			}
		default:
			out = append(out, chosen(n, x, r, d)...)
		}
	}
	return out
}

func (t *tape) norm(n *graph.Node, x []float64, r int, d *derivatives) []float64 {
	k := float64(len(x))
	mean, square := 0.0, 0.0
	if n.Op == graph.OpLayerNorm {
		for _, v := range x {
			mean += v / k
		}
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / k
	}
	s := 1 / math.Sqrt(square+n.Scalar)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = (v - mean) * s
		for j, w := range x {
			by := -(v - mean) * (w - mean) * s * s * s / k
			if i == j {
				by += s
			}
			if n.Op == graph.OpLayerNorm {
				by -= s / k
			}
			d.add(0, r+j, by)
		}
		if at, ok := t.eps[n.EpsKey]; ok && n.Scalar != 0 {
			// eps takes 4^e where a weight takes 2^e.
			d.add(-1, at, -2*n.Scalar*0.5*(v-mean)*s*s*s)
		}
		d.end()
	}
	return out
}

// chosen evaluates what depends on the order of a row; of equals the first is
// the largest.
func chosen(n *graph.Node, x []float64, r int, d *derivatives) []float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case x[i] > x[j]:
			return -1
		case x[i] < x[j]:
			return 1
		}
		return 0
	})
	k := n.K
	if n.Op == graph.OpMax || n.Op == graph.OpArgMax {
		k = 1
	}
	var out []float64
	switch n.Op {
	case graph.OpTopKMask:
		out = make([]float64, len(x))
		for _, i := range order[:k] {
			out[i] = 1
		}
		for range out {
			d.end()
		}
	case graph.OpTopKIndices, graph.OpArgMax:
		for _, i := range order[:k] {
			out = append(out, float64(i))
			d.end()
		}
	case graph.OpTopKValues, graph.OpMax:
		for _, i := range order[:k] {
			out = append(out, x[i])
			d.add(0, r+i, 1)
			d.end()
		}
	default:
		panic(fmt.Sprintf("no float64 rule for %v", n.Op))
	}
	return out
}

// trace goes back from the given outputs, width of them at a time, and returns
// the derivatives by every weight's elements and by the epsilons, [element, width].
func (t *tape) trace(id graph.ID, at []int, epsilons int) (weights map[graph.ID][]float64, eps []float64) {
	w := len(at)
	bar := make([][]float64, len(t.g.Nodes))
	bar[id] = make([]float64, len(t.x[id])*w)
	for l, i := range at {
		bar[id][i*w+l] = 1
	}
	weights, eps = map[graph.ID][]float64{}, make([]float64, epsilons*w)
	for i := int(id); i >= 0; i-- {
		if bar[i] == nil {
			continue
		}
		if t.g.Nodes[i].Op == graph.OpWeight {
			weights[graph.ID(i)] = bar[i]
		}
		d := &t.from[i]
		var to [3][]float64
		for k, in := range d.node {
			if k < len(to) && !t.g.Nodes[in].Int && len(d.at) > 0 {
				if bar[in] == nil {
					bar[in] = make([]float64, len(t.x[in])*w)
				}
				to[k] = bar[in]
			}
		}
		for e := range len(d.ptr) - 1 {
			src := bar[i][e*w : e*w+w]
			for p := d.ptr[e]; p < d.ptr[e+1]; p++ {
				dst := eps
				if k := d.in[p]; k >= 0 {
					if k > 2 || to[k] == nil { // more operands than three: a concat
						dst = t.bar(bar, d.node[k], w)
					} else {
						dst = to[k]
					}
				}
				if dst == nil {
					continue
				}
				dst = dst[int(d.at[p])*w : int(d.at[p])*w+w]
				by := d.by[p]
				for l, v := range src {
					dst[l] += by * v
				}
			}
		}
		bar[i] = nil
	}
	return weights, eps
}

func (t *tape) bar(bar [][]float64, in graph.ID, w int) []float64 {
	if t.g.Nodes[in].Int {
		return nil
	}
	if bar[in] == nil {
		bar[in] = make([]float64, len(t.x[in])*w)
	}
	return bar[in]
}
