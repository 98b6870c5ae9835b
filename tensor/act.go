package tensor

import "math"

// The activations compute in float64 and round once, so they are good to half a
// unit in the last place. dst and x have the same length, and may be the same.

// Exp sets dst to e^x.
func Exp(dst, x []float32) { each(dst, x, math.Exp) }

// Tanh sets dst to the hyperbolic tangent of x.
func Tanh(dst, x []float32) { each(dst, x, math.Tanh) }

// Sigmoid sets dst to 1 / (1 + e^-x).
func Sigmoid(dst, x []float32) {
	each(dst, x, func(v float64) float64 { return 1 / (1 + math.Exp(-v)) })
}

// SiLU sets dst to x · sigmoid(x), also called swish.
func SiLU(dst, x []float32) {
	each(dst, x, func(v float64) float64 { return v / (1 + math.Exp(-v)) })
}

// GELU sets dst to x · Φ(x), with the error function.
func GELU(dst, x []float32) {
	each(dst, x, func(v float64) float64 { return v / 2 * math.Erfc(-v/math.Sqrt2) })
}

// GELUTanh sets dst to the approximation of GELU through tanh, which is
// x · sigmoid(2·sqrt(2/π)·(x + 0.044715·x³)).
func GELUTanh(dst, x []float32) {
	c := 2 * math.Sqrt(2/math.Pi)
	each(dst, x, func(v float64) float64 { return v / (1 + math.Exp(-c*(v+0.044715*v*v*v))) })
}

func each(dst, x []float32, f func(float64) float64) {
	need("dst", len(dst), len(x))
	for i, v := range x {
		dst[i] = float32(f(float64(v)))
	}
}
