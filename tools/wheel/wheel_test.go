package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2026, 11, 23, 18, 30, 44, 0, time.UTC)

// testWheel is a wheel whose binary is a few bytes.
func testWheel(t *testing.T, goos string, tags ...string) wheel {
	t.Helper()
	pkg, err := readPackage("../../python/neuroseal", "../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	pkg.notices = []byte("of others\n")
	return wheel{pkg: pkg, version: "1.2.3", when: when, binary: &program{goos: goos, tags: tags, content: []byte("\x7fELF" + goos)}}
}

// TestWheel reads what was written as an installer does.
func TestWheel(t *testing.T) {
	for goos, binary := range map[string]string{"linux": "neuroseal/bin/neuroseal", "windows": "neuroseal/bin/neuroseal.exe"} {
		w := testWheel(t, goos, "one_x86_64", "two_x86_64")
		path, err := write(t.TempDir(), w)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) != "neuroseal-1.2.3-py3-none-one_x86_64.two_x86_64.whl" {
			t.Error(path)
		}
		files, headers := read(t, path)
		last := headers[len(headers)-1].Name
		if last != "neuroseal-1.2.3.dist-info/RECORD" {
			t.Errorf("%s is last", last)
		}
		checkRecord(t, files, last)
		for _, h := range headers {
			mode := fs.FileMode(0o644)
			if h.Name == binary {
				mode = 0o755
			}
			if h.Mode() != mode || h.Flags != 0 || !h.Modified.Equal(when) || h.Method != zip.Deflate {
				t.Errorf("%s: mode %v, flags %#x, time %v, method %d", h.Name, h.Mode(), h.Flags, h.Modified, h.Method)
			}
		}
		for name, want := range map[string]string{
			binary: "\x7fELF" + goos, "neuroseal/py.typed": "",
			"neuroseal-1.2.3.dist-info/entry_points.txt": "[console_scripts]\nneuroseal = neuroseal._binary:main\n",
			"neuroseal-1.2.3.dist-info/WHEEL":            "Wheel-Version: 1.0\nGenerator: neuroseal tools/wheel\nRoot-Is-Purelib: false\nTag: py3-none-one_x86_64\nTag: py3-none-two_x86_64\n",
		} {
			if got, ok := files[name]; !ok || string(got) != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		meta := string(files["neuroseal-1.2.3.dist-info/METADATA"])
		head, body, ok := strings.Cut(meta, "\n\n")
		if !ok || !strings.Contains(head, "\nVersion: 1.2.3\n") || !strings.HasPrefix(body, "# NeuroSeal") {
			t.Error(meta)
		}
		for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES.txt"} {
			if len(files["neuroseal-1.2.3.dist-info/licenses/"+name]) == 0 || !strings.Contains(head, "\nLicense-File: "+name+"\n") {
				t.Errorf("no %s", name)
			}
		}
	}
}

