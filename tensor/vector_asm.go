//go:build amd64 || arm64

package tensor

func asmExp(dst, x []float32, n int)              { vecExp(&dst[0], &x[0], n) }
func asmSiLU(dst, x []float32, n int)             { vecSiLU(&dst[0], &x[0], n) }
func asmSiLUBackward(dst, x, y []float32, n int)  { vecSiLUBackward(&dst[0], &x[0], &y[0], n) }
func asmSwiGLU(dst, x, y []float32, n int)        { vecSwiGLU(&dst[0], &x[0], &y[0], n) }
func asmAdd(dst, x, y []float32, n int)           { vecAdd(&dst[0], &x[0], &y[0], n) }
func asmMul(dst, x, y []float32, n int)           { vecMul(&dst[0], &x[0], &y[0], n) }
func asmMulAdd(dst, x, y []float32, n int)        { vecMulAdd(&dst[0], &x[0], &y[0], n) }
func asmScale(dst, x []float32, s float32, n int) { vecScale(&dst[0], &x[0], s, n) }
func asmAxpy(dst, x []float32, s float32, n int)  { vecAxpy(&dst[0], &x[0], s, n) }
func asmDot(x, y []float32, n int) float32        { return vecDot(&x[0], &y[0], n) }
func asmMax(x []float32, n int) float32           { return vecMax(&x[0], n) }

func asmExpSum(dst, x []float32, s float32, n int) float32 { return vecExpSum(&dst[0], &x[0], s, n) }

func asmSwiGLUBackward(dst, dst2, x, y, z []float32, n int) {
	vecSwiGLUBackward(&dst[0], &dst2[0], &x[0], &y[0], &z[0], n)
}

func asmAdamW(w, g, m, v []float32, c *AdamWConstants, n int) {
	vecAdamW(&w[0], &g[0], &m[0], &v[0], (*[7]float32)(c), n)
}
