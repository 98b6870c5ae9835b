package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// targets are the platforms of a release.
var targets = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// module is something of others that is linked into the command.
type module struct {
	name  string // path and version
	dir   string
	files map[string]bool // of its notices, slash-separated, below dir
}

var (
	// notice is the name of a file that has to go with a copy, license of one that
	// allows copying at all.
	notice  = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([-._].*)?$`)
	license = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([-._].*)?$`)
)

// linked lists the modules that a command holds on any platform, and Go's own
// library, with the notices in their folders and in those of the packages used.
func linked(dir, command string) ([]*module, error) {
	root, err := run(dir, nil, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	version, err := run(dir, nil, "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	std := &module{name: "Go's standard library and runtime, " + strings.TrimSpace(string(version)), dir: strings.TrimSpace(string(root)), files: map[string]bool{}}
	all := map[string]*module{std.name: std}
	if err := std.look(std.dir); err != nil {
		return nil, err
	}
	for _, t := range targets {
		goos, goarch, _ := strings.Cut(t, "/")
		out, err := run(dir, []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch, "GOWORK=off"}, "list", "-deps", "-json=Dir,Module", command)
		if err != nil {
			return nil, err
		}
		if err := add(all, out); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *module) int { return cmp.Compare(a.name, b.name) }), nil
}

// add adds the modules of packages, as go list writes them.
func add(all map[string]*module, packages []byte) error {
	dec := json.NewDecoder(bytes.NewReader(packages))
	for {
		var p struct {
			Dir    string
			Module *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{ Path, Version string }
			}
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		name := p.Module.Path + " " + p.Module.Version
		if r := p.Module.Replace; r != nil {
			name = r.Path + " " + r.Version
		}
		m := all[name]
		if m == nil {
			m = &module{name: name, dir: p.Module.Dir, files: map[string]bool{}}
			all[name] = m
		}
		for at := p.Dir; len(at) >= len(m.dir); at = filepath.Dir(at) {
			if err := m.look(at); err != nil {
				return err
			}
		}
	}
}

// look notes the notices in one folder.
func (m *module) look(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && notice.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
			rel, err := filepath.Rel(m.dir, filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			m.files[filepath.ToSlash(rel)] = true
		}
	}
	return nil
}

// ggml is the licence of what is linked without being a module: the code books of
// the IQ types in gguf/grids.bin.
//
//go:embed ggml.txt
var ggml string

const rule = "================================================================================"

// render writes the notices one behind the other. A module without a licence is
// an error: nobody may copy it.
func render(list []*module) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("The binaries of neuroseal hold code of others, under the terms below.\n")
	for _, m := range list {
		if !m.licensed() {
			return nil, fmt.Errorf("%s: no licence in %s: it must not be linked", m.name, m.dir)
		}
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", rule, m.name, rule)
		for _, name := range slices.Sorted(maps.Keys(m.files)) {
			text, err := fs.ReadFile(os.DirFS(m.dir), name)
			if err != nil {
				return nil, err
			}
			text = bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
			fmt.Fprintf(&b, "\n--- %s\n\n%s\n", name, text)
		}
	}
	fmt.Fprintf(&b, "\n%s\nggml, the code books of its IQ types\n%s\n\n%s\n", rule, rule, strings.TrimSpace(ggml))
	return b.Bytes(), nil
}

// licensed reports whether a licence stands at the module's top.
func (m *module) licensed() bool {
	for name := range m.files {
		if license.MatchString(name) {
			return true
		}
	}
	return false
}

// compare demands a notice of every module that the binaries hold.
func compare(file string, binaries []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, path := range binaries {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		names := []string{"Go's standard library and runtime, " + info.GoVersion}
		for _, d := range info.Deps {
			if d.Replace != nil {
				d = d.Replace
			}
			names = append(names, d.Path+" "+d.Version)
		}
		for _, name := range names {
			if !bytes.Contains(text, []byte(rule+"\n"+name+"\n"+rule+"\n")) {
				return fmt.Errorf("%s holds %s, of which %s has no notice", path, name, file)
			}
		}
	}
	return nil
}

// run runs the go command.
func run(dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}