// TestReproducible: the same input gives the same bytes.
func TestReproducible(t *testing.T) {
	var sums [2][32]byte
	for i := range sums {
		path, err := write(t.TempDir(), testWheel(t, "linux", "any"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(raw)
	}
	if sums[0] != sums[1] {
		t.Error("two wheels of the same files differ")
	}
}

func read(t *testing.T, path string) (map[string][]byte, []*zip.File) {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil { // checks sizes and CRC, too
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	if len(files) != len(z.File) {
		t.Error("a name stands in the archive twice")
	}
	return files, z.File
}

func checkRecord(t *testing.T, files map[string][]byte, name string) {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(files[name])).ReadAll()
	if err != nil || len(rows) != len(files) {
		t.Fatalf("%d rows for %d files (%v)", len(rows), len(files), err)
	}
	for _, r := range rows {
		sum := sha256.Sum256(files[r[0]])
		want := []string{r[0], "sha256=" + base64.RawURLEncoding.EncodeToString(sum[:]), fmt.Sprint(len(files[r[0]]))}
		if r[0] == name {
			want = []string{name, "", ""}
		}
		if _, ok := files[r[0]]; !ok || !slices.Equal(r, want) {
			t.Errorf("RECORD: %v, want %v", r, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for in, want := range map[string]string{
		"0.1.0": "0.1.0", "v1.2.3": "1.2.3", "1.0.0-rc.1": "1.0.0rc1", "1.0.0-beta.10": "1.0.0b10", "1.0.0-alpha0": "1.0.0a0",
		"1.0.0-alpha.00": "1.0.0a0", "0.1.0-snapshot": "0.1.0.dev0+snapshot", "0.1.1-SNAPSHOT-3f2a": "0.1.1.dev0+snapshot.3f2a",
		"1.0.0+build.5": "1.0.0+build.5", "1.0.0-x+y": "1.0.0.dev0+x.y",
	} {
		if got, err := pep440(in); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "1", "1.2", "1.2.3.4", "(devel)", "1.2.3-", "1.2.3 ", "a1.2.3"} {
		if got, err := pep440(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestSourceDate(t *testing.T) {
	for in, want := range map[string]string{"": "1980-01-01T00:00:00Z", "0": "1980-01-01T00:00:00Z", "1700000000": "2023-11-14T22:13:20Z"} {
		if got, err := sourceDate(in); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for _, bad := range []string{"x", "-1", "4354819200", "1.5"} {
		if _, err := sourceDate(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestPackage: what does not belong into the package is named.
func TestPackage(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"README.md", "__init__.py", "notes.swp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readPackage(dir, "../../LICENSE"); err == nil || !strings.Contains(err.Error(), "notes.swp") {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "notes.swp")); err != nil {
		t.Fatal(err)
	}
	if p, err := readPackage(dir, "../../LICENSE"); err == nil && len(p.files) != 1 {
		t.Error(p.files)
	}
}

// TestInspect: what a wheel claims is read from the program, and others are refused.
func TestInspect(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for five platforms")
	}
	dir := t.TempDir()
	source := map[string]string{"go.mod": "module github.com/neuroseal/neuroseal\n\ngo 1.26\n", "cmd/neuroseal/main.go": "package main\n\nfunc main() {}\n", "other/main.go": "package main\n\nfunc main() {}\n"}
	for name, text := range source {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, pkg, goos, goarch, env string
		tags, fault                  string
	}{
		{name: "linux", pkg: "./cmd/neuroseal", goos: "linux", goarch: "amd64", tags: "manylinux2014_x86_64 manylinux_2_17_x86_64 musllinux_1_1_x86_64"},
		{name: "darwin", pkg: "./cmd/neuroseal", goos: "darwin", goarch: "arm64", tags: "macosx_12_0_arm64"},
		{name: "windows", pkg: "./cmd/neuroseal", goos: "windows", goarch: "arm64", tags: "win_arm64"},
		{name: "newer processor", pkg: "./cmd/neuroseal", goos: "linux", goarch: "amd64", env: "GOAMD64=v3", fault: "GOAMD64=v3"},
		{name: "other platform", pkg: "./cmd/neuroseal", goos: "linux", goarch: "riscv64", fault: "no wheel is made for linux/riscv64"},
		{name: "other program", pkg: "./other", goos: "linux", goarch: "amd64", fault: "neuroseal/other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "neuroseal")
			cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, c.pkg)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+c.goos, "GOARCH="+c.goarch, "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", c.env)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			p, err := inspect(path)
			switch {
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("%v, want one about %s", err, c.fault)
			case c.fault == "" && (err != nil || strings.Join(p.tags, " ") != c.tags):
				t.Errorf("%+v %v, want %s", p, err, c.tags)
			}
		})
	}
	if _, err := inspect("../../LICENSE"); err == nil {
		t.Error("a text is taken for a program")
	}
}

// TestFind: folders are searched for what is named like the command.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/neuroseal", "b/neuroseal.exe", "b/notes.txt"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := find([]string{dir, filepath.Join(dir, "b", "notes.txt")})
	want := []string{filepath.Join(dir, "a", "neuroseal"), filepath.Join(dir, "b", "neuroseal.exe"), filepath.Join(dir, "b", "notes.txt")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := find([]string{t.TempDir()}); err == nil {
		t.Error("an empty folder is no error")
	}
}
