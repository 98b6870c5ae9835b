package gguf

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestKernels: the assembly computes the bits that the portable code computes.
func TestKernels(t *testing.T) {
	if !haveAsm {
		t.Skip("this processor runs the portable code")
	}
	defer func() { haveAsm = true }()
	random := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, 144)
	for range 2000 {
		for i := range block {
			block[i] = byte(random.Uint32())
		}
		var got, want [256]float32
		haveAsm = true
		dequantise4K(got[:], block)
		haveAsm = false
		dequantise4K(want[:], block)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) && want[i] == want[i] {
				t.Fatalf("element %d is %g, want %g: %x", i, got[i], want[i], block)
			}
		}
	}
}
