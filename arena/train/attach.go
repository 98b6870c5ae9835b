package train

import (
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
)

// leaf adds a trained parameter to the module of a tensor.
func (a *adapters) leaf(tensorName, suffix string, f follows, fill func(x []float32, seed uint64, name string), shape ...int) graph.ID {
	name := strings.TrimPrefix(strings.TrimSuffix(tensorName, ".weight")+"."+suffix, ".")
	id := a.n.weight(name, shape)
	p := a.n.nodes[id].param
	p.Trained, p.Adapter, p.module, p.follows = true, true, tensorName, f
	p.init = func(p *Param, seed uint64, _ func(string) []float32) {
		clear(p.Data)
		if fill != nil {
			fill(p.Data, seed, p.Name)
		}
	}
	return id
}

func (a *adapters) param(id graph.ID) *Param { return a.n.nodes[id].param }

func ones(x []float32, _ uint64, _ string) {
	for i := range x {
		x[i] = 1
	}
}

// within fills with a uniform distribution whose bound is 1/√in.
func within(in int) func([]float32, uint64, string) {
	return func(x []float32, seed uint64, name string) { uniform(x, seed, name, 1/math.Sqrt(float64(in))) }
}

// linear adds an adapter to y = W·x.
func (a *adapters) linear(id graph.ID, x graph.Node) graph.ID {
	switch a.t.Kind {
	case IA3:
		return a.gains(id, x)
	case Residual:
		a.afterModule(id, func(y graph.ID) graph.ID { return a.bottleneck(id, x, y) })
		return a.n.add(x)
	}
	return a.lowRank(id, x)
}

// afterModule has f applied to the result of a linear map and its bias.
func (a *adapters) afterModule(id graph.ID, f func(graph.ID) graph.ID) {
	if b, ok := a.bias[id]; ok {
		id = b
	}
	a.after[id] = f
}

// gains multiplies a module's result, its bias included, or its input.
func (a *adapters) gains(id graph.ID, x graph.Node) graph.ID {
	n, module, base := a.n, a.module(id), a.param(x.In[1])
	in, out := last(n.shape(x.In[0])), last(x.Shape)
	byIn, byOut := scaleColumns, scaleRows
	if x.Transposed {
		byIn, byOut = scaleRows, scaleColumns
	}
	if matches(a.t.FeedForward, module) {
		l := a.leaf(module, "ia3_l", follows{}, ones, in)
		x.In[0] = n.binary(graph.OpMul, x.In[0], l, x)
		gain := a.param(l)
		base.merge(module, func(w []float32) { byIn(w, gain.Data) })
		return n.add(x)
	}
	l := a.leaf(module, "ia3_l", follows{}, ones, out)
	gain := a.param(l)
	base.merge(module, func(w []float32) { byOut(w, gain.Data) })
	if add, ok := a.bias[id]; ok {
		for _, j := range a.g.Nodes[add].In {
			if b := &a.g.Nodes[j]; b.Op == graph.OpWeight {
				a.param(n.weight(b.Name, b.Shape)).merge(b.Name, func(w []float32) { scaleColumns(w, gain.Data) })
			}
		}
	}
	a.afterModule(id, func(y graph.ID) graph.ID { return n.binary(graph.OpMul, y, l, x) })
	return n.add(x)
}

// bottleneck adds y + B·relu(A·y) after a module.
func (a *adapters) bottleneck(id graph.ID, x graph.Node, y graph.ID) graph.ID {
	n, module, out, side := a.n, a.module(id), last(x.Shape), outRows(x)
	base := n.nodes[x.In[1]].Name
	down := a.leaf(module, "adapter_down", follows{base: base, cols: side, inverse: true, random: true, flipped: x.Transposed}, within(out), a.t.Rank, out)
	up := a.leaf(module, "adapter_up", follows{base: base, rows: side, flipped: x.Transposed}, nil, out, a.t.Rank)
	h := n.unary(graph.OpReLU, n.linear(y, down, x), 0, x)
	return n.binary(graph.OpAdd, y, n.linear(h, up, x), x)
}

// lowRank adds s·B·A·x, and for DoRA the rows' magnitudes.
func (a *adapters) lowRank(id graph.ID, x graph.Node) graph.ID {
	n, module, base := a.n, a.module(id), a.param(x.In[1])
	in, out, r := last(n.shape(x.In[0])), last(x.Shape), a.t.Rank
	wa := a.leaf(module, "lora_A", follows{base: base.Name, cols: inCols(x), random: true, flipped: x.Transposed}, within(in), r, in)
	wb := a.leaf(module, "lora_B", follows{base: base.Name, rows: outRows(x), flipped: x.Transposed}, nil, out, r)
	a.plus(wb)
	y := n.add(x)
	delta := n.linear(n.unary(graph.OpMulScalar, n.linear(x.In[0], wa, x), a.scale(), x), wb, x)
	sum := n.binary(graph.OpAdd, y, delta, x)
	pa, pb, s := a.param(wa), a.param(wb), float32(a.scale())
	plus := asRows(x.Transposed, out, in, func(w []float32) {
		tensor.Gemm(false, false, out, in, r, s, pb.Data, r, pa.Data, in, 1, w, in)
	})
	if a.t.Kind == LoRA {
		base.merge(module, plus)
		return sum
	}
	side := magnitude
	if x.Transposed {
		side = position
	}
	m := a.leaf(module, "lora_magnitude", follows{base: base.Name, cols: side, flipped: x.Transposed}, nil, out)
	pm := a.param(m)
	pm.init = func(p *Param, _ uint64, weight func(string) []float32) {
		w := weight(base.Name)
		if x.Transposed {
			w = make([]float32, len(w))
			transpose(w, weight(base.Name), in, out)
		}
		copy(p.Data, rowNorms(w, out, in))
	}
	base.merge(module, func(w []float32) {
		plus(w)
		asRows(x.Transposed, out, in, func(w []float32) {
			gain := rowNorms(w, out, in)
			for i, v := range gain {
				gain[i] = pm.Data[i] / v
			}
			scaleRows(w, gain)
		})(w)
	})
	w := x.In[1]
	if x.Transposed {
		w = n.add(graph.Node{Op: graph.OpTranspose, In: []graph.ID{w}, Shape: []int{out, in}, Perm: []int{1, 0}, Scope: x.Scope, Layer: x.Layer})
	}
	g := n.add(graph.Node{Op: opDoRAScale, In: []graph.ID{w, wa, wb, m}, Shape: []int{out}, Scalar: a.scale(), Scope: x.Scope, Layer: x.Layer})
	return n.binary(graph.OpMul, sum, g, x)
}

