// Package fsdir describes files that are no files on this machine's disk, as
// io/fs wants it: entries, and folders open for reading.
package fsdir

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Entry is a file or a folder. It is an fs.FileInfo and an fs.DirEntry.
type Entry struct {
	Base   string // last element of its path
	Length int64  // bytes of a file
	Folder bool
}

// Name returns the last element of the path.
func (e Entry) Name() string { return e.Base }

// Size returns the length of a file in bytes.
func (e Entry) Size() int64 { return e.Length }

// ModTime returns no time: such files have none.
func (e Entry) ModTime() time.Time { return time.Time{} }

// IsDir reports whether it is a folder.
func (e Entry) IsDir() bool { return e.Folder }

// Sys returns nil: nothing lies below.
func (e Entry) Sys() any { return nil }

// Type returns the bits of the mode that tell a folder.
func (e Entry) Type() fs.FileMode { return e.Mode().Type() }

// Info returns the entry itself.
func (e Entry) Info() (fs.FileInfo, error) { return e, nil }

// Mode returns that of a file or folder that everybody may read.
func (e Entry) Mode() fs.FileMode {
	if e.Folder {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

// List lists what stands in a folder, by name; nil if there is none of that name.
// files are sorted by their paths, which of tells, with their sizes.
func List[F any](files []F, dir string, of func(F) (path string, size int64)) []fs.DirEntry {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	var out []fs.DirEntry
	seen := map[string]bool{}
	// What is below a folder stands together in the sorted list: a walk must not
	// read all of it for each of a great many folders.
	at, _ := slices.BinarySearchFunc(files, prefix, func(f F, p string) int {
		file, _ := of(f)
		return strings.Compare(file, p)
	})
	for _, f := range files[at:] {
		file, size := of(f)
		rest, ok := strings.CutPrefix(file, prefix)
		if !ok {
			break
		}
		e := Entry{Base: rest, Length: size}
		if first, _, deep := strings.Cut(rest, "/"); deep {
			e = Entry{Base: first, Folder: true}
		}
		if !seen[e.Base] {
			seen[e.Base] = true
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if out == nil && dir == "." {
		return []fs.DirEntry{}
	}
	return out
}

// Open returns the folder of a name, with its entries still to be read.
func Open(name string, entries []fs.DirEntry) fs.ReadDirFile {
	return &opened{Entry{Base: path.Base(name), Folder: true}, entries}
}

// opened is an open folder.
type opened struct {
	Entry
	left []fs.DirEntry
}

func (f *opened) Stat() (fs.FileInfo, error) { return f.Entry, nil }
func (f *opened) Close() error               { return nil }
func (f *opened) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.Base, Err: errors.New("is a folder")}
}

// ReadDir lists the next n entries, or all that are left.
func (f *opened) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		out := f.left
		f.left = nil
		return out, nil
	}
	if len(f.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.left))
	out := f.left[:n]
	f.left = f.left[n:]
	return out, nil
}
