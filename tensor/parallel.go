package tensor

import (
	"runtime"
	"sync"
)

// Parallel calls f on consecutive parts [lo, hi) of [0, n), at most GOMAXPROCS of
// them and each of at least grain indices (but the whole if n is less), on
// goroutines, and returns when all have. It keeps no workers.
func Parallel(n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	parts := min(runtime.GOMAXPROCS(0), max(1, n/max(1, grain)))
	var wg sync.WaitGroup
	for p := range parts - 1 {
		wg.Go(func() { f(n*p/parts, n*(p+1)/parts) })
	}
	f(n*(parts-1)/parts, n)
	wg.Wait()
}
