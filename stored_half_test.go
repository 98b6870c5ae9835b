package neuroseal

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestHalfScales: GPTQModel writes AWQ's scales in the model's own type, and its
// linear maps, which transformers uses too, hold them in fp16. A scale that bf16
// can hold and fp16 cannot is infinite there.
func TestHalfScales(t *testing.T) {
	for i, p := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
		o := LockOptions{Source: filepath.Join("quant", "testdata", "awq"), Output: filepath.Join(t.TempDir(), "out"), Profile: p, Key: keys.SealKey{byte(i), 3}}
		if _, err := Lock(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		m := opened(t, o.Output)
		defer m.ck.Close()
		seen := 0
		for _, x := range m.ck.Tensors() {
			if !strings.HasSuffix(x.Name, ".scales") {
				continue
			}
			if seen++; x.DType != dtype.BF16 {
				t.Fatalf("%s is %v: the fixture tests nothing", x.Name, x.DType)
			}
			raw := make([]byte, x.Size)
			if err := m.ck.ReadAt(x, raw, 0); err != nil {
				t.Fatal(err)
			}
			numbers := make([]float32, x.Elements())
			dtype.ToFloat32(x.DType, numbers, raw)
			for _, v := range numbers {
				if a := math.Abs(float64(v)); a != 0 && (a < 0x1p-14 || a > 65504) {
					t.Fatalf("%s %s: a scale of %g", p, x.Name, v)
				}
			}
		}
		if seen == 0 {
			t.Fatal("no scales")
		}
	}
}
