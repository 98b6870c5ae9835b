package tensor

import "math"

// RMSNorm sets each of rows rows of dst, n elements, to x / sqrt(mean(x²) + eps),
// rounded to float32, times weight; a nil weight stands for ones. dst may be x.
// The statistics are in float64, where powers of two pass through exactly: x·2ʲ
// with eps·4ʲ gives the same bits.
func RMSNorm(dst, x []float32, rows, n int, eps float64, weight []float32) {
	need("dst", len(dst), rows*n)
	need("x", len(x), rows*n)
	for r := range rows {
		in, out := x[r*n:(r+1)*n], dst[r*n:(r+1)*n]
		inv := 1 / math.Sqrt(sumOf(in, square)/float64(n)+eps)
		for i, v := range in {
			out[i] = float32(float64(v) * inv)
		}
		if weight != nil {
			for i, w := range weight[:n] {
				out[i] *= w
			}
		}
	}
}

// LayerNorm sets each of rows rows of dst, n elements, to (x − mean) /
// sqrt(variance + eps), rounded to float32, times weight plus bias; nil stands
// for ones and zeros. dst may be x.
func LayerNorm(dst, x []float32, rows, n int, eps float64, weight, bias []float32) {
	need("dst", len(dst), rows*n)
	need("x", len(x), rows*n)
	for r := range rows {
		in, out := x[r*n:(r+1)*n], dst[r*n:(r+1)*n]
		mean := sumOf(in, func(v float64) float64 { return v }) / float64(n)
		vari := sumOf(in, func(v float64) float64 { return (v - mean) * (v - mean) }) / float64(n)
		inv := 1 / math.Sqrt(vari+eps)
		for i, v := range in {
			out[i] = float32((float64(v) - mean) * inv)
		}
		if weight != nil {
			for i, w := range weight[:n] {
				out[i] *= w
			}
		}
		if bias != nil {
			for i, b := range bias[:n] {
				out[i] += b
			}
		}
	}
}

func square(v float64) float64 { return v * v }

// sumOf adds f of the elements in four interleaved sums.
func sumOf(x []float32, f func(float64) float64) float64 {
	var s [4]float64
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s[0] += f(float64(x[i]))
		s[1] += f(float64(x[i+1]))
		s[2] += f(float64(x[i+2]))
		s[3] += f(float64(x[i+3]))
	}
	for ; i < len(x); i++ {
		s[0] += f(float64(x[i]))
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

// Softmax replaces each of rows rows of x, n elements, by its softmax. Elements
// of -Inf get 0; a row of nothing else becomes NaN.
func Softmax(x []float32, rows, n int) {
	need("x", len(x), rows*n)
	for r := range rows {
		row := x[r*n : (r+1)*n]
		top := float32(math.Inf(-1))
		for _, v := range row {
			top = max(top, v)
		}
		var sum float64
		for i, v := range row {
			e := float32(math.Exp(float64(v) - float64(top)))
			row[i] = e
			sum += float64(e)
		}
		inv := 1 / sum
		for i, e := range row {
			row[i] = float32(float64(e) * inv)
		}
	}
}
