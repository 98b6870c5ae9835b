package corpus

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// files are what a spec names, in the order of reading.
type files struct {
	train   []string
	heldout []string // nil: the last tenth of train
	split   string   // of heldout
}

// What a dataset folder is searched for.
const (
	maxFiles = 1 << 16
	maxDepth = 8
)

// A format is how a file is read.
type format int

const (
	plainText format = iota
	jsonLines
	parquetFile
)

// formatOf goes by the name. Any name that is no dataset's is plain text.
func formatOf(path string) (f format, compression string) {
	name := strings.ToLower(filepath.Base(path))
	for _, c := range []string{".gz", ".zst"} {
		if rest, ok := strings.CutSuffix(name, c); ok {
			name, compression = rest, c
		}
	}
	switch filepath.Ext(name) {
	case ".jsonl", ".ndjson", ".json":
		return jsonLines, compression
	case ".parquet":
		return parquetFile, compression
	}
	return plainText, compression
}

// find looks at what a spec names.
func find(spec string) (files, error) {
	info, err := os.Stat(spec)
	if err != nil {
		return files{}, fault.Wrap(fault.Usage, err, "the training text").
			WithHint("name a text file, a .jsonl or .parquet file, a dataset folder, or one of %s", strings.Join(Builtins(), ", "))
	}
	if info.Mode().IsRegular() {
		return files{train: []string{spec}}, nil
	}
	if !info.IsDir() {
		return files{}, fault.New(fault.Usage, "%s is neither a file nor a folder", spec)
	}
	found, err := list(spec)
	if err != nil {
		return files{}, err
	}
	for _, f := range []format{parquetFile, jsonLines, plainText} {
		if len(found[f]) > 0 {
			return bySplit(spec, found[f]), nil
		}
	}
	return files{}, fault.New(fault.Usage, "%s holds no .parquet, .jsonl, .json or .txt file", spec).
		WithHint("a dataset that was saved as Arrow files can be written again with datasets' to_parquet")
}

// notData are files beside a dataset's, not of it.
var notData = []string{"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "requirements.txt", "license.txt", "readme.txt"}

// list finds the dataset files of a folder by their format, sorted by path.
// Hidden files and folders are passed over. Files may be symbolic links, as in
// the hub's cache; folders may not.
func list(dir string) (map[format][]string, error) {
	found, seen := map[format][]string{}, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == dir:
			return nil
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			if rel, _ := filepath.Rel(dir, path); strings.Count(rel, string(filepath.Separator)) >= maxDepth {
				return fs.SkipDir
			}
			return nil
		}
		if seen++; seen > maxFiles {
			return fault.New(fault.Usage, "%s holds more than %d files", dir, maxFiles).WithHint("name a folder of it, or a file")
		}
		name := strings.ToLower(d.Name())
		f, _ := formatOf(name)
		if slices.Contains(notData, name) || f == plainText && !isText(name) {
			return nil
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return err
		}
		found[f] = append(found[f], path)
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "looking through the dataset folder")
	}
	return found, nil
}

func isText(name string) bool {
	return strings.HasSuffix(name, ".txt") || strings.HasSuffix(name, ".txt.gz") || strings.HasSuffix(name, ".txt.zst")
}

// splitWords are the words by which the datasets library knows a split.
var splitWords = map[string]string{
	"train": "train", "training": "train",
	"test": "test", "testing": "test", "eval": "test", "evaluation": "test",
	"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}

// splitOf reads a split from a path within the folder: "data/train-00000-of-00002.parquet".
// The file's own name counts before the folders'.
func splitOf(rel string) string {
	parts := strings.Split(filepath.ToSlash(strings.ToLower(rel)), "/")
	for _, part := range slices.Backward(parts) {
		words := strings.FieldsFunc(part, func(r rune) bool { return r < 'a' || r > 'z' })
		for _, w := range words {
			if s, ok := splitWords[w]; ok {
				return s
			}
		}
	}
	return ""
}

// bySplit sorts files into those to train on and those held out: test, or else
// validation. Files that name no split are trained on where none says train.
func bySplit(dir string, paths []string) files {
	by := map[string][]string{}
	for _, p := range paths {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			rel = p
		}
		by[splitOf(rel)] = append(by[splitOf(rel)], p)
	}
	set := files{train: by["train"]}
	if set.train == nil {
		set.train = by[""]
	}
	for _, name := range []string{"test", "validation"} {
		switch {
		case by[name] == nil:
		case set.train == nil: // nothing but held-out splits: the first is the text
			set.train = by[name]
		case set.heldout == nil:
			set.heldout, set.split = by[name], name
		}
	}
	return set
}
