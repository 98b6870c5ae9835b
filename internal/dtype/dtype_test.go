package dtype

import "testing"

// bothWays runs f with the assembly kernels, where there are any, and with the
// portable ones.
func bothWays(t *testing.T, f func(t *testing.T)) {
	if haveAsm {
		t.Run("assembly", f)
	}
	t.Run("portable", func(t *testing.T) {
		portable(t)
		f(t)
	})
}

// portable switches the assembly off until the test ends.
func portable(t testing.TB) {
	old := haveAsm
	haveAsm = false
	t.Cleanup(func() { haveAsm = old })
}

func TestParseString(t *testing.T) {
	for d := BOOL; d <= C64; d++ {
		if got, ok := Parse(d.String()); !ok || got != d {
			t.Errorf("Parse(%q) = %v, %v", d.String(), got, ok)
		}
		if d.Bits() == 0 {
			t.Errorf("%v has no size", d)
		}
	}
	if _, ok := Parse(""); ok {
		t.Error("the empty name is a type")
	}
}
