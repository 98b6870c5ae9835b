package sha256x2

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"
)

var _ hash.Hash = (*Stream)(nil)

// TestPairs: streams of different lengths that begin and end at different times
// get their own sums, whoever hashes them.
func TestPairs(t *testing.T) {
	portable(t, func(t *testing.T) {
		for _, n := range []int{1, 2, 3, 7} {
			var pairs Pairs
			var g errgroup.Group
			for i := range n {
				g.Go(func() error {
					random := rand.New(rand.NewPCG(1, uint64(i)))
					for range 3 {
						data := make([]byte, random.IntN(2<<20))
						for k := range data {
							data[k] = byte(k + i)
						}
						s := pairs.Open()
						for p := data; len(p) > 0; {
							k := min(len(p), 1+random.IntN(700<<10))
							s.Write(p[:k])
							p = p[k:]
						}
						s.Close()
						if want := sha256.Sum256(data); !bytes.Equal(s.Sum(nil), want[:]) {
							return fmt.Errorf("stream %d of %d: another sum for %d bytes", i, n, len(data))
						}
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			if pairs.streams != 0 || pairs.waiting != nil {
				t.Errorf("%d streams are left, %v waits", pairs.streams, pairs.waiting)
			}
		}
	})
}
