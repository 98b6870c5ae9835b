package neuroseal

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/mt19937"
)

// lockLegacy does to a checkpoint what the original Python tool did.
type lockLegacy struct {
	d  dtype.DType
	f  float64
	up bool
}

func (l lockLegacy) Edit(_ int64, buf []byte) error {
	if l.up {
		dtype.MulRow(l.d, buf, l.f)
	} else {
		dtype.DivRow(l.d, buf, l.f)
	}
	return nil
}

// TestLegacyPlausible: the right password is taken, a wrong one, a wrong scale
// and a checkpoint that nobody sealed are refused, and nothing is written.
func TestLegacyPlausible(t *testing.T) {
	ctx := context.Background()
	const src, password = "internal/demo/model", "correct horse"
	ck, err := checkpoint.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	locked := filepath.Join(t.TempDir(), "locked")
	dir, err := atomicdir.Create(locked, atomicdir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	scales := mt19937.LegacyScales(password, 100, 4)
	_, err = ck.Rewrite(ctx, dir, checkpoint.RewriteOptions{Edit: func(x checkpoint.Tensor) checkpoint.Editor {
		if n, up, ok := legacySide(x.Name); ok {
			return lockLegacy{x.DType, scales[n], up}
		}
		return nil
	}})
	if err == nil {
		err = dir.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    LegacyOptions
		want fault.Kind
	}{
		{"right", LegacyOptions{Source: locked, Password: password}, 0},
		{"wrong password", LegacyOptions{Source: locked, Password: "correct house"}, fault.WrongKey},
		{"wrong scale", LegacyOptions{Source: locked, Password: password, Scale: 1e4}, fault.NotSealed},
		{"not sealed", LegacyOptions{Source: src}, fault.NotSealed},
	} {
		c.o.Output = filepath.Join(t.TempDir(), "out")
		_, err := UnlockLegacy(ctx, c.o)
		if fault.KindOf(err) != c.want {
			t.Errorf("%s: %v, want exit %d", c.name, err, c.want)
		}
		if _, e := os.Stat(c.o.Output); (e == nil) != (c.want == 0) {
			t.Errorf("%s: output: %v", c.name, e)
		}
	}
}
