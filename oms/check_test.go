package oms

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestTampering: whatever is changed in a model is named.
func TestTampering(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string // file: what; several apart by "; "
	}{
		"nothing":         {func(string) error { return nil }, ""},
		"a byte":          {func(d string) error { return flip(filepath.Join(d, "weights.bin")) }, "weights.bin: was changed"},
		"truncated":       {func(d string) error { return os.Truncate(filepath.Join(d, "weights.bin"), 77) }, "weights.bin: was changed"},
		"longer":          {func(d string) error { return os.Truncate(filepath.Join(d, "weights.bin"), 77777) }, "weights.bin: was changed"},
		"no longer empty": {func(d string) error { return os.WriteFile(filepath.Join(d, "empty.txt"), []byte("x"), 0o666) }, "empty.txt: was changed"},
		"added":           {func(d string) error { return os.WriteFile(filepath.Join(d, "a", "run.py"), nil, 0o666) }, "a/run.py: was not there"},
		"removed":         {func(d string) error { return os.Remove(filepath.Join(d, "config.json")) }, "config.json: is missing"},
		"renamed": {func(d string) error {
			return os.Rename(filepath.Join(d, "config.json"), filepath.Join(d, "konfig.json"))
		}, "config.json: is missing; konfig.json: was not there"},
		"moved": {func(d string) error {
			return os.Rename(filepath.Join(d, "a", "y.txt"), filepath.Join(d, "a-b", "y.txt"))
		}, "a/y.txt: is missing; a-b/y.txt: was not there"},
		"exchanged": {func(d string) error {
			x, y := filepath.Join(d, "a", "y.txt"), filepath.Join(d, "a-b", "x.txt")
			return os.Rename(y, x)
		}, "a/y.txt: was changed; a-b/x.txt: is missing"},
		"git's":     {func(d string) error { return os.WriteFile(filepath.Join(d, ".gitattributes"), []byte("x"), 0o666) }, ""},
		"signature": {func(d string) error { return os.WriteFile(filepath.Join(d, "model.sig"), []byte("x"), 0o666) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, by := range []string{"p256", "shards"} {
				v, err := bundle(t, by).Verify(Trust{Key: public(t, "p256")})
				if err != nil {
					t.Fatal(err)
				}
				dir := copyModel(t)
				if err := c.change(dir); err != nil {
					t.Fatal(err)
				}
				r := check(t, v.Statement, dir, CheckOptions{Signature: filepath.Join(dir, "model.sig")})
				if by == "shards" && (name == "no longer empty" || name == "added") {
					continue // pieces say nothing of empty files
				}
				var got []string
				for _, p := range r.Problems {
					got = append(got, p.File+": "+p.What)
				}
				want := strings.Split(c.want, "; ")
				if c.want == "" {
					want = nil
				}
				if len(got) != len(want) {
					t.Fatalf("%s: %q, want %q", by, got, want)
				}
				for i := range want {
					if by == "shards" && (name == "truncated" || name == "longer") {
						want[i] = "weights.bin: has "
					}
					if !strings.HasPrefix(got[i], want[i]) {
						t.Errorf("%s: %q, want %q", by, got[i], want[i])
					}
				}
			}
		})
	}
}

func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o666)
}

// TestOneFile: a file of its own, and one of a signed folder.
func TestOneFile(t *testing.T) {
	key := Trust{Key: public(t, "p256")}
	folder, err := bundle(t, "p256").Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := copyModel(t)
	if r := check(t, folder.Statement, filepath.Join(dir, "config.json"), CheckOptions{}); len(r.Problems) > 0 || !r.Partial || r.Files != 1 {
		t.Errorf("%+v", r)
	}
	if err := flip(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "a/y.txt", ".gitattributes"} {
		if r := check(t, folder.Statement, filepath.Join(dir, name), CheckOptions{}); len(r.Problems) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	file, err := bundle(t, "file").Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "config.json", "weights.bin"} {
		if r := check(t, file.Statement, filepath.Join(dir, name), CheckOptions{}); len(r.Problems) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestIgnored: what a signature says nothing of is reported, unless it is
// always so.
func TestIgnored(t *testing.T) {
	dir := copyModel(t)
	for _, p := range []string{".git/config", ".cache/huggingface/x", "own/a", "own/b", "ownership"} {
		put(t, filepath.Join(dir, filepath.FromSlash(p)), "x")
	}
	st, err := Hash(t.Context(), dir, HashOptions{Ignore: []string{"own", Name}})
	if err != nil {
		t.Fatal(err)
	}
	if st.Lists("own/a") || st.Lists(".git/config") || !st.Lists("ownership") || st.Files() != 7 {
		t.Errorf("%+v", st)
	}
	put(t, filepath.Join(dir, Name), "x")
	put(t, filepath.Join(dir, ".cache", "other"), "x")
	r := check(t, st, dir, CheckOptions{Signature: filepath.Join(dir, Name)})
	if strings.Join(r.Ignored, " ") != "own" || len(r.Problems) != 1 || r.Problems[0].File != ".cache/other" {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"..", "/etc", "a/../b", "."} {
		_, err := Hash(t.Context(), dir, HashOptions{Ignore: []string{bad}})
		wantFault(t, err, fault.Usage)
	}
	_, err = Hash(t.Context(), filepath.Join(dir, ".git"), HashOptions{Ignore: []string{"config"}})
	wantFault(t, err, fault.Usage)
}

func TestLinks(t *testing.T) {
	dir := copyModel(t)
	outside := filepath.Join(filepath.Dir(dir), "blob")
	put(t, outside, "blob")
	if err := os.Symlink(outside, filepath.Join(dir, "linked.bin")); err != nil {
		t.Skip(err)
	}
	_, err := Hash(t.Context(), dir, HashOptions{})
	wantFault(t, err, fault.Unsupported)
	st, err := Hash(t.Context(), dir, HashOptions{AllowSymlinks: true})
	if err != nil || !st.Lists("linked.bin") || !st.AllowSymlinks {
		t.Fatal(st, err)
	}
	st.AllowSymlinks = false
	_, err = st.Check(t.Context(), dir, CheckOptions{})
	wantFault(t, err, fault.Unsupported)
	if r := check(t, st, dir, CheckOptions{AllowSymlinks: true}); len(r.Problems) > 0 {
		t.Errorf("%+v", r)
	}
	put(t, outside, "another")
	if r := check(t, st, dir, CheckOptions{AllowSymlinks: true}); len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
	// A folder behind a link could hold anything.
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "code")); err != nil {
		t.Fatal(err)
	}
	_, err = Hash(t.Context(), dir, HashOptions{AllowSymlinks: true})
	wantFault(t, err, fault.Unsupported)
	// The operand itself may be a link.
	if err := os.Remove(filepath.Join(dir, "code")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, dir+"-link"); err != nil {
		t.Fatal(err)
	}
	if r := check(t, st, dir+"-link", CheckOptions{AllowSymlinks: true}); r.Files != 6 || len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestWithin: a file's place does not depend on the way to it.
func TestWithin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	put(t, filepath.Join(dir, "a"), "a")
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		file, folder string
		inside       bool
	}{
		{"model/x.sig", "model", true}, {"model-link/x.sig", "model", true}, {"model/x.sig", "model-link", true}, {"model-link/a", "model-link", true},
		{"x.sig", "model", false}, {"model", "model-link", false}, {"model-link", "model", false}, {"nowhere/x", "model", false},
	} {
		root := filepath.Dir(dir)
		if _, got := Within(filepath.Join(root, c.file), filepath.Join(root, c.folder)); got != c.inside {
			t.Errorf("%s in %s: %t", c.file, c.folder, got)
		}
	}
}

