package quant

import "math"

// Figures are what is known of a tensor of scales.
type Figures struct {
	Any bool    // some scale is finite and not zero
	Max int     // exponent of the largest one
	L2  float64 // log2 of the root of the sum of their squares
}

// Bound bounds a weight's numbers, all as log2: the largest magnitude, the
// largest norm of a row of the last axis, and the norm of all. Field by field it
// is seal.WeightBound.
type Bound struct{ Max, RowL2, L2 float64 }

// Bound bounds the weight's numbers by its scales': each is a sum, over the
// scales, of a code times a scale.
func (w *Weight) Bound(figures func(Scale) Figures) Bound {
	size := float64(w.Size() / 4)
	top, sum := 0.0, 0.0
	for _, s := range w.Scales {
		f := figures(s)
		if !f.Any {
			continue
		}
		top += math.Ldexp(1, f.Max+1+s.High)
		// Parts may be of unequal size; none exceeds the largest.
		share := 1.0
		for a := range w.Shape {
			share *= float64(w.largest(a))
		}
		sum += math.Exp2(f.L2+float64(s.High)) * math.Sqrt(share)
	}
	b := Bound{Max: math.Log2(top), L2: math.Log2(sum)}
	b.L2 = min(b.L2, b.Max+math.Log2(size)/2)
	b.RowL2 = min(b.L2, b.Max+math.Log2(float64(w.width()))/2)
	return b
}

// largest is the number of elements of an axis' largest part.
func (w *Weight) largest(axis int) int {
	p := w.part(axis)
	if p.Of == nil {
		return min(p.Block, w.Shape[axis])
	}
	n := make([]int, w.parts(axis))
	most := 0
	for _, k := range p.Of {
		n[k]++
		most = max(most, n[k])
	}
	return most
}
