package fault

import (
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "t", 8: "t, t, t, t, t, t, t, t", 9: "t, t, t, t, t, t, t, t and 1 more"} {
		if got := List(slices.Repeat([]string{"t"}, n)); got != want {
			t.Errorf("%d names: %q, want %q", n, got, want)
		}
	}
}
