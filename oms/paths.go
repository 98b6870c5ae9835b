package oms

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// checkPath refuses names that would leave the model, or that are not written
// in the one way that all systems understand.
func checkPath(p string) error {
	if p == wholeFile || !fs.ValidPath(p) || strings.ContainsRune(p, 0) || !filepath.IsLocal(filepath.FromSlash(p)) {
		return fmt.Errorf("%q is not a relative path inside the model", p)
	}
	return nil
}

// comparePaths orders by parts: a folder's files stand together.
func comparePaths(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}

// Ignored reports whether a path is one of the names or below one.
func Ignored(p string, names []string) bool {
	for _, n := range names {
		if rest, ok := strings.CutPrefix(p, n); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// Within returns the path of a file relative to a folder, slash-separated, if
// it is inside.
func Within(file, folder string) (string, bool) {
	f, err1 := filepath.Abs(file)
	d, err2 := filepath.Abs(folder)
	if err1 != nil || err2 != nil {
		return "", false
	}
	rel, err := filepath.Rel(d, f)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}
