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
	micro("gemm12x32", 12, 2, true)
	micro("gemm12x16", 12, 1, true)
	micro("gemm8x32", 8, 2, true)
	micro("gemm8x16", 8, 1, true)
	transpose(8)
	for _, width := range []int{32, 16, 12} {
		copyGroups(width, false)
	}
	copyGroups(32, true)
	copyGroups(16, true)
	vectors()
	Generate()
}
