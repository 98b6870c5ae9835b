//go:build !amd64

package sha256x2

// haveAsm is false: this architecture runs crypto/sha256, and what is below is
// never called.
var haveAsm = false

func blocks1(a *[8]uint32, p *byte, n int) { panic("sha256x2: no kernels here") }

func blocks2(a *[8]uint32, p *byte, b *[8]uint32, q *byte, n int) {
	panic("sha256x2: no kernels here")
}
