// Package tensor has the CPU kernels of the forward pass: products with weights
// straight from their stored bytes, attention's matrix products, norms, softmax
// and activations, on float32.
//
// Every kernel is deterministic, and an element of a result depends only on its
// own operands and their number: not on the batch, the tiling, or how rows are
// split among goroutines. The products add in a fixed order that looks at no
// value, so multiplying operands by powers of two commutes with them bit for
// bit while nothing overflows or becomes subnormal; RMSNorm commutes with x·2ⁿ,
// eps·4ⁿ. On amd64 with AVX2, FMA and F16C assembly is used, on arm64 NEON for
// training's matrix product and vector functions, elsewhere Go; they agree to
// rounding, not to the bit.
package tensor

//go:generate go -C asm run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg tensor