// TestNamesInMessages: a file's name adds no line to what is said of it, and no
// other problem hides it.
func TestNamesInMessages(t *testing.T) {
	dir := copyModel(t)
	st, err := Hash(t.Context(), dir, HashOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := "x\nok model is what was signed"
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
		t.Skip(err)
	}
	r := check(t, st, dir, CheckOptions{})
	if len(r.Problems) != 1 || r.Problems[0].File != name || strings.Contains(r.Problems[0].String(), "\n") {
		t.Errorf("%q", r.Problems)
	}
	for in, want := range map[string]string{"é/ü b.bin": "é/ü b.bin", "a\tb": `"a\tb"`, "\x1b[2K": `"\x1b[2K"`, "\u202e": `"\u202e"`, "\xff": `"\xff"`} {
		if got := Shown(in); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Hash(ctx, at("model"), HashOptions{})
	wantFault(t, err, fault.Interrupted)
}

// counter is a Progress that adds up; rates are for people.
type counter struct{ stage, done chan int64 }

func (c counter) Stage(_ string, n int64) { c.stage <- n }
func (c counter) Add(n int64)             { c.done <- n }

func TestProgress(t *testing.T) {
	c := counter{make(chan int64, 1), make(chan int64, 100)}
	if _, err := Hash(t.Context(), at("model"), HashOptions{Progress: c}); err != nil {
		t.Fatal(err)
	}
	close(c.done)
	var sum int64
	for n := range c.done {
		sum += n
	}
	if total := <-c.stage; total != sum || sum < 10000 {
		t.Errorf("%d of %d bytes", sum, total)
	}
}

// BenchmarkHash reads 1 GiB in shards; with one worker it is what sha256sum
// does, and each more should add as much.
func BenchmarkHash(b *testing.B) {
	dir := b.TempDir()
	const shards, size = 4, 256 << 20
	for i := range shards {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		block := make([]byte, 1<<20)
		for j := range block {
			block[j] = byte(j * (i + 3))
		}
		for range size >> 20 {
			if _, err := f.Write(block); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.SetBytes(shards * size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Hash(b.Context(), dir, HashOptions{Workers: workers}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAnyChange: a signed folder fits itself, and nothing that differs from it
// in one thing.
func TestAnyChange(t *testing.T) {
	s := signer(t, "p256")
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "m")
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.StringMatching(`([a-c]{1,2}/){0,2}[d-f.-]{0,2}[d-f]`)
		files := rapid.MapOfN(name, rapid.SliceOfN(rapid.Byte(), 0, 40), 1, 6).Draw(rt, "files")
		for p, data := range files {
			put(t, filepath.Join(dir, filepath.FromSlash(p)), string(data))
		}
		v := signed(t, s, dir, Trust{Key: &s.key.PublicKey})
		if r := check(t, v.Statement, dir, CheckOptions{}); len(r.Problems) > 0 || r.Files != len(files) {
			rt.Fatalf("%+v", r)
		}
		p := rapid.SampledFrom(slices.Sorted(maps.Keys(files))).Draw(rt, "file")
		path := filepath.Join(dir, filepath.FromSlash(p))
		problems := 1
		switch data := files[p]; rapid.IntRange(0, 3).Draw(rt, "change") {
		case 0:
			err = os.Remove(path)
		case 1:
			err = os.WriteFile(path, append(data, 0), 0o666)
		case 2:
			err = os.WriteFile(path+"x", data, 0o666)
			p += "x"
		case 3:
			err, problems = os.Rename(path, path+"x"), 2
		}
		if err != nil {
			t.Fatal(err)
		}
		if r := check(t, v.Statement, dir, CheckOptions{}); len(r.Problems) != problems || r.Problems[0].File != p {
			rt.Fatalf("%s: %+v", p, r)
		}
	})
}