// outRows are the factors of a linear map's outputs, inCols those of its inputs:
// a transposed weight has the former as columns.
func outRows(x graph.Node) side {
	if x.Transposed {
		return baseCols
	}
	return baseRows
}

func inCols(x graph.Node) side {
	if x.Transposed {
		return baseRows
	}
	return baseCols
}

// asRows applies f to a weight with a row for each output, however it is stored.
func asRows(transposed bool, out, in int, f func(w []float32)) func(w []float32) {
	if !transposed {
		return f
	}
	return func(w []float32) {
		t := make([]float32, len(w))
		transpose(t, w, in, out)
		f(t)
		transpose(w, t, out, in)
	}
}

// plus gives B its own learning rate.
func (a *adapters) plus(b graph.ID) {
	if a.t.Ratio > 0 {
		a.param(b).LRScale = a.t.Ratio
	}
}

// embedding adds s·B·A[token]; as in PEFT, A starts at zero and B normal. A is
// kept transposed, [V, r].
func (a *adapters) embedding(x graph.Node, name string, y graph.ID) graph.ID {
	n, w, r := a.n, a.n.shape(x.In[0]), a.t.Rank
	wa := a.leaf(name, "lora_embedding_A", follows{base: name, rows: baseRows}, nil, w[0], r)
	wb := a.leaf(name, "lora_embedding_B", follows{base: name, rows: baseCols, random: true},
		func(d []float32, seed uint64, name string) { normal(d, seed, name, 1) }, w[1], r)
	a.plus(wb)
	pa, pb, s := a.param(wa), a.param(wb), float32(a.scale())
	a.param(x.In[0]).merge(name, func(d []float32) {
		tensor.Gemm(false, true, w[0], w[1], r, s, pa.Data, r, pb.Data, r, 1, d, w[1])
	})
	h := n.add(graph.Node{Op: graph.OpEmbedding, In: []graph.ID{wa, x.In[1]}, Shape: append(slices.Clone(x.Shape[:len(x.Shape)-1]), r), Scope: x.Scope, Layer: x.Layer})
	return n.binary(graph.OpAdd, y, n.linear(n.unary(graph.OpMulScalar, h, a.scale(), x), wb, x), x)
}

// prompt puts virtual tokens in place of the first embeddings. They start, as
// PEFT's do from text, as rows of the embedding, of tokens that the seed chooses.
func (a *adapters) prompt(x graph.Node, base graph.ID) graph.ID {
	n, v := a.n, a.t.Virtual
	name, w := n.nodes[x.In[0]].Name, n.shape(x.In[0])
	if a.prompted != "" && a.prompted != name {
		a.err = fault.New(fault.Unsupported, "a soft prompt in a network that looks tokens up in %s and in %s", a.prompted, name)
		return base
	}
	a.prompted = name
	p := a.leaf("", "prompt_embeddings", follows{base: name, cols: position}, nil, v, w[1])
	a.param(p).init = func(p *Param, seed uint64, weight func(string) []float32) {
		table, at := weight(name), start(seed, p.Name)
		for i := range v {
			row := int(unit(at+uint64(i)) * float64(w[0]))
			copy(p.Data[i*w[1]:(i+1)*w[1]], table[row*w[1]:])
		}
	}
	axis := len(x.Shape) - 2
	virtual, others := slices.Clone(x.Shape), slices.Clone(x.Shape)
	virtual[axis], others[axis] = v, x.Shape[axis]-v
	if axis > 0 {
		p = n.add(graph.Node{Op: graph.OpReshape, In: []graph.ID{p}, Shape: virtual, Scope: x.Scope, Layer: -1})
	}
	rest := n.add(graph.Node{Op: graph.OpSlice, In: []graph.ID{base}, Shape: others, Axis: axis, Start: v, End: x.Shape[axis], Scope: x.Scope, Layer: -1})
	return n.add(graph.Node{Op: graph.OpConcat, In: []graph.ID{p, rest}, Shape: x.Shape, Axis: axis, Scope: x.Scope, Layer: -1})
}

func rowNorms(w []float32, rows, cols int) []float32 {
	out := make([]float32, rows)
	for i := range out {
		row := w[i*cols : (i+1)*cols]
		out[i] = float32(math.Sqrt(float64(tensor.VecDot(row, row))))
	}
	return out
}

func scaleRows(w, gain []float32) {
	cols := len(w) / len(gain)
	for i, g := range gain {
		tensor.VecScale(w[i*cols:(i+1)*cols], w[i*cols:(i+1)*cols], g)
	}
}

func scaleColumns(w, gain []float32) {
	for at := 0; at < len(w); at += len(gain) {
		tensor.VecMul(w[at:at+len(gain)], w[at:at+len(gain)], gain)
	}
}
