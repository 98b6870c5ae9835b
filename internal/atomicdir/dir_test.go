package atomicdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// tree returns the content of every file below dir, nil if dir is missing.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	if !exists(dir) {
		return nil
	}
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		m[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var newTree = map[string]string{"a.txt": "new a", "sub/deep/b.txt": "new b", "sub/c.txt": strings.Repeat("c", 100)}

// fill writes newTree.
func fill(d *Dir) error {
	for rel, content := range newTree {
		f, err := d.Create(rel)
		if err != nil {
			return err
		}
		_, werr := f.Write([]byte(content))
		if err := errors.Join(werr, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func writeTree(dst string, opt Options) error {
	d, err := Create(dst, opt)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := fill(d); err != nil {
		return err
	}
	return d.Commit()
}

var oldTree = map[string]string{"old.txt": "old", "sub/old.txt": "old too"}

func makeOld(t *testing.T, dst string) {
	t.Helper()
	for rel, content := range oldTree {
		path := filepath.Join(dst, filepath.FromSlash(rel))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// onlyChild fails unless dir holds nothing but name.
func onlyChild(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestCommit(t *testing.T) {
	parent := t.TempDir()
	dst := filepath.Join(parent, "new", "out")
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(d); err != nil {
		t.Fatal(err)
	}
	if exists(dst) {
		t.Error("visible before Commit")
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := d.Abort(); err != nil {
		t.Error(err)
	}
	if got := tree(t, dst); !reflect.DeepEqual(got, newTree) {
		t.Errorf("got %v", got)
	}
	onlyChild(t, filepath.Dir(dst), "out")
	if err := d.Commit(); err == nil {
		t.Error("second Commit accepted")
	}
}

func TestAbort(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fill(d), d.Abort(), d.Abort()); err != nil {
		t.Fatal(err)
	}
	onlyChild(t, filepath.Dir(dst), "")
	if _, err := d.Create("x"); err == nil {
		t.Error("Create after Abort accepted")
	}
}

func TestDestinations(t *testing.T) {
	parent := t.TempDir()
	path := func(name string) string { return filepath.Join(parent, name) }
	os.Mkdir(path("empty"), 0o755)
	makeOld(t, path("full"))
	os.WriteFile(path("file"), nil, 0o644)
	if err := os.Symlink("full", path("link")); err != nil {
		t.Skip("no symbolic links:", err)
	}
	os.Symlink("nothing", path("dangling"))
	for _, tt := range []struct {
		name  string
		force bool
		ok    bool
	}{
		{"empty", false, true}, {"full", false, false}, {"file", false, false}, {"file", true, false},
		{"dangling", false, false}, {"link", false, false}, {"link", true, true},
	} {
		err := writeTree(path(tt.name), Options{Force: tt.force})
		if tt.ok != (err == nil) || err != nil && fault.KindOf(err) != fault.Usage {
			t.Errorf("%s, force %v: %v", tt.name, tt.force, err)
		}
	}
	if got := tree(t, path("full")); !reflect.DeepEqual(got, newTree) {
		t.Errorf("forced through a link: %v", got)
	}
	if info, err := os.Lstat(path("link")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
}

func TestPrecious(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	makeOld(t, home)
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	wd := filepath.Join(home, "a", "b")
	os.MkdirAll(wd, 0o755)
	t.Chdir(wd)
	for _, dst := range []string{home, filepath.Dir(home), "..", wd, string(filepath.Separator)} {
		if _, err := Create(dst, Options{Force: true}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", dst, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "a/b", ".gitattributes", "a b/é", "..a", "a..b/c"} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "../a", "a/../b", "a/../../b", "/a", "a/", "a//b", "./a", `a\b`, `..\a`, "C:a", "c:/a", "a\x00"} {
		if err := CheckName(bad); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCreateRefusesNames(t *testing.T) {
	d, err := Create(filepath.Join(t.TempDir(), "out"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if _, err := d.Create("../escape"); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
	f, err := d.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create of a name: %v", err)
	}
	if err := d.Commit(); err == nil {
		t.Error("Commit with an open file accepted")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err == nil {
		t.Error("second Close accepted")
	}
	if err := d.Commit(); err != nil {
		t.Error(err)
	}
}

func TestLiveProcessIsRespected(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(d); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dst, Options{Force: true}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second writer: %v", err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dst); !reflect.DeepEqual(got, newTree) {
		t.Errorf("got %v", got)
	}
}

// TestDestinationAppears: what came into being at the destination meanwhile is
// not overwritten.
func TestDestinationAppears(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	makeOld(t, dst)
	if err := d.Commit(); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	if got := tree(t, dst); !reflect.DeepEqual(got, oldTree) {
		t.Errorf("got %v", got)
	}
	onlyChild(t, filepath.Dir(dst), "out")
}

// TestOldAndNewBeside: an old folder that was moved aside, and not replaced, is
// never removed.
func TestOldAndNewBeside(t *testing.T) {
	parent := t.TempDir()
	dst := filepath.Join(parent, "out")
	old := filepath.Join(parent, ".out.neuroseal-old")
	makeOld(t, old)
	makeOld(t, dst)
	os.Mkdir(filepath.Join(parent, ".out.neuroseal-partial"), 0o755)
	if err := writeTree(dst, Options{Force: true}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	if !exists(filepath.Join(old, "old.txt")) {
		t.Error("the old folder is gone")
	}
}

// TestEveryOperationFails makes each operation in turn run out of space.
func TestEveryOperationFails(t *testing.T) {
	for _, force := range []bool{false, true} {
		for n := 1; ; n++ {
			parent := t.TempDir()
			dst := filepath.Join(parent, "out")
			var before map[string]string
			if force {
				makeOld(t, dst)
				before = oldTree
			}
			var count atomic.Int64
			Hook = func(op, path string) error {
				if count.Add(1) == int64(n) {
					return syscall.ENOSPC
				}
				return nil
			}
			err := writeTree(dst, Options{Force: force})
			Hook = nil
			if count.Load() < int64(n) {
				break
			}
			got := tree(t, dst)
			switch {
			case err == nil && reflect.DeepEqual(got, newTree): // failed after the result was in place
			case err != nil && fault.KindOf(err) == fault.NoSpace && reflect.DeepEqual(got, before):
			default:
				t.Fatalf("force %v, operation %d: %v, tree %v", force, n, err, got)
			}
			if err := writeTree(dst, Options{Force: true}); err != nil {
				t.Fatalf("force %v, operation %d, second run: %v", force, n, err)
			}
			if got := tree(t, dst); !reflect.DeepEqual(got, newTree) {
				t.Fatalf("force %v, operation %d, second run: tree %v", force, n, got)
			}
			onlyChild(t, parent, "out")
		}
	}
}

func TestWithin(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755)
	os.MkdirAll(filepath.Join(dir, "ab"), 0o755)
	os.Symlink("a", filepath.Join(dir, "link"))
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{
		{"a", "a", true}, {"a/b", "a", true}, {"a/b/c/d", "a", true}, {"a", "a/b", false}, {"ab", "a", false},
		{"link/b", "a", true}, {"link/new", "a", true}, {"a", "missing", false}, {"a/../ab", "a", false},
	} {
		got, err := Within(filepath.Join(dir, tt.path), filepath.Join(dir, tt.dir))
		if err != nil || got != tt.want {
			t.Errorf("Within(%s, %s) = %v, %v", tt.path, tt.dir, got, err)
		}
	}
}

func TestFree(t *testing.T) {
	n, err := Free(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if err != nil || n <= 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestCheck: what Check lets pass Create makes, what it refuses Create refuses.
func TestCheck(t *testing.T) {
	root := t.TempDir()
	full := filepath.Join(root, "full")
	if err := os.MkdirAll(full, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dst   string
		force bool
		ok    bool
	}{{filepath.Join(root, "new"), false, true}, {full, false, false}, {full, true, true}, {filepath.Join(full, "f"), true, false}} {
		if err := Check(c.dst, Options{Force: c.force}); (err == nil) != c.ok {
			t.Errorf("Check(%s, force %v): %v", c.dst, c.force, err)
		}
		d, err := Create(c.dst, Options{Force: c.force})
		if (err == nil) != c.ok {
			t.Errorf("Create(%s, force %v): %v", c.dst, c.force, err)
		}
		if err == nil {
			d.Abort()
		}
	}
}
