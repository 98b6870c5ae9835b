package tensor

import "unsafe"

// micro4x4 is the portable kernel, of packed operands a.
func micro4x4(k int, a *float32, _, _ int, b *float32, sb int, c *float32, ldc int, alpha float32, set int) {
	x, y := unsafe.Slice(a, 4*k), unsafe.Slice(b, (k-1)*sb+4)
	var s [4][4]float32
	for p := range k {
		u, v := (*[4]float32)(x[4*p:]), (*[4]float32)(y[p*sb:])
		for i := range 4 {
			s[i][0] += float32(u[i] * v[0])
			s[i][1] += float32(u[i] * v[1])
			s[i][2] += float32(u[i] * v[2])
			s[i][3] += float32(u[i] * v[3])
		}
	}
	out := unsafe.Slice(c, 3*ldc+4)
	for i := range 4 {
		for j := range 4 {
			v := float32(alpha * s[i][j])
			if set == 0 {
				v += out[i*ldc+j]
			}
			out[i*ldc+j] = v
		}
	}
}

var portableKernel = microKernel{mr: 4, nr: 4, full: micro4x4}
