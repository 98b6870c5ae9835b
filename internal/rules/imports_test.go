package rules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/neuroseal/neuroseal"

// mayImport lists, for every package of the product, the other packages of this
// module that it may import: data flows from the left of the design's picture
// to the right, and a package knows only what stands to its left. A new package
// gets a row here.
var mayImport = map[string][]string{
	"internal/fault":     {},
	"internal/dtype":     {"internal/fault"},
	"internal/atomicdir": {"internal/fault"},
	"internal/mt19937":   {},
	"internal/ui":        {"internal/fault"},
	"internal/sha256x2":  {},

	"safetensors": {"internal/dtype", "internal/fault"},
	"checkpoint":  {"internal/atomicdir", "internal/dtype", "internal/fault", "internal/sha256x2", "safetensors"},
	"gguf":        {"internal/dtype", "internal/fault", "checkpoint"},

	"graph":   {"internal/dtype", "internal/fault", "safetensors", "checkpoint"},
	"arch":    {"internal/dtype", "internal/fault", "safetensors", "gguf", "checkpoint", "graph"},
	"gauge":   {"internal/dtype", "internal/fault", "safetensors", "checkpoint", "graph"},
	"diagram": {"graph", "gauge"},

	// Formats of quantised weights.
	"quant": {"internal/dtype", "internal/fault", "internal/fsdir", "safetensors", "checkpoint", "graph", "gauge"},

	// Leaves: what they know of the rest is bits, bytes and errors.
	"tensor":         {"internal/dtype", "internal/fault"},
	"keys":           {"internal/atomicdir", "internal/fault"},
	"manifest":       {"internal/fault", "keys"},
	"oms":            {"internal/fault", "internal/sha256x2"},
	"hub":            {"internal/atomicdir", "internal/fault", "internal/fsdir", "internal/sha256x2"},
	"internal/fsdir": {},
	"modelcard":      {"manifest"},
	"adapter":        {"internal/fault"},
	// The hub that tests run against, and the room that they take; nothing of the
	// product imports them.
	"hub/hubtest":        {},
	"internal/testspace": {},

	"internal/elementwise": {"graph", "tensor"},

	// Readers of exchange formats.
	"internal/fold": {"graph"},
	"pt2":           {"internal/dtype", "internal/fault", "internal/fold", "graph"},
	"onnx":          {"internal/atomicdir", "internal/dtype", "internal/fault", "internal/fold", "checkpoint", "graph"},

	"probe": {"internal/dtype", "internal/elementwise", "internal/fault", "graph", "tensor"},
	"seal": {"internal/dtype", "internal/fault", "safetensors", "checkpoint", "graph", "arch", "gauge",
		"keys", "manifest"},

	"": {"diagram", "pt2", "internal/atomicdir", "internal/dtype", "internal/fault", "internal/mt19937", "safetensors",
		"checkpoint", "graph", "arch", "gauge", "tensor", "keys", "manifest", "adapter", "modelcard", "oms", "probe", "seal", "gguf", "onnx", "quant"},
	// Nothing but the command knows the arena.
	"arena":                  {"", "internal/atomicdir", "internal/fault", "checkpoint", "arch", "arena/corpus"},
	"arena/embedded":         {"internal/dtype", "internal/fault", "checkpoint", "arch", "arena", "arena/corpus", "arena/informed", "arena/train"},
	"arena/trl":              {"internal/fault", "checkpoint", "arena", "arena/corpus", "python"},
	"python":                 {},
	"arena/attack":           {"", "internal/atomicdir", "internal/fault", "checkpoint", "manifest", "arena", "arena/corpus", "arena/informed", "arena/specimen"},
	"arena/specimen":         {"internal/atomicdir", "internal/demo/text", "internal/dtype", "internal/fault", "safetensors", "checkpoint", "graph", "arch", "manifest", "probe", "arena/train"},
	"arena/informed":         {"", "internal/atomicdir", "internal/dtype", "internal/fault", "checkpoint", "safetensors", "graph", "arch", "gauge", "tensor", "manifest", "probe"},
	"arena/corpus/parquet":   {"internal/fault"},
	"arena/corpus/tokenizer": {"internal/fault"},
	"arena/corpus": {"internal/atomicdir", "internal/demo/text", "internal/fault",
		"arena/corpus/parquet", "arena/corpus/tokenizer"},
	"arena/jobs":  {"internal/atomicdir", "internal/fault"},
	"arena/train": {"", "internal/dtype", "internal/elementwise", "internal/fault", "checkpoint", "graph", "arch", "probe", "tensor", "seal", "keys"},
	"report":      {"internal/fault", "modelcard", "arena"},
	"cmd/neuroseal": {"", "internal/atomicdir", "internal/demo", "internal/dtype", "internal/fault",
		"internal/ui", "hub", "keys", "manifest", "modelcard", "oms", "probe", "seal", "arena", "arena/attack", "arena/embedded", "arena/jobs", "arena/trl", "report", "trace"},

	"trace": {"internal/atomicdir", "internal/dtype", "internal/fault", "checkpoint", "gguf", "onnx", "quant", "arch", "gauge", "seal", "keys", "manifest"},

	// What the demo ships, and the programs that made it or measure the product.
	"internal/demo":         {"internal/fault"},
	"internal/demo/text":    {},
	"internal/demo/gentext": {"internal/demo/text"},
	"tools/specimens":       {"internal/fault", "arena/specimen"},
	"tools/resistance":      {"", "arch", "gauge", "keys", "seal", "arena", "arena/attack", "arena/embedded", "arena/informed"},
	"tools/bench-seal":      {"gguf", "internal/atomicdir", "internal/dtype", "keys", "safetensors"},
	"tools/bench-hub":       {"hub", "hub/hubtest"},
	"trace/tracetest":       {"internal/demo/text", "internal/dtype", "checkpoint", "gguf", "safetensors", "arch", "arena/train"},
	"tools/trace":           {"", "internal/dtype", "internal/fault", "keys", "manifest", "seal", "arena/specimen", "arena/train", "trace", "trace/tracetest"},
	"tools/notices":         {},
	"tools/wheel":           {""},
	"tools/bench-train":     {"arch", "arena/train", "graph", "internal/dtype"},
}

