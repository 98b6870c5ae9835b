//go:build !amd64 && !arm64

package tensor

const noVectors = "tensor: no assembly on this architecture"

func asmExp(_, _ []float32, _ int)                       { panic(noVectors) }
func asmSiLU(_, _ []float32, _ int)                      { panic(noVectors) }
func asmSiLUBackward(_, _, _ []float32, _ int)           { panic(noVectors) }
func asmSwiGLU(_, _, _ []float32, _ int)                 { panic(noVectors) }
func asmAdd(_, _, _ []float32, _ int)                    { panic(noVectors) }
func asmMul(_, _, _ []float32, _ int)                    { panic(noVectors) }
func asmMulAdd(_, _, _ []float32, _ int)                 { panic(noVectors) }
func asmScale(_, _ []float32, _ float32, _ int)          { panic(noVectors) }
func asmAxpy(_, _ []float32, _ float32, _ int)           { panic(noVectors) }
func asmDot(_, _ []float32, _ int) float32               { panic(noVectors) }
func asmMax(_ []float32, _ int) float32                  { panic(noVectors) }
func asmExpSum(_, _ []float32, _ float32, _ int) float32 { panic(noVectors) }
func asmSwiGLUBackward(_, _, _, _, _ []float32, _ int)   { panic(noVectors) }
func asmAdamW(_, _, _, _ []float32, _ *AdamWConstants, _ int) {
	panic(noVectors)
}
