package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// flipper inverts all bits, and demands that chunks come in order, element by
// element, and cover the tensor.
type flipper struct {
	t    Tensor
	next int64
	mu   *sync.Mutex
	errs *[]string
}

func (f *flipper) Edit(start int64, buf []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	bits := int64(len(buf)) * 8
	if start != f.next || bits%int64(f.t.DType.Bits()) != 0 {
		*f.errs = append(*f.errs, fmt.Sprintf("%s: %d bytes at element %d, want %d", f.t.Name, len(buf), start, f.next))
	}
	f.next += bits / int64(f.t.DType.Bits())
	for i := range buf {
		buf[i] = ^buf[i]
	}
	return nil
}

func rewrite(c *Checkpoint, dst string, opt RewriteOptions) (*RewriteResult, error) {
	return rewriteCtx(context.Background(), c, dst, atomicdir.Options{}, opt)
}

func rewriteCtx(ctx context.Context, c *Checkpoint, dst string, dopt atomicdir.Options, opt RewriteOptions) (*RewriteResult, error) {
	d, err := atomicdir.Create(dst, dopt)
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	res, err := c.Rewrite(ctx, d, opt)
	if err != nil {
		return nil, err
	}
	return res, d.Commit()
}

func TestRewriteCopies(t *testing.T) {
	dir := makeFolder(t)
	c := open(t, dir)
	dst := filepath.Join(t.TempDir(), "out")
	var progress atomic.Int64
	opt := RewriteOptions{Progress: func(n int64) { progress.Add(n) }}
	res, err := rewrite(c, dst, opt)
	if err != nil {
		t.Fatal(err)
	}
	want := digests(t, dir)
	if got := digests(t, dst); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, f := range res.Files {
		if f.SHA256In != want[f.Path] || f.SHA256Out != want[f.Path] {
			t.Errorf("%+v", f)
		}
	}
	if len(res.Files) != len(want) || progress.Load() != c.TotalBytes() || c.RewriteBytes(opt) != c.TotalBytes() {
		t.Errorf("%d files, progress %d of %d", len(res.Files), progress.Load(), c.TotalBytes())
	}
}

func TestRewriteEdits(t *testing.T) {
	dir := makeFolder(t)
	c := open(t, dir)
	for _, n := range []int{1, 2, 20} {
		dst := filepath.Join(t.TempDir(), "out")
		var mu sync.Mutex
		var errs []string
		editors := map[string]*flipper{}
		res, err := rewrite(c, dst, RewriteOptions{Workers: n, Edit: func(x Tensor) Editor {
			if x.Name == "a.norm" || x.Shard == 1 {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			editors[x.Name] = &flipper{t: x, mu: &mu, errs: &errs}
			return editors[x.Name]
		}})
		if err != nil {
			t.Fatal(err)
		}
		if errs != nil {
			t.Error(errs)
		}
		if len(editors) != 5 {
			t.Errorf("%d editors", len(editors))
		}
		file, err := os.ReadFile(filepath.Join(dir, shard1))
		if err != nil {
			t.Fatal(err)
		}
		in := digests(t, dir)
		for _, x := range c.Tensors() {
			if e := editors[x.Name]; e != nil {
				if e.next != x.Elements() {
					t.Errorf("%s: %d of %d elements", x.Name, e.next, x.Elements())
				}
				for i := x.Offset; i < x.Offset+x.Size; i++ {
					file[i] = ^file[i]
				}
			}
		}
		got, err := os.ReadFile(filepath.Join(dst, shard1))
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d workers: wrong bytes, %v", n, err)
		}
		out := digests(t, dst)
		for _, f := range res.Files {
			if f.SHA256In != in[f.Path] || f.SHA256Out != out[f.Path] || (f.SHA256In != f.SHA256Out) != (f.Path == shard1) {
				t.Errorf("%+v", f)
			}
		}
	}
}

