//go:build !amd64

package gguf

// haveAsm is false: this architecture runs the portable code, and what is below
// is never called.
var haveAsm = false

func blocks4(dst *float32, src *byte, n int)  { noKernel() }
func blocks8(dst *float32, src *byte, n int)  { noKernel() }
func blocks4K(dst *float32, src *byte, n int) { noKernel() }
func blocks5K(dst *float32, src *byte, n int) { noKernel() }
func blocks6K(dst *float32, src *byte, n int) { noKernel() }

func noKernel() { panic("gguf: assembly kernel called on an architecture without one") }