// forbiddenNames say nothing about what a reader finds in a package.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base"}

type listed struct {
	ImportPath, Name, Dir                      string
	Imports, GoFiles, CgoFiles, IgnoredGoFiles []string
}

// packages lists the module's packages as the go command sees them.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,GoFiles,CgoFiles,IgnoredGoFiles", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// local returns the path within the module, "" for its root.
func local(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// TestImports holds the direction in which data flows.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name, _ := local(p.ImportPath)
		if len(p.GoFiles)+len(p.CgoFiles) == 0 {
			continue // tests only
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo: the binary is static", p.ImportPath)
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no row in mayImport: add one that says what it may know", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if to, ours := local(imp); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, which does not stand to its left", p.ImportPath, imp)
			}
		}
	}
}

// TestPackageNames: a package is named after what it holds.
func TestPackageNames(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(forbiddenNames, p.Name) || slices.Contains(forbiddenNames, path.Base(p.ImportPath)) {
			t.Errorf("package %s: the name says nothing about what it holds", p.ImportPath)
		}
	}
}

// TestRulesHaveNoCycle: the table itself must be a direction. Imports are
// acyclic anyway; this catches a table that allows both ways.
func TestRulesHaveNoCycle(t *testing.T) {
	done := map[string]bool{}
	var visit func(string, []string)
	visit = func(name string, stack []string) {
		if slices.Contains(stack, name) {
			t.Fatalf("mayImport goes in a circle: %s", strings.Join(append(stack, name), " → "))
		}
		if done[name] {
			return
		}
		for _, to := range mayImport[name] {
			if _, known := mayImport[to]; !known {
				t.Errorf("%q may import %q, which has no row", name, to)
			}
			visit(to, append(slices.Clone(stack), name))
		}
		done[name] = true
	}
	for name := range mayImport {
		visit(name, nil)
	}
}