func TestRewriteOverrideAndSkip(t *testing.T) {
	dir := makeFolder(t)
	put(t, dir, "pytorch_model.bin", []byte("secret"))
	put(t, dir, "original/consolidated.safetensors", []byte("secret"))
	c := open(t, dir)
	out := t.TempDir()
	override := map[string][]byte{"config.json": []byte("changed"), "new/manifest.json": []byte("added"), "sub/empty.txt": {}}
	res, err := rewrite(c, filepath.Join(out, "1"), RewriteOptions{Override: override})
	if err != nil {
		t.Fatal(err)
	}
	want := digests(t, dir)
	for rel, content := range override {
		want[rel] = hexSum(content)
	}
	delete(want, "pytorch_model.bin")
	delete(want, "original/consolidated.safetensors")
	if got := digests(t, filepath.Join(out, "1")); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if len(res.LeftOut) != 2 || !res.LeftOut[0].Weights || !res.LeftOut[1].Pickle {
		t.Errorf("left out %+v", res.LeftOut)
	}
	for _, f := range res.Files {
		if f.Path == "config.json" && (f.Size != 7 || f.SHA256In != hexSum([]byte(`{"model_type":"llama"}`)) || f.SHA256Out != hexSum([]byte("changed"))) ||
			f.Path == "new/manifest.json" && (f.SHA256In != "" || f.SHA256Out != hexSum([]byte("added"))) {
			t.Errorf("%+v", f)
		}
	}
	res, err = rewrite(c, filepath.Join(out, "2"), RewriteOptions{Skip: func(rel string) bool { return rel == "tokenizer.json" }})
	if err != nil || len(res.LeftOut) != 1 || digests(t, filepath.Join(out, "2"))["pytorch_model.bin"] == "" {
		t.Errorf("%+v, %v", res, err)
	}
	for _, bad := range []string{shard1, "../x", "/x"} {
		if _, err := rewrite(c, filepath.Join(out, "3"), RewriteOptions{Override: map[string][]byte{bad: nil}}); err == nil {
			t.Errorf("override of %q accepted", bad)
		}
	}
}

type failing struct{ err error }

func (f failing) Edit(int64, []byte) error { return f.err }

