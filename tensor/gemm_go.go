package tensor

import "unsafe"

// micro4x4 is the portable kernel.
func micro4x4(k int, a, b, c *float32, ldc int, alpha float32) {
	x, y := unsafe.Slice(a, 4*k), unsafe.Slice(b, 4*k)
	var s [4][4]float32
	for len(x) >= 4 && len(y) >= 4 {
		for i := range 4 {
			v := x[i]
			s[i][0] += float32(v * y[0])
			s[i][1] += float32(v * y[1])
			s[i][2] += float32(v * y[2])
			s[i][3] += float32(v * y[3])
		}
		x, y = x[4:], y[4:]
	}
	out := unsafe.Slice(c, 3*ldc+4)
	for i := range 4 {
		for j := range 4 {
			out[i*ldc+j] += float32(alpha * s[i][j])
		}
	}
}

var portableKernel = microKernel{mr: 4, nr: 4, f: micro4x4}
