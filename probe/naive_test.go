package probe_test

import (
	"math"
	"slices"
	"sort"

	"github.com/neuroseal/neuroseal/graph"
)

// naive evaluates a graph in float64, one element at a time, as the comments of
// package graph define its operations; inputs, tokens and weights by node.
func naive(g *graph.Graph, leaves map[graph.ID][]float64) [][]float64 {
	v := make([][]float64, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		id := graph.ID(i)
		switch {
		case n.Op == graph.OpConst:
			for _, x := range n.Data {
				v[id] = append(v[id], float64(x))
			}
		case len(n.In) == 0:
			v[id] = leaves[id]
		default:
			in := make([]value, len(n.In))
			for j, x := range n.In {
				in[j] = value{g.Shape(x), v[x]}
			}
			v[id] = node(n, in)
		}
	}
	return v
}

// value is an array that is read by index.
type value struct {
	shape []int
	x     []float64
}

// at reads an element; indices beyond the rank are dropped from the left, and
// axes of length 1 are broadcast.
func (v value) at(index ...int) float64 {
	index = index[len(index)-len(v.shape):]
	p := 0
	for a, i := range index {
		if v.shape[a] == 1 {
			i = 0
		}
		p = p*v.shape[a] + i
	}
	return v.x[p]
}

// each fills an array by a function of the index.
func each(shape []int, f func(i []int) float64) []float64 {
	total := 1
	for _, d := range shape {
		total *= d
	}
	out := make([]float64, total)
	for p := range out {
		index, rest := make([]int, len(shape)), p
		for a := len(shape) - 1; a >= 0; a-- {
			index[a], rest = rest%shape[a], rest/shape[a]
		}
		out[p] = f(index)
	}
	return out
}

func node(n *graph.Node, in []value) []float64 {
	if f := pointwise(n); f != nil {
		return each(n.Shape, func(i []int) float64 {
			args := make([]float64, len(in))
			for j := range in {
				args[j] = in[j].at(i...)
			}
			return f(args)
		})
	}
	if f := rowwise(n); f != nil {
		x := in[0]
		width := x.shape[len(x.shape)-1]
		var out []float64
		for r := 0; r < len(x.x); r += width {
			out = append(out, f(slices.Clone(x.x[r:r+width]))...)
		}
		return out
	}
	if n.Op == graph.OpScatter || n.Op == graph.OpScatterAdd {
		return scatter(n, in)
	}
	if n.Op == graph.OpReshape {
		return in[0].x
	}
	return each(n.Shape, func(i []int) float64 { return element(n, in, i) })
}

// element computes one element of a contraction or a move.
func element(n *graph.Node, in []value, i []int) float64 {
	x, last := in[0], len(i)-1
	j := slices.Clone(i)
	sum := 0.0
	switch n.Op {
	case graph.OpEmbedding:
		return x.at(int(in[1].at(i[:last]...)), i[last])
	case graph.OpLinear:
		for k := range x.shape[last] {
			j[last] = k
			if n.Transposed {
				sum += x.at(j...) * in[1].at(k, i[last])
			} else {
				sum += x.at(j...) * in[1].at(i[last], k)
			}
		}
		return sum
	case graph.OpMatMul:
		l := slices.Clone(i)
		for k := range x.shape[last] {
			j[last], l[last-1] = k, k
			sum += x.at(j...) * in[1].at(l...)
		}
		return sum
	case graph.OpConv:
		return filter(n, x, in[1], i)
	case graph.OpTranspose:
		for a, p := range n.Perm {
			j[p] = i[a]
		}
		return x.at(j...)
	case graph.OpSlice:
		j[n.Axis] += n.Start
		return x.at(j...)
	case graph.OpConcat:
		for _, y := range in {
			if j[n.Axis] < y.shape[n.Axis] {
				return y.at(j...)
			}
			j[n.Axis] -= y.shape[n.Axis]
		}
	case graph.OpExpand:
		return x.at(i...)
	case graph.OpPad:
		if j[n.Axis] -= n.Start; j[n.Axis] < 0 || j[n.Axis] >= x.shape[n.Axis] {
			return 0
		}
		return x.at(j...)
	case graph.OpFlip:
		j[n.Axis] = n.Shape[n.Axis] - 1 - j[n.Axis]
		return x.at(j...)
	case graph.OpIndex:
		k := len(in[1].shape)
		id := int(in[1].at(i[n.Axis : n.Axis+k]...))
		return x.at(slices.Concat(i[:n.Axis], []int{id}, i[n.Axis+k:])...)
	case graph.OpGather:
		j[n.Axis] = int(in[1].at(i...))
		return x.at(j...)
	}
	panic(n.Op.String())
}

