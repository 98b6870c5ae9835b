package specimen

import (
	"math"
	"testing"
)

func TestUnigram(t *testing.T) {
	// Two of four bytes are 'a': (2+1)/(4+128); 'c' was never seen.
	got := Unigram([]byte("aabb"), []byte("ac"))
	want := -(math.Log(3.0/132) + math.Log(1.0/132)) / 2
	if math.Abs(got-want) > 1e-12 {
		t.Errorf("%g, want %g", got, want)
	}
}

// TestBatches: half of the windows start with a document, and every byte
// predicts the one after it.
func TestBatches(t *testing.T) {
	text := []byte("start of it\n\nsecond one\n\nthird document here\n\nlast")
	b, err := newBatches(text, 8, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		x := b.next()
		if len(x.Tokens) != 32 || len(x.Targets) != 32 {
			t.Fatalf("%d tokens, %d targets", len(x.Tokens), len(x.Targets))
		}
		for i := range x.Tokens {
			if i%8 != 7 && x.Targets[i] != x.Tokens[i+1] {
				t.Fatalf("token %d does not predict the next one", i)
			}
		}
		for i := range 2 {
			if c := x.Tokens[8*i]; c != 's' && c != 't' {
				t.Errorf("window %d starts with %c", i, c)
			}
		}
	}
}
