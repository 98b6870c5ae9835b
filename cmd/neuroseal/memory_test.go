package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestFrugal checks that the bound on the heap stays while it suffices, and
// gives way when what is in use does not fit.
func TestFrugal(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	runtime.GC()
	beFrugal()
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // cleanups run in a goroutine of their own
	}
	if got := debug.SetMemoryLimit(-1); got != frugalHeap {
		t.Fatalf("the bound is %d bytes while little is in use, not %d", got, frugalHeap)
	}
	large := make([]byte, frugalHeap)
	large[0] = 1
	for deadline := time.Now().Add(30 * time.Second); debug.SetMemoryLimit(-1) != math.MaxInt64; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("the bound stays at %d bytes with %d in use", debug.SetMemoryLimit(-1), len(large))
		}
		time.Sleep(time.Millisecond)
	}
	runtime.KeepAlive(large)
}
