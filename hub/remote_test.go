package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestFS(t *testing.T) {
	w := newWorld(t, nil)
	files := model()
	files["model.safetensors"] = noise(5, 600_000)
	w.AddRepo("ann/m", RepoPublic, files)
	repo, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	if err := fstest.TestFS(repo.FS(context.Background()), names...); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.c.cfg.Cache, "*")); len(left) != 0 {
		t.Errorf("looking at a model wrote %v", left)
	}
}

// TestReadAt: any sequence of reads gives what the file holds, and the
// connection may break.
func TestReadAt(t *testing.T) {
	w := newWorld(t, nil)
	data := noise(6, 9<<20)
	w.AddRepo("ann/m", RepoPublic, map[string][]byte{"model.safetensors": data})
	repo, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		w.Heal()
		if rapid.Bool().Draw(rt, "cut") {
			w.Fail(hubtest.Fault{Server: "storage", Cut: rapid.Int64Range(0, 300_000).Draw(rt, "after"), Times: 2})
		}
		f, err := repo.FS(context.Background()).Open("model.safetensors")
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		for range rapid.IntRange(1, 6).Draw(rt, "reads") {
			off := rapid.IntRange(0, len(data)+10).Draw(rt, "off")
			p := make([]byte, rapid.SampledFrom([]int{0, 1, 8, 1000, 300_000, 5 << 20}).Draw(rt, "n"))
			n, err := f.(io.ReaderAt).ReadAt(p, int64(off))
			want := data[min(off, len(data)):min(off+len(p), len(data))]
			if !bytes.Equal(p[:n], want) {
				rt.Fatalf("%d bytes at %d differ", len(p), off)
			}
			if short := off+len(p) > len(data) || off >= len(data); short != errors.Is(err, io.EOF) || !short && err != nil {
				rt.Fatalf("%d bytes at %d: %v", len(p), off, err)
			}
		}
	})
}

// TestHeadersOnly: reading the headers of a large model moves little more than
// the headers.
func TestHeadersOnly(t *testing.T) {
	w := newWorld(t, nil)
	shard := noise(7, 30<<20)
	binary.LittleEndian.PutUint64(shard, 90_000)
	w.AddRepo("ann/m", RepoPublic, map[string][]byte{"model-00001-of-00002.safetensors": shard, "model-00002-of-00002.safetensors": shard[:20<<20]})
	repo, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"})
	if err != nil {
		t.Fatal(err)
	}
	w.Forget()
	for _, name := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		f, err := repo.FS(context.Background()).Open(name)
		if err != nil {
			t.Fatal(err)
		}
		size := make([]byte, 8)
		header := make([]byte, 90_000)
		_, err1 := f.(io.ReaderAt).ReadAt(size, 0)
		_, err2 := f.(io.ReaderAt).ReadAt(header, 8)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(header, shard[8:90_008]) {
			t.Fatal(err)
		}
		f.Close()
	}
	if sent, _ := w.Traffic(); sent != 2*firstRead || len(w.Requests()) != 4 {
		t.Errorf("%d bytes in %d requests", sent, len(w.Requests()))
	}
}

// TestRemoteReadFile: what is read whole is checked.
func TestRemoteReadFile(t *testing.T) {
	w := newWorld(t, nil)
	data := noise(8, 5000)
	w.AddRepo("ann/m", RepoPublic, map[string][]byte{"config.json": []byte("{}"), "model.safetensors": data})
	repo, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"})
	if err != nil {
		t.Fatal(err)
	}
	fsys := repo.FS(context.Background())
	if got, err := fs.ReadFile(fsys, "model.safetensors"); err != nil || !bytes.Equal(got, data) {
		t.Error(err)
	}
	w.Corrupt(data)
	if _, err := fs.ReadFile(fsys, "model.safetensors"); fault.KindOf(err) != fault.Mismatch {
		t.Error(err)
	}
	f, _ := repo.File("model.safetensors")
	if _, err := repo.ReadFile(context.Background(), f, 100); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
	w.NoRanges = true
	file, _ := fsys.Open("model.safetensors")
	if _, err := file.(io.ReaderAt).ReadAt(make([]byte, 8), 100); err == nil {
		t.Error("a server without ranges was read in part")
	}
}