// filter is one element of a convolution.
func filter(n *graph.Node, x, w value, i []int) float64 {
	per := w.shape[1]
	group := i[1] / (w.shape[0] / n.Conv.Groups)
	total := 0.0
	for _, t := range each(w.shape[1:], func(k []int) float64 {
		at := []int{i[0], group*per + k[0]}
		for a, tap := range k[1:] {
			p := i[2+a]*n.Conv.Stride[a] - n.Conv.Before[a] + tap*n.Conv.Dilation[a]
			if p < 0 || p >= x.shape[2+a] {
				return 0
			}
			at = append(at, p)
		}
		return x.at(at...) * w.at(append([]int{i[1]}, k...)...)
	}) {
		total += t
	}
	return total
}

func scatter(n *graph.Node, in []value) []float64 {
	out := value{in[0].shape, slices.Clone(in[0].x)}
	each(in[1].shape, func(i []int) float64 {
		j := slices.Clone(i)
		j[n.Axis] = int(in[1].at(i...))
		p := 0
		for a, k := range j {
			p = p*out.shape[a] + k
		}
		if n.Op == graph.OpScatterAdd {
			out.x[p] += in[2].at(i...)
		} else {
			out.x[p] = in[2].at(i...)
		}
		return 0
	})
	return out.x
}

func oneIf(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

// pointwise returns the function of an operation that works element by element.
func pointwise(n *graph.Node) func(x []float64) float64 {
	s := n.Scalar
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	f, ok := map[graph.Op]func(x []float64) float64{
		graph.OpAdd:       func(x []float64) float64 { return x[0] + x[1] },
		graph.OpSub:       func(x []float64) float64 { return x[0] - x[1] },
		graph.OpMul:       func(x []float64) float64 { return x[0] * x[1] },
		graph.OpDiv:       func(x []float64) float64 { return x[0] / x[1] },
		graph.OpMaximum:   func(x []float64) float64 { return math.Max(x[0], x[1]) },
		graph.OpMinimum:   func(x []float64) float64 { return math.Min(x[0], x[1]) },
		graph.OpEqual:     func(x []float64) float64 { return oneIf(x[0] == x[1]) },
		graph.OpLess:      func(x []float64) float64 { return oneIf(x[0] < x[1]) },
		graph.OpAnd:       func(x []float64) float64 { return oneIf(x[0] != 0 && x[1] != 0) },
		graph.OpOr:        func(x []float64) float64 { return oneIf(x[0] != 0 || x[1] != 0) },
		graph.OpNot:       func(x []float64) float64 { return oneIf(x[0] == 0) },
		graph.OpWhere:     func(x []float64) float64 { return x[1]*oneIf(x[0] != 0) + x[2]*oneIf(x[0] == 0) },
		graph.OpAddScalar: func(x []float64) float64 { return x[0] + s },
		graph.OpMulScalar: func(x []float64) float64 { return x[0] * s },
		graph.OpPow:       func(x []float64) float64 { return math.Pow(x[0], s) },
		graph.OpClamp:     func(x []float64) float64 { return math.Max(n.Min, math.Min(n.Max, x[0])) },
		graph.OpNeg:       func(x []float64) float64 { return -x[0] },
		graph.OpAbs:       func(x []float64) float64 { return math.Abs(x[0]) },
		graph.OpReLU:      func(x []float64) float64 { return math.Max(x[0], 0) },
		graph.OpLeakyReLU: func(x []float64) float64 { return math.Max(x[0], 0) + s*math.Min(x[0], 0) },
		graph.OpSiLU:      func(x []float64) float64 { return x[0] * sigmoid(x[0]) },
		graph.OpGELU:      func(x []float64) float64 { return x[0] * (1 + math.Erf(x[0]/math.Sqrt2)) / 2 },
		graph.OpGELUTanh: func(x []float64) float64 {
			return x[0] / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x[0]+0.044715*math.Pow(x[0], 3))))
		},
		graph.OpTanh:     func(x []float64) float64 { return math.Tanh(x[0]) },
		graph.OpSigmoid:  func(x []float64) float64 { return sigmoid(x[0]) },
		graph.OpSoftplus: func(x []float64) float64 { return math.Log(1 + math.Exp(x[0])) },
		graph.OpELU: func(x []float64) float64 {
			return math.Max(x[0], 0) + s*(math.Exp(math.Min(x[0], 0))-1)
		},
		graph.OpExp:   func(x []float64) float64 { return math.Exp(x[0]) },
		graph.OpLog:   func(x []float64) float64 { return math.Log(x[0]) },
		graph.OpSin:   func(x []float64) float64 { return math.Sin(x[0]) },
		graph.OpCos:   func(x []float64) float64 { return math.Cos(x[0]) },
		graph.OpErf:   func(x []float64) float64 { return math.Erf(x[0]) },
		graph.OpFloor: func(x []float64) float64 { return math.Floor(x[0]) },
		graph.OpRound: func(x []float64) float64 { return math.RoundToEven(x[0]) },
	}[n.Op]
	if !ok {
		return nil
	}
	return f
}

