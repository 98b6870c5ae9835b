package hub

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/sha256x2"
)

// TestPartial: whatever set of chunks was written before a process died, in
// whatever order, the next one knows it and completes the file.
func TestPartial(t *testing.T) {
	dir := t.TempDir()
	const step = 1000
	content := noise(3, 3*step+99)
	rapid.Check(t, func(rt *rapid.T) {
		size := int64(rapid.SampledFrom([]int{1, 10, step - 1, step, step + 1, 2 * step, len(content)}).Draw(rt, "size"))
		path := filepath.Join(dir, "blob")
		defer os.Remove(path + ".part")
		defer os.Remove(path)
		n := int((size + step - 1) / step)
		written := map[int]bool{}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 4).Draw(rt, "chunks") {
			// Every chunk is written by another process.
			p, err := newPartial(path+".part", size, step).open("")
			if err != nil {
				rt.Fatal(err)
			}
			put(rt, p, i, content)
			written[i] = true
			p.f.Close()
		}
		p, err := newPartial(path+".part", size, step).open("")
		if err != nil {
			rt.Fatal(err)
		}
		missing, have := p.missing()
		if len(missing) != n-len(written) {
			rt.Fatalf("%d of %d chunks are missing after %v", len(missing), n, written)
		}
		for _, i := range missing {
			if written[i] {
				rt.Fatalf("chunk %d is forgotten", i)
			}
			put(rt, p, i, content)
			have += p.end(i) - p.start(i)
		}
		h := sha256.New()
		if ok, err := p.sum(h); !ok || err != nil || have != size {
			rt.Fatal(ok, err, have)
		}
		if err := p.commit(path, dir); err != nil {
			rt.Fatal(err)
		}
		got, _ := os.ReadFile(path)
		if want := sha256.Sum256(content[:size]); !bytes.Equal(got, content[:size]) || !bytes.Equal(h.Sum(nil), want[:]) {
			rt.Fatal("the content differs")
		}
	})
}

// TestPartialCut: a file that is cut before it is hashed never has the right sum,
// and whoever is hashed with it does not wait for ever.
func TestPartialCut(t *testing.T) {
	const step = 2 << 20
	content := noise(5, 2*step)
	pairs := new(sha256x2.Pairs)
	begin := func(name string) *partial {
		p, err := newPartial(filepath.Join(t.TempDir(), name), int64(len(content)), step).open("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.f.Close() })
		for i := range p.done {
			if _, err := p.f.WriteAt(content[p.start(i):p.end(i)], p.start(i)); err != nil {
				t.Fatal(err)
			}
			if err := p.mark(i); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	whole, cut := begin("whole"), begin("cut")
	if err := cut.f.Truncate(step); err != nil {
		t.Fatal(err)
	}
	type result struct {
		sum []byte
		err error
	}
	sum := func(p *partial) chan result {
		c, h := make(chan result, 1), pairs.Open()
		go func() {
			_, err := p.sum(h)
			h.Close()
			c <- result{h.Sum(nil), err}
		}()
		return c
	}
	a, b := sum(whole), sum(cut)
	right := sha256.Sum256(content)
	<-a // right, or an error, or another sum: then it is downloaded again
	if r := <-b; r.err == nil && bytes.Equal(r.sum, right[:]) {
		t.Error("a file that was cut has the right sum")
	}
}

func put(rt *rapid.T, p *partial, i int, content []byte) {
	if _, err := p.f.WriteAt(content[p.start(i):p.end(i)], p.start(i)); err != nil {
		rt.Fatal(err)
	}
	if err := p.mark(i); err != nil {
		rt.Fatal(err)
	}
}

// FuzzPartial: whatever lies where a partial file is expected is used or
// replaced, and never believed to be more than its record says.
func FuzzPartial(f *testing.F) {
	f.Add([]byte(nil), uint16(10))
	f.Add([]byte("0123456789NSHUB16\n\x01"), uint16(10))
	f.Add([]byte("0123456789NSHUB16\n\x00"), uint16(10))
	f.Add([]byte("0123456789NSHUB08\n\x01"), uint16(10))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		path := filepath.Join(t.TempDir(), "part")
		if size == 0 || os.WriteFile(path, data, 0o666) != nil {
			return
		}
		p, err := openPartial(path, "", int64(size))
		if err != nil {
			t.Fatal(err)
		}
		defer p.f.Close()
		record := append([]byte(trailerMagic), 1)
		whole := len(data) == int(size)+len(record) && bytes.Equal(data[size:len(data)-1], record[:len(record)-1]) && data[len(data)-1]&1 == 1
		if missing, _ := p.missing(); (len(missing) == 0) != whole {
			t.Errorf("missing %v, whole %v", missing, whole)
		}
	})
}
