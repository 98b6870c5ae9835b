package rules

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// maxText is the largest file, in bytes, that is searched for foreign words.
const maxText = 1 << 20

// foreign are words that tie a file to one machine or one workplace. They are
// written in two pieces, so that this file does not contain them.
var foreign = []string{
	"/wo" + "rk/", "/ro" + "ot/", "/home/" + "runner", ".lib" + "rary/", "../sha" + "red",
	"proxy.gol" + "ang.org", "sum.gol" + "ang.org", "files.python" + "hosted.org", "pypi" + ".org",
	"registry.np" + "mjs.org", "index.crat" + "es.io", "repo1.ma" + "ven.org", "deb.deb" + "ian.org",
}

// exitFuncs end the process, which only a command may do.
var exitFuncs = map[string][]string{
	"os":      {"Exit"},
	"log":     {"Fatal", "Fatalf", "Fatalln"},
	"syscall": {"Exit"},
	"runtime": {"Goexit"},
}

// walk calls visit for every regular file of the repository that a checkout
// holds; built, cached and hidden folders are left out, .ci and .github not.
func walk(t *testing.T, visit func(path string, info fs.FileInfo)) {
	t.Helper()
	skip := []string{"bin", "dist", "bench-out", "__pycache__", "node_modules"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			hidden := strings.HasPrefix(name, ".") && name != ".ci" && name != ".github"
			if hidden || slices.Contains(skip, name) {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			visit(path, info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoForeignWords: the repository is the same for everyone.
func TestNoForeignWords(t *testing.T) {
	seen := 0
	walk(t, func(path string, info fs.FileInfo) {
		if info.Size() > maxText {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text[:min(len(text), 8192)], 0) >= 0 {
			return // not text
		}
		seen++
		for n, line := range bytes.Split(text, []byte("\n")) {
			for _, word := range foreign {
				if bytes.Contains(line, []byte(word)) {
					t.Errorf("%s:%d contains %s", path, n+1, word)
				}
			}
		}
	})
	if seen < 50 {
		t.Errorf("only %d text files seen: is %s the repository?", seen, root)
	}
}

// TestNoInitNoExit: importing a package does nothing, and only commands end the
// process. Generated files and tests may do as they like.
func TestNoInitNoExit(t *testing.T) {
	files := 0
	walk(t, func(path string, _ fs.FileInfo) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		files++
		if f.Name.Name == "main" || ast.IsGenerated(f) {
			return
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init function: importing a package must have no effect", set.Position(fn.Pos()))
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && exits(sel) {
				t.Errorf("%s: only a command may end the process", set.Position(sel.Pos()))
			}
			return true
		})
	})
	if files < 50 {
		t.Errorf("only %d Go files seen", files)
	}
}

func exits(sel *ast.SelectorExpr) bool {
	x, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains(exitFuncs[x.Name], sel.Sel.Name)
}