// rowwise returns the function of an operation along the last axis.
func rowwise(n *graph.Node) func(x []float64) []float64 {
	f, ok := map[graph.Op]func(x []float64) []float64{
		graph.OpSoftmax: func(x []float64) []float64 {
			top := slices.Max(x)
			return over(x, func(v float64) float64 { return math.Exp(v - top) }, nil)
		},
		graph.OpRMSNorm: func(x []float64) []float64 {
			d := math.Sqrt(mean(x, func(v float64) float64 { return v * v }) + n.Scalar)
			return over(x, nil, &d)
		},
		graph.OpLayerNorm: func(x []float64) []float64 {
			m := mean(x, func(v float64) float64 { return v })
			d := math.Sqrt(mean(x, func(v float64) float64 { return (v - m) * (v - m) }) + n.Scalar)
			return over(x, func(v float64) float64 { return v - m }, &d)
		},
		graph.OpSum: func(x []float64) []float64 {
			return []float64{mean(x, func(v float64) float64 { return v }) * float64(len(x))}
		},
		graph.OpMax:    func(x []float64) []float64 { return []float64{slices.Max(x)} },
		graph.OpArgMax: func(x []float64) []float64 { return []float64{float64(slices.Index(x, slices.Max(x)))} },
		graph.OpCumSum: func(x []float64) []float64 {
			for i := range x[1:] {
				x[i+1] += x[i]
			}
			return x
		},
		graph.OpTopKValues: func(x []float64) []float64 {
			v, _ := best(x, n.K)
			return v
		},
		graph.OpTopKIndices: func(x []float64) []float64 {
			_, p := best(x, n.K)
			return p
		},
		graph.OpTopKMask: func(x []float64) []float64 {
			_, p := best(x, n.K)
			out := make([]float64, len(x))
			for _, i := range p {
				out[int(i)] = 1
			}
			return out
		},
		graph.OpOneHot: nil,
	}[n.Op]
	if n.Op == graph.OpOneHot {
		return func(x []float64) []float64 {
			var out []float64
			for _, v := range x {
				row := make([]float64, n.K)
				row[int(v)] = 1
				out = append(out, row...)
			}
			return out
		}
	}
	if !ok {
		return nil
	}
	return f
}

func mean(x []float64, f func(float64) float64) float64 {
	s := 0.0
	for _, v := range x {
		s += f(v)
	}
	return s / float64(len(x))
}

// over maps x and divides by d, or by the sum.
func over(x []float64, f func(float64) float64, d *float64) []float64 {
	if f != nil {
		for i, v := range x {
			x[i] = f(v)
		}
	}
	s := mean(x, func(v float64) float64 { return v }) * float64(len(x))
	if d != nil {
		s = *d
	}
	for i := range x {
		x[i] /= s
	}
	return x
}

func best(x []float64, k int) (values, places []float64) {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return x[order[i]] > x[order[j]] })
	for _, i := range order[:k] {
		values, places = append(values, x[i]), append(places, float64(i))
	}
	return values, places
}
