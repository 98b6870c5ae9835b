package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// maxExported bounds the library: the exported names of the root package,
// methods included and struct fields not.
const maxExported = 120

// TestAPI: every exported name of every package is documented, and the root
// package stays small.
func TestAPI(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name == "main" || len(p.GoFiles) == 0 {
			continue
		}
		var names []exported
		documented := false
		// Files for other systems count too: their names are public there.
		for _, file := range append(p.GoFiles, p.IgnoredGoFiles...) {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, file), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
			if !ast.IsGenerated(f) {
				names = append(names, exportedOf(f)...)
			}
		}
		if !documented {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
		distinct := map[string]bool{}
		for _, n := range names {
			distinct[n.name] = true
			if !n.documented {
				t.Errorf("%s: %s is exported and not documented", p.ImportPath, n.name)
			}
		}
		if p.ImportPath == module && len(distinct) > maxExported {
			t.Errorf("the root package exports %d names, at most %d", len(distinct), maxExported)
		}
	}
}

type exported struct {
	name       string
	documented bool
}

// exportedOf lists a file's exported functions, methods of exported types,
// types, constants and variables. One comment on a group of constants or
// variables, or on a line of it, serves all its names.
func exportedOf(f *ast.File) []exported {
	var out []exported
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name, public := funcName(d)
			if public {
				// The methods that satisfy error, fmt, sort and the like say
				// nothing that their interface does not.
				out = append(out, exported{name, d.Doc != nil || d.Recv != nil && wellKnown[d.Name.Name]})
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				out = append(out, exportedSpec(d, spec)...)
			}
		}
	}
	return out
}

var wellKnown = map[string]bool{"Error": true, "String": true, "Unwrap": true, "Len": true, "Less": true, "Swap": true,
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true}

func funcName(d *ast.FuncDecl) (string, bool) {
	if d.Recv == nil {
		return d.Name.Name, d.Name.IsExported()
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	recv, ok := typ.(*ast.Ident)
	if !ok {
		return d.Name.Name, false
	}
	return recv.Name + "." + d.Name.Name, recv.IsExported() && d.Name.IsExported()
}

func exportedSpec(d *ast.GenDecl, spec ast.Spec) []exported {
	var out []exported
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			out = append(out, exported{s.Name.Name, d.Doc != nil || s.Doc != nil})
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() {
				out = append(out, exported{n.Name, d.Doc != nil || s.Doc != nil || s.Comment != nil})
			}
		}
	}
	return out
}
