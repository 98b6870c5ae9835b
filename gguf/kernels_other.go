//go:build !amd64

package gguf

// haveAsm is false: this architecture runs the portable code, and what is below
// is never called.
var haveAsm = false

func runs4K(dst *float32, src *byte, coef *float32, n int) {
	panic("gguf: assembly kernel called on an architecture without one")
}
