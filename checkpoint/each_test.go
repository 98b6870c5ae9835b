package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestEach(t *testing.T) {
	dir := makeFolder(t)
	put(t, dir, "extra.safetensors", nil)
	c := open(t, dir)
	for _, n := range []int{0, 1, 3} {
		var mu sync.Mutex
		got := map[string][]byte{}
		err := c.Each(context.Background(), n, func(x Tensor) bool { return x.Name != "a.odd" }, func(x Tensor, start int64, buf []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if start*int64(x.DType.Bits()) != int64(len(got[x.Name]))*8 {
				t.Errorf("%s: element %d after %d bytes", x.Name, start, len(got[x.Name]))
			}
			if x.Name == "a.big" && len(buf)%2000 != 0 {
				t.Errorf("%s: %d bytes are no whole rows", x.Name, len(buf))
			}
			got[x.Name] = append(got[x.Name], buf...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range c.Tensors() {
			want := make([]byte, x.Size)
			if err := c.ReadAt(x, want, 0); err != nil {
				t.Fatal(err)
			}
			if x.Name == "a.odd" {
				want = nil
			}
			if !bytes.Equal(got[x.Name], want) {
				t.Errorf("%s: wrong bytes", x.Name)
			}
		}
	}
}

func TestEachErrors(t *testing.T) {
	dir := makeFolder(t)
	c := open(t, dir)
	boom := errors.New("boom")
	err := c.Each(context.Background(), 2, nil, func(x Tensor, _ int64, _ []byte) error {
		if x.Name == "b.w" {
			return boom
		}
		return nil
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), shard2) || !strings.Contains(err.Error(), `"b.w"`) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = c.Each(ctx, 2, nil, func(Tensor, int64, []byte) error { cancel(); return nil })
	if fault.KindOf(err) != fault.Interrupted {
		t.Error(err)
	}
	if err := os.Truncate(filepath.Join(dir, shard2), 600); err != nil {
		t.Fatal(err)
	}
	err = c.Each(context.Background(), 2, nil, func(Tensor, int64, []byte) error { return nil })
	if fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), shard2) || !strings.Contains(err.Error(), `"b.`) {
		t.Error(err)
	}
}

// TestChunks: chunks cover a tensor of any type and shape, hold whole elements,
// and are whole rows or lie within one row.
func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := Tensor{DType: dtype.DType(rapid.IntRange(1, int(dtype.C64)).Draw(t, "type"))}
		last := rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, 4<<20)).Draw(t, "row")
		x.Shape = []int{8 * rapid.IntRange(1, 40).Draw(t, "rows"), last}
		bits := int64(x.DType.Bits())
		x.Size = x.Elements() * bits / 8
		unit, _ := x.unit()
		rowBits := bits * int64(last)
		for off := int64(0); off < x.Size; {
			n := chunkLen(off, x.Size, x.rowUnit(), unit)
			if n <= 0 || n > scanSize || n%unit != 0 || off%unit != 0 {
				t.Fatalf("%v: chunk of %d at %d", x, n, off)
			}
			whole := off*8%rowBits == 0 && (off+n)*8%rowBits == 0
			within := off*8/rowBits == ((off+n)*8-1)/rowBits
			if !whole && (!within || x.rowUnit() <= scanSize) && rowBits%8 == 0 {
				t.Fatalf("%v: chunk of %d at %d splits rows of %d bits", x, n, off, rowBits)
			}
			off += n
		}
	})
}

// TestCut: blocks of a rewrite cover the file and never end within an element.
func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pipe{size: int64(rapid.IntRange(8, 100).Draw(t, "header"))}
		for i := range rapid.IntRange(0, 6).Draw(t, "tensors") {
			x := Tensor{Name: fmt.Sprint(i), DType: dtype.DType(rapid.IntRange(1, int(dtype.C64)).Draw(t, "type")), Offset: p.size}
			s := span{t: x}
			s.unit, s.elements = x.unit()
			s.t.Size = s.unit * int64(rapid.IntRange(1, 1<<19).Draw(t, "units"))
			p.size += s.t.Size
			p.spans = append(p.spans, s)
		}
		for off := int64(0); off < p.size; {
			end := p.cut(off)
			if end <= off || end-off > chunkSize || end > p.size {
				t.Fatalf("block from %d to %d of %d", off, end, p.size)
			}
			if s := p.spanAt(end); s != nil && (end-s.t.Offset)%s.unit != 0 {
				t.Fatalf("block ends %d bytes into a tensor of units of %d", end-s.t.Offset, s.unit)
			}
			off = end
		}
	})
}
