package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestOpenFS: a file system gives what the folder gives, tensor by tensor and
// file by file, and can be rewritten.
func TestOpenFS(t *testing.T) {
	dir := makeFolder(t)
	put(t, dir, ".git/x", []byte("x"))
	near := open(t, dir)
	far, err := OpenFS(os.DirFS(dir), "hf://org/name")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	others := slices.Clone(near.OtherFiles())
	for i := range others {
		others[i].Perm = 0 // a file system like the hub's knows none
	}
	if !reflect.DeepEqual(far.Tensors(), near.Tensors()) || !reflect.DeepEqual(far.OtherFiles(), others) ||
		!bytes.Equal(far.ConfigJSON(), near.ConfigJSON()) || far.TotalBytes() != near.TotalBytes() || far.Root() != "hf://org/name" {
		t.Errorf("%v\n%v", far.OtherFiles(), others)
	}
	for _, x := range near.Tensors() {
		a, b := make([]byte, x.Size), make([]byte, x.Size)
		if err := near.ReadAt(x, a, 0); err != nil {
			t.Fatal(err)
		}
		if err := far.ReadAt(x, b, 0); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v", x.Name, err)
		}
	}
	if err := far.CheckOutput(dir); err != nil {
		t.Errorf("%v", err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := rewrite(far, out, RewriteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, want := digests(t, out), digests(t, dir)
	delete(want, ".git/x")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%v", got, want)
	}
	text, err := far.ReadFile("tokenizer.json", 2)
	if err != nil || string(text) != "{}" {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := far.ReadFile("tokenizer.json", 1); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("%v", err)
	}
	if _, err := far.ReadFile("nothing", 1); fault.KindOf(err) != fault.General {
		t.Errorf("%v", err)
	}
}

// TestOpenFSRefuses: with the kinds and words that a folder gives, and names
// that begin with the checkpoint's.
func TestOpenFSRefuses(t *testing.T) {
	good := shardFile(t, tensor("w", dtype.F32, 2))
	for name, c := range map[string]struct {
		files fstest.MapFS
		kind  fault.Kind
		words string
	}{
		"nothing":  {fstest.MapFS{"config.json": {Data: []byte("{}")}}, fault.Unsupported, "hf://o/n holds no safetensors"},
		"pickle":   {fstest.MapFS{"pytorch_model.bin": {Data: []byte("\x80\x02x")}}, fault.Unsupported, "hf://o/n/pytorch_model.bin is a Python pickle"},
		"two":      {fstest.MapFS{"a.safetensors": {Data: good}, "b.safetensors": {Data: good}}, fault.Mismatch, "holds 2 safetensors files"},
		"damaged":  {fstest.MapFS{singleName: {Data: good[:len(good)-1]}}, fault.Mismatch, "hf://o/n/" + singleName},
		"no shard": {fstest.MapFS{indexName: {Data: indexFile(t, map[string]string{"w": "x.safetensors"})}}, fault.Mismatch, "hf://o/n/x.safetensors"},
		"index":    {fstest.MapFS{indexName: {Data: []byte("[")}}, fault.Mismatch, "hf://o/n/" + indexName},
		"both":     {fstest.MapFS{singleName: {Data: good}, "x.safetensors": {Data: good}, indexName: {Data: indexFile(t, map[string]string{"w": "x.safetensors"})}}, fault.Unsupported, "holds both"},
		"a device": {fstest.MapFS{singleName: {Data: good, Mode: fs.ModeDevice}}, fault.Mismatch, "cannot be read"},
	} {
		ck, err := OpenFS(c.files, "hf://o/n")
		if err == nil {
			ck.Close()
		}
		if fault.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.words) {
			t.Errorf("%s: kind %d, %v", name, fault.KindOf(err), err)
		}
	}
}

// unreadable is a file system whose files cannot be read at offsets.
type unreadable struct{ fs.FS }

func (u unreadable) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if info, _ := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	return struct{ fs.File }{f}, nil
}

func TestOpenFSNeedsReaderAt(t *testing.T) {
	_, err := OpenFS(unreadable{os.DirFS(makeFolder(t))}, "hf://o/n")
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(fmt.Sprint(err), "cannot be read in parts") {
		t.Errorf("%v", err)
	}
}

// TestKnown: a digest that is known is taken as it is, and changes nothing else.
func TestKnown(t *testing.T) {
	c := open(t, makeFolder(t))
	edit := func(x Tensor) Editor { return inverter{} }
	for i, s := range c.Shards() {
		var plain, known bytes.Buffer
		a, err := c.RewriteShard(context.Background(), i, &plain, RewriteOptions{Edit: edit})
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.RewriteShard(context.Background(), i, &known, RewriteOptions{Edit: edit, Known: map[string]string{s.Path: "known"}})
		if err != nil {
			t.Fatal(err)
		}
		if b.SHA256In != "known" || b.SHA256Out != a.SHA256Out || !slices.Equal(plain.Bytes(), known.Bytes()) {
			t.Errorf("%+v, %+v", a, b)
		}
	}
}

type inverter struct{}

func (inverter) Edit(_ int64, buf []byte) error {
	for i := range buf {
		buf[i] = ^buf[i]
	}
	return nil
}

// TestStream: bytes that come in any pieces give the chunks that Each reads.
func TestStream(t *testing.T) {
	dir := makeFolder(t)
	c := open(t, dir)
	type piece struct {
		name  string
		start int64
		sum   string
	}
	want := func(x Tensor) bool { return x.Name != "a.norm" }
	var each []piece
	err := c.Each(context.Background(), 1, want, func(x Tensor, start int64, buf []byte) error {
		each = append(each, piece{x.Name, start, hexSum(buf)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []int{1 << 30, 1 << 20, 300_001, 7777} {
		var got []piece
		for i, s := range c.Shards() {
			data, err := os.ReadFile(filepath.Join(dir, s.Path))
			if err != nil {
				t.Fatal(err)
			}
			w := c.Stream(i, want, func(x Tensor, start int64, buf []byte) error {
				got = append(got, piece{x.Name, start, hexSum(buf)})
				return nil
			})
			for len(data) > 0 {
				if w.Complete() && len(got) == 0 {
					t.Error("complete before anything came")
				}
				n, err := w.Write(data[:min(step, len(data))])
				if err != nil {
					t.Fatal(err)
				}
				data = data[n:]
			}
			if !w.Complete() {
				t.Error("not complete")
			}
		}
		if !slices.Equal(got, each) {
			t.Errorf("pieces of %d: %d chunks, want %d", step, len(got), len(each))
		}
	}
	w := c.Stream(0, nil, func(Tensor, int64, []byte) error { return fault.New(fault.Unsupported, "no") })
	if _, err := w.Write(make([]byte, 2<<20)); fault.KindOf(err) != fault.Unsupported || !strings.Contains(fmt.Sprint(err), "a.") {
		t.Errorf("%v", err)
	}
}
