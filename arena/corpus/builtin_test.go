package corpus

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "take a new source.txt.gz from the repository")

// TestSource holds the embedded source code to what the digests of published
// runs rest on. After -update, the digest here changes, and those runs with it.
func TestSource(t *testing.T) {
	const want = "45a84be72200decd39ecf24b3a3dad6f"
	if *update {
		if err := takeSource("../..", "source.txt.gz"); err != nil {
			t.Fatal(err)
		}
		t.Skip("taken: build again, and put the digest here")
	}
	c, err := Open(context.Background(), "builtin:source", Bytes(128), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Digest[:32]; got != want {
		t.Errorf("digest %s…, want %s…", got, want)
	}
	if n := len(c.Train) + len(c.Heldout); n < 300_000 {
		t.Errorf("%d bytes are too few", n)
	}
}

// takeSource packs the ASCII Go files of the repository that are no tests.
func takeSource(root, to string) error {
	const most = 600_000
	var all bytes.Buffer
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || all.Len() > most {
			return err
		}
		if strings.Contains(filepath.ToSlash(path), "/arena/") { // in motion while this was written
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x80 || r == 0 }) {
			return nil
		}
		all.Write(append(b, '\n'))
		return nil
	})
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(all.Bytes()); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, packed.Bytes(), 0o666)
}

func TestSourceIsASCII(t *testing.T) {
	r, err := gzip.NewReader(bytes.NewReader(sourceText))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }); i >= 0 {
		t.Errorf("byte %d is not ASCII", i)
	}
}

// TestBuiltins opens every text with bytes: its digest is what other engines and
// earlier runs have, and learning its counts is worth something.
func TestBuiltins(t *testing.T) {
	digests := map[string]string{}
	for _, spec := range Builtins() {
		c, err := Open(context.Background(), spec, Bytes(128), Options{})
		if err != nil {
			t.Fatal(spec, err)
		}
		if other, ok := digests[c.Digest]; ok {
			t.Errorf("%s and %s have one digest", spec, other)
		}
		digests[c.Digest] = spec
		loss := c.Unigram(128)
		if loss < 2 || loss > math.Log(128)-0.5 {
			t.Errorf("%s: %.3f nats per byte of a unigram model", spec, loss)
		}
		if err := c.Fits(4096); err != nil {
			t.Error(err)
		}
		again, err := Open(context.Background(), spec, Bytes(128), Options{})
		if err != nil || again.Digest != c.Digest {
			t.Errorf("%s: another digest the second time (%v)", spec, err)
		}
	}
}

// Held-out text must not be in the training text.
func TestHeldoutIsApart(t *testing.T) {
	for _, spec := range Builtins() {
		c, err := Open(context.Background(), spec, Bytes(128), Options{})
		if err != nil {
			t.Fatal(err)
		}
		train, held := toBytes(c.Train), toBytes(c.Heldout)
		for at := 0; at+200 <= len(held); at += len(held) / 20 {
			if bytes.Contains(train, held[at:at+200]) {
				t.Errorf("%s: 200 held-out bytes from %d on are in the training text", spec, at)
			}
		}
	}
}

func toBytes(tokens []int32) []byte {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return b
}
