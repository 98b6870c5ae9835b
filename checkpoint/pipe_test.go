package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// negater inverts all bits, and fails from an element on.
type negater struct{ until int64 }

func (e negater) Edit(start int64, buf []byte) error {
	if start+int64(len(buf)) > e.until {
		return fault.New(fault.Mismatch, "element %d is too much", e.until)
	}
	for i := range buf {
		buf[i] = ^buf[i]
	}
	return nil
}

// newPipe moves data, of which all but the first ten bytes is a tensor, through
// an editor, if there is one.
func newPipe(data []byte, e Editor, bufs *pool) (p *pipe, out *bytes.Buffer) {
	out = new(bytes.Buffer)
	size := int64(len(data)) - 10
	s := span{t: Tensor{Name: "x", DType: dtype.U8, Shape: []int{int(size)}, Offset: 10, Size: size}, editor: e, unit: 1, elements: 1}
	return &pipe{in: bytes.NewReader(data), size: int64(len(data)), spans: []span{s}, out: out, pool: bufs}, out
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestPipesShareBuffers: any number of files gets through with any number of
// buffers, one included, and nothing is lost on the way.
func TestPipesShareBuffers(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, buffers := range []int{1, 2, 5, poolSize} {
		for _, files := range []int{1, 3, 20} {
			bufs := newPool(buffers)
			var g errgroup.Group
			for i := range files {
				data := make([]byte, 10+i%5*chunkSize+i*1000)
				random.Read(data)
				g.Go(func() error {
					var e Editor
					want := bytes.Clone(data)
					if i%4 != 3 {
						e = negater{1 << 40}
						_ = e.Edit(0, want[10:])
					}
					p, out := newPipe(data, e, bufs)
					if i%4 == 2 {
						p.known = sumOf(data)
					}
					if err := p.run(context.Background()); err != nil {
						return err
					}
					if p.sumIn != sumOf(data) || p.sumOut != sumOf(want) || !bytes.Equal(out.Bytes(), want) {
						return fmt.Errorf("file %d of %d, %d buffers: other bytes, or other digests", i, files, buffers)
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			if len(bufs.free) != buffers {
				t.Errorf("%d of %d buffers came back", len(bufs.free), buffers)
			}
		}
	}
}

// TestPipeStops: an editor's error comes out, from whichever block, and not what
// the other stages say when they are stopped.
func TestPipeStops(t *testing.T) {
	data := make([]byte, 8*chunkSize)
	for at := range 8 {
		p, _ := newPipe(slices.Clone(data), negater{int64(at) * chunkSize}, newPool(1+at))
		if err := p.run(context.Background()); fault.KindOf(err) != fault.Mismatch {
			t.Errorf("stopped in block %d: %v", at, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, _ := newPipe(data, negater{1 << 40}, newPool(2))
	if err := p.run(ctx); err == nil {
		t.Error("an ended context is no error")
	}
}
