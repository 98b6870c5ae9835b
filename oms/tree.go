package oms

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// file is a file of a model on disk.
type file struct {
	rel  string // slash-separated; wholeFile for a model that is one file
	path string
	info fs.FileInfo // of the file itself, links followed
}

// tree is what a model is made of.
type tree struct {
	files   []file
	ignored []string // files and folders that were passed over
}

// walker lists the files of a model.
type walker struct {
	root   string
	ignore []string
	keep   *Statement // files that are listed even where ignored; may be nil
	links  bool       // follow links to files
	tree   tree
}

// list reads the model's folders. A model that is one file has that alone.
func (w *walker) list() (*tree, error) {
	info, err := os.Stat(w.root)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the model")
	}
	if info.Mode().IsRegular() {
		return &tree{files: []file{{wholeFile, w.root, info}}}, nil
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Usage, "%s is neither a file nor a folder", w.root)
	}
	// A link to the folder, which the user named, is followed.
	root, err := filepath.EvalSymlinks(w.root)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening the model")
	}
	w.root = root
	return &w.tree, filepath.WalkDir(root, w.visit)
}

func (w *walker) visit(path string, d fs.DirEntry, err error) error {
	if err != nil {
		return fault.Wrap(fault.General, err, "listing the model")
	}
	if path == w.root {
		return nil
	}
	rel, err := filepath.Rel(w.root, path)
	if err != nil {
		return fault.Wrap(fault.General, err, "listing the model")
	}
	rel = filepath.ToSlash(rel)
	if Ignored(rel, w.ignore) && !w.keeps(rel, d.IsDir()) {
		if len(w.tree.ignored) == 0 || !Ignored(rel, w.tree.ignored) {
			w.tree.ignored = append(w.tree.ignored, rel)
		}
		if d.IsDir() {
			return filepath.SkipDir
		}
		return nil
	}
	if d.IsDir() {
		return nil
	}
	return w.add(rel, path, d)
}

// keeps reports whether a file is listed, or a folder holds one that is.
func (w *walker) keeps(rel string, folder bool) bool {
	if w.keep == nil {
		return false
	}
	for _, r := range w.keep.Resources {
		if r.Path == rel || folder && strings.HasPrefix(r.Path, rel+"/") {
			return true
		}
	}
	return false
}

// add takes a file, or refuses what is none.
func (w *walker) add(rel, path string, d fs.DirEntry) error {
	link := d.Type()&fs.ModeSymlink != 0
	if link && !w.links {
		return fault.New(fault.Unsupported, "%s is a symbolic link", Shown(rel)).
			WithHint("--allow-symlinks follows links to files, as a download cache has them; or copy the folder, links followed")
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fault.Wrap(fault.General, err, "listing the model")
	case link && info.IsDir():
		return fault.New(fault.Unsupported, "%s is a symbolic link to a folder, whose files a signature would not cover", Shown(rel)).
			WithHint("copy the folder, links followed")
	case !info.Mode().IsRegular():
		return fault.New(fault.Unsupported, "%s is neither a file nor a folder", Shown(rel))
	}
	if err := checkPath(rel); err != nil {
		return fault.Wrap(fault.Unsupported, err, "a file's name").WithHint("rename it: names must be UTF-8")
	}
	w.tree.files = append(w.tree.files, file{rel, path, info})
	return nil
}
