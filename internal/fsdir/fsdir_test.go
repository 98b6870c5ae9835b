package fsdir

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// tree is a file system of empty files.
type tree []string

func (t tree) Open(name string) (fs.File, error) {
	list := List(t, name, func(s string) (string, int64) { return s, 0 })
	switch {
	case slices.Contains(t, name):
		return fstest.MapFS{name: {}}.Open(name)
	case list == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return Open(name, list), nil
}

// TestList: a walk finds every file once, in order, and folders that only paths
// name; names that continue a folder's are no part of it.
func TestList(t *testing.T) {
	files := tree{"a", "b-c/x", "b/d/e", "b/d/f", "b/g", "c"}
	var got []string
	if err := fs.WalkDir(files, ".", func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			p += "/"
		}
		got = append(got, p)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, " "); s != "./ a b/ b/d/ b/d/e b/d/f b/g b-c/ b-c/x c" {
		t.Errorf("%s", s)
	}
	d := Open("b", List(files, "b", func(s string) (string, int64) { return s, 0 }))
	first, err := d.ReadDir(1)
	if err != nil || len(first) != 1 || first[0].Name() != "d" {
		t.Errorf("%v, %v", first, err)
	}
	if rest, err := d.ReadDir(-1); err != nil || len(rest) != 1 || rest[0].Name() != "g" {
		t.Errorf("%v, %v", rest, err)
	}
	if _, err := d.ReadDir(1); err == nil {
		t.Error("an entry after the last")
	}
	if List(files, "z", func(s string) (string, int64) { return s, 0 }) != nil {
		t.Error("a folder that is not there")
	}
}
