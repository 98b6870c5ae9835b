package checkpoint

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

var benchMB = flag.Int("bench-mb", 300, "size of the benchmark's checkpoint in MB")

// makeLarge writes a bf16 checkpoint of about *benchMB in three shards of
// random bytes, and returns its folder and size.
func makeLarge(b *testing.B) (dir string, size int64) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "model")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	const rows, cols = 1000, 2500 // 5 MB each
	perShard := max(1, *benchMB/15)
	weightMap := map[string]string{}
	for s := range 3 {
		name := fmt.Sprintf("model-%05d-of-00003.safetensors", s+1)
		var infos []safetensors.TensorInfo
		for i := range perShard {
			t := safetensors.TensorInfo{Name: fmt.Sprintf("layer.%d.%d", s, i), DType: dtype.BF16, Shape: []int{rows, cols}}
			infos, weightMap[t.Name] = append(infos, t), name
		}
		size += writeRandom(b, filepath.Join(dir, name), infos)
	}
	put(b, dir, indexName, indexFile(b, weightMap))
	return dir, size
}

func writeRandom(b *testing.B, path string, infos []safetensors.TensorInfo) int64 {
	b.Helper()
	h, err := safetensors.NewHeader(nil, infos)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	w.Write(h.Raw)
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{1}), h.DataEnd()-h.DataStart); err != nil {
		b.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return h.DataEnd()
}

// identity reads every element and changes none, as cheaply as an edit can be.
type identity struct{ sum byte }

func (e *identity) Edit(_ int64, buf []byte) error {
	e.sum ^= buf[0]
	return nil
}

// copyAll copies the shards as cp does, one after the other; and, if hash is
// set, hashes each, as sha256sum does, but with this processor's instructions
// for it, which sha256sum may lack.
func copyAll(b *testing.B, src, dst string, hash bool) {
	b.Helper()
	if err := os.Mkdir(dst, 0o755); err != nil {
		b.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(src, "*"))
	for _, name := range names {
		in, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		out, err := os.Create(filepath.Join(dst, filepath.Base(name)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			b.Fatal(err)
		}
		if hash {
			in.Seek(0, io.SeekStart)
			if _, err := io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{in}, make([]byte, 1<<18)); err != nil {
				b.Fatal(err)
			}
		}
		in.Close()
		if err := out.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRewrite edits every tensor, which means two digests of every byte,
// and gives the time relative to cp and to cp with one SHA-256.
func BenchmarkRewrite(b *testing.B) {
	src, size := makeLarge(b)
	b.SetBytes(size)
	var cp, cpHash, own time.Duration
	timed := func(total *time.Duration, dst string, f func()) {
		start := time.Now()
		f()
		*total += time.Since(start)
		os.RemoveAll(dst)
	}
	dst := filepath.Join(filepath.Dir(src), "out")
	// The first large copy pays for memory that the page cache then keeps.
	copyAll(b, src, dst, false)
	os.RemoveAll(dst)
	for b.Loop() {
		b.StopTimer()
		timed(&cp, dst, func() { copyAll(b, src, dst, false) })
		timed(&cpHash, dst, func() { copyAll(b, src, dst, true) })
		b.StartTimer()
		timed(&own, dst, func() { rewriteOnce(b, src, dst) })
	}
	b.ReportMetric(float64(own)/float64(cp), "x-cp")
	b.ReportMetric(float64(own)/float64(cpHash), "x-cp+sha256")
	if peak := peakMemory(); peak > 0 {
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	}
}

func rewriteOnce(b *testing.B, src, dst string) {
	c, err := Open(src)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_, err = rewriteCtx(context.Background(), c, dst, atomicdir.Options{}, RewriteOptions{Edit: func(Tensor) Editor { return &identity{} }})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEach reads every tensor.
func BenchmarkEach(b *testing.B) {
	src, size := makeLarge(b)
	c := open(b, src)
	b.SetBytes(size)
	for b.Loop() {
		if err := c.Each(context.Background(), 0, nil, func(Tensor, int64, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
