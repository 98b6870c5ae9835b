package checkpoint

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// scanSize is the size of a buffer of Each in bytes.
const scanSize = 1 << 20

// Each reads the tensors that want accepts, all if it is nil, and calls chunk
// with their bytes, from element start on. The chunks of one tensor come in
// order and one at a time; several tensors are read at once, by as many workers
// as given (0: as many as processors), in the order of Tensors.
//
// A chunk holds whole rows of the tensor's last axis, or, of a row of more than
// 1 MiB, a part of one row; always whole elements. buf is valid only during the
// call and need not be aligned in memory. A tensor without elements gives no
// chunk.
//
// An error of chunk stops the reading and is returned, with the file and the
// tensor named and its kind kept. An ended ctx gives fault.Interrupted.
func (c *Checkpoint) Each(ctx context.Context, n int, want func(Tensor) bool, chunk func(t Tensor, start int64, buf []byte) error) error {
	g, gctx := errgroup.WithContext(ctx)
	next := make(chan Tensor)
	g.Go(func() error {
		defer close(next)
		for _, t := range c.tensors {
			if t.Size == 0 || want != nil && !want(t) {
				continue
			}
			select {
			case next <- t:
			case <-gctx.Done():
				return gctx.Err()
			}
		}
		return nil
	})
	for range workers(n) {
		g.Go(func() error {
			buf := make([]byte, scanSize)
			for t := range next {
				if err := c.scan(gctx, t, buf, chunk); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return finish(ctx, g.Wait())
}

// scan reads one tensor.
func (c *Checkpoint) scan(ctx context.Context, t Tensor, buf []byte, chunk func(Tensor, int64, []byte) error) error {
	unit, elements := t.unit()
	row := t.rowUnit()
	for off := int64(0); off < t.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:chunkLen(off, t.Size, row, unit)]
		if err := c.ReadAt(t, b, off); err != nil {
			return err
		}
		if err := chunk(t, off/unit*elements, b); err != nil {
			return fault.Wrap(fault.KindOf(err), inTensor(t, err), "%s", c.shards[t.Shard].Path)
		}
		off += int64(len(b))
	}
	return nil
}

// chunkLen returns the length of the chunk at off of a tensor of size bytes: as
// many rows as fit, or what is left of a row that does not fit.
func chunkLen(off, size, row, unit int64) int64 {
	n := min(scanSize, size-off)
	if row > scanSize {
		n = min(n, row-off%row)
	} else if row > 0 {
		unit = row
	}
	return n - n%unit
}
