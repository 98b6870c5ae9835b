package informed

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
)

const (
	// alikeEnough is the mean cosine above which things that stand at the same
	// place count as the same: unrelated ones come near it only in a handful of
	// dimensions, a fine-tune stays far above it.
	alikeEnough = 0.8
	// maxAxis bounds the table of scores: n² of float32.
	maxAxis = 1 << 15
)

// match finds which thing of the victim is which of the base: it returns p with
// the victim's p[i] being the base's i, and whether that is a real permutation.
// Rows are compared by the size of their cosine, which no factor changes.
func match(victim, base *Model, a axis) (p []int, moved bool, err error) {
	here := true
	for i := range a.n {
		here = here && similarity(victim, base, a, i) > alikeEnough
	}
	p = make([]int, a.n)
	for i := range p {
		p[i] = i
	}
	if here {
		return p, false, nil
	}
	if a.n > maxAxis {
		return nil, false, fault.New(fault.Unsupported, "%s: the order of %d channels is more than can be matched in memory", a.name, a.n)
	}
	score := make([]float32, a.n*a.n)
	part := make([]float32, a.n*a.n)
	for _, x := range a.vote {
		for k := range x.at[0] {
			b, v := unit(base.byName[x.tensor], x, k), unit(victim.byName[x.tensor], x, k)
			tensor.MatMul(part, b, v, a.n, len(b)/a.n, a.n, true)
			for i, c := range part {
				score[i] += float32(math.Abs(float64(c)))
			}
		}
	}
	p = assign(a.n, score)
	for i, j := range p {
		moved = moved || i != j
	}
	return p, moved, nil
}

// similarity is the mean size of the cosine of thing i's rows in both models.
func similarity(victim, base *Model, a axis, i int) float64 {
	sum, n := 0.0, 0.0
	for _, x := range a.vote {
		v, b := victim.byName[x.tensor], base.byName[x.tensor]
		if len(v.Shape) < 2 {
			continue
		}
		for _, row := range x.at[i] {
			var vb, vv, bb float64
			count, at := line(v, x.axis, row)
			for k := range count {
				y, z := float64(v.Data[at(k)]), float64(b.Data[at(k)])
				vb, vv, bb = vb+y*z, vv+y*y, bb+z*z
			}
			if vv > 0 && bb > 0 {
				sum += math.Abs(vb) / math.Sqrt(vv*bb)
				n++
			}
		}
	}
	if n == 0 {
		return 1 // nothing tells them apart
	}
	return sum / n
}

// line is a row or a column of a matrix.
func line(t *Tensor, axis, row int) (count int, at func(int) int) {
	width := rowWidth(t)
	if axis == 0 {
		return width, func(k int) int { return row*width + k }
	}
	return t.Shape[0], func(k int) int { return k*width + row }
}

// unit gathers the k-th row of every thing, each with length one; rows of zeros
// stay.
func unit(t *Tensor, x part, k int) []float32 {
	var out []float32
	for _, rows := range x.at {
		n, at := line(t, x.axis, rows[k])
		sum := 0.0
		for i := range n {
			v := float64(t.Data[at(i)])
			sum += v * v
		}
		scale := 0.0
		if sum > 0 {
			scale = 1 / math.Sqrt(sum)
		}
		for i := range n {
			out = append(out, float32(float64(t.Data[at(i)])*scale))
		}
	}
	return out
}
