// Command gemm writes the amd64 assembly of package tensor for training: the
// micro-kernels of the matrix product, packing, and vector functions. Run it
// through go generate in the folder of package tensor.
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("amd64")
	micro("gemm6x16", 6, 2, false)
	micro("gemm8x32", 8, 2, true)
	micro("gemm8x16", 8, 1, true)
	transpose(8)
	transpose(6)
	vectors()
	Generate()
}
