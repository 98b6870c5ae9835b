package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command as users do. $MODEL is the demo model,
// $FAMILIES a folder with a tiny checkpoint per family, $EXPORTED one with
// checkpoints and their exported graphs, $ONNX one with ONNX models, $QUANTISED one with quantised checkpoints, $OMS one with
// keys and signed models, $TABLE the
// built-in table of attacks; all are only read.
func TestScripts(t *testing.T) {
	model, families := fixture(t, "../../internal/demo/model"), fixture(t, "../../arch/testdata")
	table := fixture(t, "../../arena/table.yaml")
	exported, onnx := fixture(t, "../../pt2/testdata"), fixture(t, "../../onnx/testdata")
	quantised, oms := fixture(t, "../../quant/testdata"), fixture(t, "../../oms/testdata")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("MODEL", model)
			env.Setenv("FAMILIES", families)
			env.Setenv("TABLE", table)
			env.Setenv("EXPORTED", exported)
			env.Setenv("ONNX", onnx)
			env.Setenv("QUANTISED", quantised)
			env.Setenv("OMS", oms)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "json": scriptJSON, "jsonlines": scriptJSONLines, "sametree": scriptSameTree,
			"cptree": scriptCopyTree, "flip": scriptFlip, "mode": scriptMode, "only": scriptOnly, "edit": scriptEdit,
			"mkshards": scriptMakeShards, "mklora": scriptMakeLoRA,
		},
	})
}

func fixture(t *testing.T, path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// scriptCode runs a program and demands its exit code: code 12 neuroseal …
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// scriptJSON demands that standard output is one JSON object in which every
// key=value holds; keys may have dots, values are regular expressions.
func scriptJSON(ts *testscript.TestScript, _ bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var object map[string]any
	ts.Check(dec.Decode(&object))
	if dec.More() {
		ts.Fatalf("more than one JSON value")
	}
	for _, a := range args {
		key, want, _ := strings.Cut(a, "=")
		got, ok := lookup(object, strings.Split(key, "."))
		if !ok {
			ts.Fatalf("no %s in the JSON object", key)
		}
		if text := fmt.Sprint(got); !regexp.MustCompile("^(?:" + want + ")$").MatchString(text) {
			ts.Fatalf("%s is %q, want %q", key, text, want)
		}
	}
}

func lookup(v any, path []string) (any, bool) {
	for _, p := range path {
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[p]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// scriptJSONLines demands that standard error is JSON lines with the types.
func scriptJSONLines(ts *testscript.TestScript, _ bool, types []string) {
	seen := map[string]bool{}
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		var e struct{ Type string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type == "" {
			ts.Fatalf("not a JSON line: %q (%v)", line, err)
		}
		seen[e.Type] = true
	}
	for _, t := range types {
		if !seen[t] {
			ts.Fatalf("no line of type %s", t)
		}
	}
}

// tree maps the files below a folder to their contents.
func tree(root string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		out[filepath.ToSlash(rel)] = string(data)
		return err
	})
	return out, err
}

// treeDiff names a file in which two folders differ, "" if there is none.
func treeDiff(a, b string) (string, error) {
	x, err1 := tree(a)
	y, err2 := tree(b)
	for name := range x {
		if v, ok := y[name]; !ok || v != x[name] {
			return name, errors.Join(err1, err2)
		}
	}
	for name := range y {
		if _, ok := x[name]; !ok {
			return name, errors.Join(err1, err2)
		}
	}
	return "", errors.Join(err1, err2)
}

func scriptSameTree(ts *testscript.TestScript, neg bool, args []string) {
	diff, err := treeDiff(ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	ts.Check(err)
	switch {
	case neg && diff == "":
		ts.Fatalf("%s and %s hold the same", args[0], args[1])
	case !neg && diff != "":
		ts.Fatalf("%s and %s differ in %s", args[0], args[1], diff)
	}
}

func scriptCopyTree(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// scriptFlip inverts one byte of a file, counted from its end if negative.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0xff
	ts.Check(os.WriteFile(path, data, 0o666))
}

func scriptMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := info.Mode().String(); got != args[0] {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// scriptOnly demands that a folder holds the named entries and no others.
func scriptOnly(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), strings.Join(args[1:], " "); got != want {
		ts.Fatalf("%s holds %q, want %q", args[0], got, want)
	}
}

// scriptEdit replaces a text, which must be there, in a file.
func scriptEdit(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(data, []byte(args[1]), []byte(args[2])), 0o666))
}

// TestRunInProcess: run itself is testable, and returns the exit code.
func TestRunInProcess(t *testing.T) {
	var out, err bytes.Buffer
	if code := run([]string{"version"}, &out, &err); code != 0 || !strings.HasPrefix(out.String(), "neuroseal ") || err.Len() > 0 {
		t.Errorf("%d %q %q", code, &out, &err)
	}
	if code := run([]string{"lock", "--no-such-flag"}, io.Discard, &err); code != 2 || !strings.Contains(err.String(), "hint: see: neuroseal lock --help") {
		t.Errorf("%d %q", code, &err)
	}
}
