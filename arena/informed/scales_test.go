package informed

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
)

// TestPairScales: what is left of a sealed model when its scales are divided out
// is what is left of the original.
func TestPairScales(t *testing.T) {
	for i, name := range families {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtures, name)
			sealed := filepath.Join(t.TempDir(), "sealed")
			_, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{Source: dir, Output: sealed, Profile: profiles[i%3], AllowSealed: true})
			if err != nil {
				t.Fatal(err)
			}
			a, b := divided(t, dir), divided(t, sealed)
			for _, x := range a.Tensors() {
				y, _ := b.Tensor(x.Name)
				for k, v := range x.Data {
					if d := math.Abs(float64(v) - float64(y.Data[k])); !(d <= 1e-4*(1e-2+math.Abs(float64(v)))) {
						t.Fatalf("%s[%d]: %g, sealed %g", x.Name, k, v, y.Data[k])
					}
				}
			}
		})
	}
}

func divided(t *testing.T, dir string) *Model {
	t.Helper()
	scales, err := PairScales(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, dir)
	for _, x := range m.Tensors() {
		rows, cols := scales(x.Name)
		width := rowWidth(x)
		for i := range x.Data {
			if rows != nil {
				x.Data[i] /= rows[i/width]
			}
			if cols != nil {
				x.Data[i] /= cols[i%width]
			}
		}
	}
	return m
}
