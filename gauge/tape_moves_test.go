package gauge_test

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// steps returns C strides.
func steps(shape []int) []int {
	st, n := make([]int, len(shape)), 1
	for i := len(shape) - 1; i >= 0; i-- {
		st[i], n = n, n*shape[i]
	}
	return st
}

// visit calls f with every index of a shape in C order.
func visit(shape []int, f func(i int, at []int)) {
	at := make([]int, len(shape))
	for i := range elements(shape) {
		f(i, at)
		for a := len(shape) - 1; a >= 0; a-- {
			if at[a]++; at[a] < shape[a] {
				break
			}
			at[a] = 0
		}
	}
}

// broadcast returns the source of every element.
func broadcast(from, to []int) []int32 {
	st, lead := steps(from), len(to)-len(from)
	out := make([]int32, elements(to))
	visit(to, func(i int, at []int) {
		for a, d := range from {
			if d > 1 {
				out[i] += int32(st[a] * at[a+lead])
			}
		}
	})
	return out
}

// place returns the source of every element of a move with one operand, -1
// for zeros.
func (t *tape) place(n *graph.Node) []int32 {
	from := t.g.Shape(n.In[0])
	st := steps(from)
	out := make([]int32, elements(n.Shape))
	visit(n.Shape, func(i int, at []int) {
		o := 0
		switch n.Op {
		case graph.OpReshape:
			o = i
		case graph.OpTranspose:
			for a, p := range n.Perm {
				o += st[p] * at[a]
			}
		default:
			for a := range at {
				k := at[a]
				switch {
				case n.Op == graph.OpExpand && from[a] == 1:
					k = 0
				case n.Op == graph.OpSlice && a == n.Axis:
					k += n.Start
				case n.Op == graph.OpFlip && a == n.Axis:
					k = from[a] - 1 - k
				case n.Op == graph.OpPad && a == n.Axis:
					if k -= n.Start; k < 0 || k >= from[a] {
						out[i] = -1
						return
					}
				}
				o += st[a] * k
			}
		}
		out[i] = int32(o)
	})
	return out
}

// lookup is place for moves by ids.
func (t *tape) lookup(n *graph.Node) []int32 {
	from, ids, axis := t.g.Shape(n.In[0]), t.x[n.In[1]], n.Axis
	st := steps(from)
	out := make([]int32, elements(n.Shape))
	idShape := t.g.Shape(n.In[1])
	if n.Op == graph.OpEmbedding {
		axis = 0
	}
	is := steps(idShape)
	visit(n.Shape, func(i int, at []int) {
		id, o := 0, 0
		if n.Op == graph.OpGather {
			id = i
		}
		for a := range at {
			switch {
			case n.Op == graph.OpGather:
				if a != axis {
					o += st[a] * at[a]
				}
			case a < axis:
				o += st[a] * at[a]
			case a < axis+len(idShape):
				id += is[a-axis] * at[a]
			default:
				o += st[a-len(idShape)+1] * at[a]
			}
		}
		out[i] = int32(o + st[axis]*int(ids[id]))
	})
	return out
}

func pick(a []float64, from []int32, d *derivatives) []float64 {
	out := make([]float64, len(from))
	for i, j := range from {
		if j >= 0 {
			out[i] = a[j]
			d.add(0, int(j), 1)
		}
		d.end()
	}
	return out
}

func (t *tape) concat(n *graph.Node, d *derivatives) []float64 {
	out := make([]float64, 0, elements(n.Shape))
	outer, inner := elements(n.Shape[:n.Axis]), elements(n.Shape[n.Axis+1:])
	for o := range outer {
		for k, in := range n.In {
			w := t.g.Shape(in)[n.Axis] * inner
			for j := o * w; j < (o+1)*w; j++ {
				out = append(out, t.x[in][j])
				d.add(k, j, 1)
				d.end()
			}
		}
	}
	return out
}

func (t *tape) scatter(n *graph.Node, d *derivatives) []float64 {
	out := slices.Clone(t.x[n.In[0]])
	base := make([]bool, len(out))
	more := make([][]int, len(out))
	for i := range base {
		base[i] = true
	}
	st := steps(n.Shape)
	visit(t.g.Shape(n.In[2]), func(i int, at []int) {
		o := 0
		for a := range at {
			k := at[a]
			if a == n.Axis {
				k = int(t.x[n.In[1]][i])
			}
			o += st[a] * k
		}
		if n.Op == graph.OpScatterAdd {
			out[o] += t.x[n.In[2]][i]
			more[o] = append(more[o], i)
			return
		}
		out[o], base[o], more[o] = t.x[n.In[2]][i], false, []int{i}
	})
	for o := range out {
		if base[o] {
			d.add(0, o, 1)
		}
		for _, i := range more[o] {
			d.add(2, i, 1)
		}
		d.end()
	}
	return out
}

func (t *tape) linear(n *graph.Node, d *derivatives) []float64 {
	x, w, shape := t.x[n.In[0]], t.x[n.In[1]], t.g.Shape(n.In[1])
	rows, cols, ro, co := shape[0], shape[1], shape[1], 1
	if n.Transposed {
		rows, cols, ro, co = shape[1], shape[0], 1, shape[1]
	}
	var out []float64
	for b := 0; b < len(x); b += cols {
		for r := range rows {
			sum := 0.0
			for c := range cols {
				k := r*ro + c*co
				sum += x[b+c] * w[k]
				d.add(0, b+c, w[k])
				d.add(1, k, x[b+c])
			}
			d.end()
			out = append(out, sum)
		}
	}
	return out
}

func (t *tape) matmul(n *graph.Node, d *derivatives) []float64 {
	a, b := t.x[n.In[0]], t.x[n.In[1]]
	s := t.g.Shape(n.In[0])
	m, k, w := s[len(s)-2], s[len(s)-1], n.Shape[len(n.Shape)-1]
	var out []float64
	for o := range elements(s[:len(s)-2]) {
		for i := range m {
			for j := range w {
				sum := 0.0
				for c := range k {
					p, q := (o*m+i)*k+c, (o*k+c)*w+j
					sum += a[p] * b[q]
					d.add(0, p, b[q])
					d.add(1, q, a[p])
				}
				d.end()
				out = append(out, sum)
			}
		}
	}
	return out
}

func (t *tape) conv(n *graph.Node, d *derivatives) []float64 {
	x, w := t.x[n.In[0]], t.x[n.In[1]]
	xs, ws := t.g.Shape(n.In[0]), t.g.Shape(n.In[1])
	xst, wst := steps(xs), steps(ws)
	each := ws[0] / n.Conv.Groups
	out := make([]float64, elements(n.Shape))
	visit(n.Shape, func(i int, at []int) {
		visit(ws[1:], func(_ int, k []int) {
			p, q := at[0]*xst[0]+(at[1]/each*ws[1]+k[0])*xst[1], at[1]*wst[0]+k[0]*wst[1]
			for a := range len(xs) - 2 {
				s := at[a+2]*n.Conv.Stride[a] - n.Conv.Before[a] + k[a+1]*n.Conv.Dilation[a]
				if s < 0 || s >= xs[a+2] {
					return
				}
				p, q = p+s*xst[a+2], q+k[a+1]*wst[a+2]
			}
			out[i] += x[p] * w[q]
			d.add(0, p, w[q])
			d.add(1, q, x[p])
		})
		d.end()
	})
	return out
}
