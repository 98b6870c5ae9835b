//go:build amd64 || arm64

package tensor

// packRows transposes eight rows of kc elements, ld apart, to the first eight of
// groups of w.
func packRows(dst []float32, w int, x []float32, ld, kc int) {
	whole := kc &^ 7
	transpose8(&dst[0], w, &x[0], ld, whole)
	for y := range 8 {
		row := x[y*ld:][:kc]
		for p := whole; p < kc; p++ {
			dst[p*w+y] = row[p]
		}
	}
}
