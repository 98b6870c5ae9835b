package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNotices: what is gathered covers what a binary says that it holds, and a
// module without a notice is named.
func TestNotices(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command")
	}
	list, err := linked("../..", "./cmd/neuroseal")
	if err != nil {
		t.Fatal(err)
	}
	text, err := render(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\ngithub.com/inconshreveable/mousetrap ", "\ngo.yaml.in/yaml/v4 ", "\n--- NOTICE\n", "\n--- PATENTS\n", "The Go Authors", "Georgi Gerganov"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the notices lack %q", want)
		}
	}
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "neuroseal"), filepath.Join(dir, "notices.txt")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/neuroseal").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	check := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return compare(file, []string{binary})
	}
	if err := check(string(text)); err != nil {
		t.Error(err)
	}
	for _, m := range list {
		if strings.Contains(m.name, "mousetrap") {
			continue // on Windows only
		}
		err := check(strings.Replace(string(text), "\n"+m.name+"\n", "\n"+m.name+".0\n", 1))
		if err == nil || !strings.Contains(err.Error(), m.name) {
			t.Errorf("without %s: %v", m.name, err)
		}
	}
}

// TestGather: notices are found beside the packages that are used, up to the
// module's own, whose licence must be there.
func TestGather(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"LICENCE.md": "may\r\nbe\r\n", "used/COPYING": "this too", "used/license.go": "package used", "used/deep/x.go": "", "unused/LICENSE": "no"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]*module{}
	packages := `{"Dir": "` + filepath.ToSlash(filepath.Join(dir, "used/deep")) + `", "Module": {"Path": "a", "Version": "v1", "Dir": "` + filepath.ToSlash(dir) + `"}}
{"Dir": "/std"}
{"Dir": "/main", "Module": {"Path": "m", "Main": true}}`
	if err := add(all, []byte(packages)); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatal(all)
	}
	text, err := render([]*module{all["a v1"]})
	want := rule + "\na v1\n" + rule + "\n\n--- LICENCE.md\n\nmay\nbe\n\n--- used/COPYING\n\nthis too\n\n" + rule
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%v\n%s", err, text)
	}
	if err := os.Remove(filepath.Join(dir, "LICENCE.md")); err != nil {
		t.Fatal(err)
	}
	delete(all["a v1"].files, "LICENCE.md")
	if _, err := render([]*module{all["a v1"]}); err == nil || !strings.Contains(err.Error(), "a v1: no licence") {
		t.Error(err)
	}
}