func TestRewriteErrors(t *testing.T) {
	c := open(t, makeFolder(t))
	out := t.TempDir()
	boom := fault.New(fault.Unsupported, "boom").WithHint("do this")
	_, err := rewrite(c, filepath.Join(out, "1"), RewriteOptions{Edit: func(x Tensor) Editor {
		if x.Name == "b.v" {
			return failing{boom}
		}
		return nil
	}})
	if !errors.Is(err, boom) || fault.KindOf(err) != fault.Unsupported || fault.HintOf(err) != "do this" ||
		!strings.Contains(err.Error(), shard2) || !strings.Contains(err.Error(), `"b.v"`) {
		t.Errorf("editor's error: %v", err)
	}
	atomicdir.Hook = func(op, path string) error {
		if op == "write" && filepath.Base(path) == shard1 {
			return syscall.ENOSPC
		}
		return nil
	}
	_, err = rewrite(c, filepath.Join(out, "2"), RewriteOptions{})
	atomicdir.Hook = nil
	if fault.KindOf(err) != fault.NoSpace || !strings.Contains(err.Error(), shard1) {
		t.Errorf("no space: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = rewriteCtx(ctx, c, filepath.Join(out, "3"), atomicdir.Options{}, RewriteOptions{Progress: func(int64) { cancel() }})
	if fault.KindOf(err) != fault.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if entries, _ := os.ReadDir(out); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	for _, dst := range []string{c.Root(), filepath.Join(c.Root(), "out"), filepath.Dir(c.Root())} {
		d, err := atomicdir.Create(dst, atomicdir.Options{Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Rewrite(context.Background(), d, RewriteOptions{}); fault.KindOf(err) != fault.Usage {
			t.Errorf("output %s: %v", dst, err)
		}
		d.Abort()
	}
}

func TestRewriteInputShrinksOrGrows(t *testing.T) {
	for name, size := range map[string]int64{"shrinks": 1000, "grows": 1 << 22} {
		dir := makeFolder(t)
		c := open(t, dir)
		if err := os.Truncate(filepath.Join(dir, shard1), size); err != nil {
			t.Fatal(err)
		}
		_, err := rewrite(c, filepath.Join(t.TempDir(), "out"), RewriteOptions{})
		if fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), shard1) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRewriteSnapshot(t *testing.T) {
	dir, blobs := snapshot(t)
	before := digests(t, blobs)
	dst := filepath.Join(t.TempDir(), "out")
	var mu sync.Mutex
	var errs []string
	_, err := rewrite(open(t, dir), dst, RewriteOptions{Edit: func(x Tensor) Editor { return &flipper{t: x, mu: &mu, errs: &errs} }})
	if err != nil || errs != nil {
		t.Fatal(err, errs)
	}
	if !maps.Equal(digests(t, blobs), before) {
		t.Error("the snapshot was written through")
	}
	info, err := os.Lstat(filepath.Join(dst, "model.safetensors"))
	if err != nil || !info.Mode().IsRegular() {
		t.Errorf("output is no file: %v, %v", info, err)
	}
}

func TestDigest(t *testing.T) {
	dir := makeFolder(t)
	want := digests(t, dir)
	files := []string{shard2, shard1, "sub/empty.txt", "config.json"}
	var progress atomic.Int64
	got, err := Digest(context.Background(), dir, files, 2, func(n int64) { progress.Add(n) })
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for i, f := range got {
		total += f.Size
		if f.Path != files[i] || f.SHA256 != want[f.Path] {
			t.Errorf("%+v", f)
		}
	}
	if progress.Load() != total {
		t.Errorf("progress %d of %d", progress.Load(), total)
	}
	for rel, kind := range map[string]fault.Kind{"nothing": fault.Mismatch, "../model/config.json": fault.Unsupported, "sub": fault.Mismatch} {
		if _, err := Digest(context.Background(), dir, []string{rel}, 0, nil); fault.KindOf(err) != kind || !strings.Contains(err.Error(), rel) {
			t.Errorf("%s: %v", rel, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Digest(ctx, dir, files, 2, nil); fault.KindOf(err) != fault.Interrupted {
		t.Error(err)
	}
}

// TestRewriteShard: a shard alone has the bytes that it has in the whole, and
// shards that are placed are listed and not written.
func TestRewriteShard(t *testing.T) {
	ctx := context.Background()
	c, err := Open(makeFolder(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var mu sync.Mutex
	var errs []string
	opt := RewriteOptions{Edit: func(x Tensor) Editor { return &flipper{t: x, mu: &mu, errs: &errs} }}
	whole := filepath.Join(t.TempDir(), "whole")
	all, err := rewriteCtx(ctx, c, whole, atomicdir.Options{}, opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.Placed = map[string]FileResult{}
	for i, s := range c.Shards() {
		var out bytes.Buffer
		res, err := c.RewriteShard(ctx, i, &out, opt)
		want, rerr := os.ReadFile(filepath.Join(whole, s.Path))
		if err != nil || rerr != nil || !bytes.Equal(out.Bytes(), want) || !slices.Contains(all.Files, res) {
			t.Errorf("%s: %+v, %v, %v", s.Path, res, err, rerr)
		}
		opt.Placed[s.Path] = res
	}
	var rest int64
	for _, f := range c.OtherFiles() {
		if !f.Sensitive() {
			rest += f.Size
		}
	}
	if n := c.RewriteBytes(opt); n != rest {
		t.Errorf("with all shards placed %d bytes are read, want %d", n, rest)
	}
	again := filepath.Join(t.TempDir(), "again")
	res, err := rewriteCtx(ctx, c, again, atomicdir.Options{}, opt)
	if err != nil || !slices.Equal(res.Files, all.Files) {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := os.Stat(filepath.Join(again, c.Shards()[0].Path)); !os.IsNotExist(err) {
		t.Errorf("a placed shard was written: %v", err)
	}
	if len(errs) > 0 {
		t.Error(errs)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.RewriteShard(ended, 0, io.Discard, opt); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
}

// place is a shard's bytes in memory.
type place struct{ b []byte }

func (p *place) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(p.b).ReadAt(b, off)
}
func (p *place) WriteAt(b []byte, off int64) (int, error) { return copy(p.b[off:], b), nil }

// TestEditShard: a shard that is written over becomes what RewriteShard writes.
func TestEditShard(t *testing.T) {
	ctx := context.Background()
	dir := makeFolder(t)
	c := open(t, dir)
	opt := RewriteOptions{Edit: func(x Tensor) Editor {
		if x.Name == "a.norm" {
			return nil
		}
		return inverter{}
	}}
	for i, s := range c.Shards() {
		var want bytes.Buffer
		res, err := c.RewriteShard(ctx, i, &want, opt)
		if err != nil {
			t.Fatal(err)
		}
		original, err := os.ReadFile(filepath.Join(dir, s.Path))
		if err != nil {
			t.Fatal(err)
		}
		for _, known := range []string{"", res.SHA256In} {
			opt := opt
			var read atomic.Int64
			opt.Known, opt.Progress = map[string]string{s.Path: known}, func(n int64) { read.Add(n) }
			p := &place{bytes.Clone(original)}
			got, err := c.EditShard(ctx, i, p, opt)
			if err != nil || got != res || !bytes.Equal(p.b, want.Bytes()) || read.Load() != s.Size {
				t.Errorf("%s: %+v, want %+v; %v", s.Path, got, res, err)
			}
		}
		if _, err := c.EditShard(ctx, i, &place{append(bytes.Clone(original), 0)}, opt); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), s.Path) {
			t.Errorf("a longer file: %v", err)
		}
		if _, err := c.EditShard(ctx, i, &place{original[:len(original)-1]}, opt); err == nil || !strings.Contains(err.Error(), s.Path) {
			t.Errorf("a shorter file: %v", err)
		}
	}
}
