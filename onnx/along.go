package onnx

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// last moves axis a to the end, applies f, and moves it back.
func (l *lowerer) last(x *value, a int, f func(*value) *value) *value {
	r := len(x.shape)
	if a == r-1 {
		return f(x)
	}
	perm := make([]int, 0, r)
	for i := range r {
		if i != a {
			perm = append(perm, i)
		}
	}
	perm = append(perm, a)
	back := make([]int, r)
	for i, p := range perm {
		back[p] = i
	}
	return l.transpose(f(l.transpose(x, perm...)), back...)
}

// reduce applies OpSum, OpMax or OpArgMax over axes.
func (l *lowerer) reduce(op graph.Op, x *value, axes []int, keep bool) *value {
	if len(axes) == 0 {
		return x
	}
	var perm, kept, shape []int
	n := 1
	for i, d := range x.shape {
		if slices.Contains(axes, i) {
			n *= d
			if keep {
				shape = append(shape, 1)
			}
			continue
		}
		perm = append(perm, i)
		kept = append(kept, d)
		shape = append(shape, d)
	}
	perm = append(perm, axes...)
	y := l.reshape(l.transpose(x, perm...), append(kept, n)...)
	switch {
	case y.c != nil:
		y = l.konst(must(fold.Reduce(op, y.c)), y)
	case n == 1 && op != graph.OpArgMax:
	case op == graph.OpSum:
		y = l.moved(y, l.b.Sum(l.id(y)))
	case op == graph.OpMax:
		y = l.moved(y, l.b.Max(l.id(y)))
	default:
		y = l.wrap(l.b.ArgMax(l.id(y)), fold.Int)
	}
	return l.reshape(y, shape...)
}

// mean averages over axes.
func (l *lowerer) mean(x *value, axes []int, keep bool) *value {
	n := 1
	for _, a := range axes {
		n *= x.shape[a]
	}
	need(n > 0, "mean of shape %v", x.shape)
	return l.times(l.reduce(graph.OpSum, x, axes, keep), 1/float64(n))
}

func (l *lowerer) softmax(x *value, a int) *value {
	return l.last(x, a, func(y *value) *value { return l.wrap(l.b.Apply(graph.OpSoftmax, l.id(y)), y.kind) })
}

// merged treats the axes from a on as one, applies f along it, and splits it again.
func (l *lowerer) merged(x *value, a int, f func(*value) *value) *value {
	n, _ := fold.Size(x.shape[a:])
	y := f(l.reshape(x, append(slices.Clone(x.shape[:a]), n)...))
	return l.reshape(y, append(slices.Clone(y.shape[:a]), x.shape[a:]...)...)
}

// norm is a layer norm, or with rms a norm by the root mean square, over the
// axes from a on; its epsilon is an attribute and stays as it is.
func (l *lowerer) norm(x *value, a int, eps float64, rms bool) *value {
	return l.merged(x, a, func(y *value) *value {
		if rms {
			return l.wrap(l.b.RMSNorm(l.id(y), eps, ""), y.kind)
		}
		return l.wrap(l.b.LayerNorm(l.id(y), eps, ""), y.kind)
	})
}

func (l *lowerer) cumsum(x *value, a int, reverse, exclusive bool) *value {
	return l.last(x, a, func(y *value) *value {
		r := len(y.shape) - 1
		n := y.shape[r]
		if reverse {
			y = l.flip(y, r)
		}
		if exclusive {
			y = l.pad(l.slice(y, r, 0, n-1), r, 1, 0)
		}
		if y.c != nil {
			y = l.konst(must(fold.CumSum(y.c)), y)
		} else {
			y = l.moved(y, l.b.CumSum(l.id(y)))
		}
		if reverse {
			y = l.flip(y, r)
		}
		return y
	})
}

func (l *lowerer) flip(x *value, a int) *value {
	if n := x.shape[a]; x.c != nil {
		return l.konst(must(x.c.Slice(a, n-1, -1, n)), x)
	}
	return l.moved(x, l.b.Flip(l.id(x), a))
}

// matmul multiplies as numpy does.
func (l *lowerer) matmul(a, b *value) *value {
	p, q := len(a.shape), len(b.shape)
	need(p > 0 && q > 0, "matmul of a scalar")
	if p == 1 {
		out := l.matmul(l.reshape(a, 1, a.shape[0]), b)
		return l.dropAxis(out, len(out.shape)-min(2, len(out.shape)))
	}
	if q == 1 {
		out := l.matmul(a, l.reshape(b, b.shape[0], 1))
		return l.dropAxis(out, len(out.shape)-1)
	}
	need(a.shape[p-1] == b.shape[q-2], "matmul of %v and %v", a.shape, b.shape)
	if q == 2 && (a.c == nil || b.c == nil) {
		return l.linear(a, b, false)
	}
	lead, ok := fold.Broadcast(a.shape[:p-2], b.shape[:q-2])
	need(ok, "matmul of %v and %v", a.shape, b.shape)
	a = l.expand(a, append(slices.Clone(lead), a.shape[p-2:]...)...)
	b = l.expand(b, append(slices.Clone(lead), b.shape[q-2:]...)...)
	if n := a.size() * b.size(); n == 0 {
		shape := append(slices.Clone(lead), a.shape[len(a.shape)-2], b.shape[len(b.shape)-1])
		return l.konst(must(fold.New(fold.Float, shape...)), a, b)
	}
	if a.c != nil && b.c != nil {
		return l.konst(must(fold.MatMul(a.c, b.c)), a, b)
	}
	return l.wrap(l.b.MatMul(l.id(a), l.id(b)), max(a.kind, b.kind, fold.Float))
}

// dropAxis removes an axis of length 1.
func (l *lowerer) dropAxis(x *value, a int) *value {
	return l.reshape(x, slices.Delete(slices.Clone(x.shape), a, a+1)...)
}

// linear multiplies x [...,k] by w [k,n], or with transposed by w [n,k]. A
// transposition of a weight before the product is seen through.
func (l *lowerer) linear(x, w *value, transposed bool) *value {
	rows := x.size() / max(x.shape[len(x.shape)-1], 1)
	id := l.id(w)
	if n := &l.g.Nodes[id]; n.Op == graph.OpTranspose && len(n.Perm) == 2 && n.Perm[0] == 1 {
		id, transposed = n.In[0], !transposed
	}
	kind := max(x.kind, w.kind, fold.Float)
	if l.param(id) || l.g.Nodes[id].Op == graph.OpConst {
		if transposed {
			return l.wrap(l.b.Linear(l.id(x), id), kind)
		}
		return l.wrap(l.b.LinearT(l.id(x), id), kind)
	}
	// Two activations: one product of matrices.
	y := l.wrap(id, kind)
	if transposed {
		y = l.transpose(y, 1, 0)
	}
	flat := l.reshape(x, rows, x.shape[len(x.shape)-1])
	out := l.wrap(l.b.MatMul(l.id(flat), l.id(y)), kind)
	return l.reshape(out, append(slices.Clone(x.shape[:len(x.shape)-1]), y.shape[1])...)
}
