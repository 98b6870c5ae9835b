package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// frugalHeap is how much memory the heap may take before it is collected more
// often than Go would, in bytes. Sealing itself needs little; a solver's
// short-lived lists would double that.
const frugalHeap = 46 << 20

// beFrugal bounds the heap as long as what is in use fits. For networks whose
// equations take more, the bound gives way: collecting without pause would only
// cost time. GOMEMLIMIT wins.
func beFrugal() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(frugalHeap)
	afterNextCollection()
}

// afterNextCollection looks at what a collection left, and at the next one's.
func afterNextCollection() {
	type tick struct{ _ [16]byte }
	runtime.AddCleanup(new(tick), func(struct{}) {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		if live := sample[0].Value.Uint64(); live > frugalHeap-6<<20 {
			debug.SetMemoryLimit(math.MaxInt64) // none
			return
		}
		afterNextCollection()
	}, struct{}{})
}
