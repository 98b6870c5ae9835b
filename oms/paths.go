package oms

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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

// Shown writes a name from somebody else's model into a message: quoted where
// it has characters that could pass for lines of the message itself.
func Shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }) {
		return strconv.Quote(name)
	}
	return name
}

// Within returns the path of a file relative to a folder, slash-separated, if
// it is inside. Links that lead to the folders on the way are followed, as
// whoever writes or reads the file follows them; one in the file's place is not.
func Within(file, folder string) (string, bool) {
	f, err1 := filepath.Abs(file)
	d, err2 := filepath.Abs(folder)
	if err1 != nil || err2 != nil {
		return "", false
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(f)); err == nil {
		f = filepath.Join(parent, filepath.Base(f))
	}
	if real, err := filepath.EvalSymlinks(d); err == nil {
		d = real
	}
	rel, err := filepath.Rel(d, f)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}
