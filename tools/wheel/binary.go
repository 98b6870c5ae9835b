package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

const command = "github.com/neuroseal/neuroseal/cmd/neuroseal"

// program is a binary and what it tells about itself.
type program struct {
	path    string
	goos    string
	goarch  string
	build   string // what all binaries of one release share
	tags    []string
	content []byte
}

// inspectAll reads the binaries of one build, one for each platform, and makes
// sure that they are that.
func inspectAll(ctx context.Context, paths []string, version string) ([]*program, error) {
	seen := map[string]string{}
	var all []*program
	for _, path := range paths {
		p, err := inspect(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		platform := p.goos + "/" + p.goarch
		if other, ok := seen[platform]; ok {
			return nil, fmt.Errorf("%s and %s are both for %s", other, path, platform)
		}
		seen[platform] = path
		all = append(all, p)
		if first := all[0]; p.build != first.build {
			return nil, fmt.Errorf("%s and %s are not of one build: %s, and %s", first.path, path, first.build, p.build)
		}
		if platform == runtime.GOOS+"/"+runtime.GOARCH {
			if err := checkVersion(ctx, path, version); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// inspect reads one binary.
func inspect(path string) (*program, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("not a Go program that says how it was built: %w", err)
	}
	if info.Path != command {
		return nil, fmt.Errorf("it is %s, not %s", info.Path, command)
	}
	set := settings(info)
	if set["CGO_ENABLED"] != "0" {
		return nil, errors.New("it was not built with CGO_ENABLED=0, so it may need libraries that others lack")
	}
	for name, least := range map[string]string{"GOAMD64": "v1", "GOARM64": "v8.0"} {
		if v, ok := set[name]; ok && v != least {
			return nil, fmt.Errorf("it was built with %s=%s, and runs on some processors only; wheels are for %s", name, v, least)
		}
	}
	p := &program{path: path, goos: set["GOOS"], goarch: set["GOARCH"], content: content}
	p.build = strings.TrimSpace(info.GoVersion + " " + info.Main.Version + " " + set["vcs.revision"])
	p.tags, err = platformTags(p.goos, p.goarch, content)
	return p, err
}

func settings(info *debug.BuildInfo) map[string]string {
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	return set
}

// platformTags returns the tags of the platforms on which the binary runs. A
// static Linux binary needs no C library, so it suits both families.
func platformTags(goos, goarch string, content []byte) ([]string, error) {
	switch goos + "/" + goarch {
	case "linux/amd64", "linux/arm64":
		if err := static(content); err != nil {
			return nil, err
		}
		cpu := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[goarch]
		return []string{"manylinux2014_" + cpu, "manylinux_2_17_" + cpu, "musllinux_1_1_" + cpu}, nil
	case "darwin/amd64", "darwin/arm64":
		major, minor, err := macOS(content)
		if err != nil {
			return nil, err
		}
		cpu := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[goarch]
		return []string{fmt.Sprintf("macosx_%d_%d_%s", major, minor, cpu)}, nil
	case "windows/amd64", "windows/arm64":
		return []string{"win_" + goarch}, nil
	}
	return nil, fmt.Errorf("no wheel is made for %s/%s", goos, goarch)
}

// static refuses a binary that a dynamic linker must complete.
func static(content []byte) error {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if len(libs) > 0 {
		return fmt.Errorf("it is not static: it needs %s", strings.Join(libs, ", "))
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is not static: it names a dynamic linker")
		}
	}
	return nil
}

// Load commands of Mach-O that tell the oldest macOS, and where in them.
const (
	versionMin   = macho.LoadCmd(0x24)
	buildVersion = macho.LoadCmd(0x32)
)

// macOS returns the oldest macOS on which the binary runs.
func macOS(content []byte) (major, minor uint32, err error) {
	f, err := macho.NewFile(bytes.NewReader(content))
	if err != nil {
		return 0, 0, err
	}
	for _, l := range f.Loads {
		raw := l.Raw()
		if len(raw) < 16 {
			continue
		}
		at := 0
		switch macho.LoadCmd(f.ByteOrder.Uint32(raw)) {
		case versionMin:
			at = 8
		case buildVersion:
			at = 12
		default:
			continue
		}
		v := f.ByteOrder.Uint32(raw[at:])
		major, minor = v>>16, v>>8&0xff
		if major >= 11 {
			minor = 0 // pip knows only these from macOS 11 on
		}
		return major, minor, nil
	}
	return 0, 0, errors.New("it does not say which macOS it needs")
}

// checkVersion runs a binary of this very platform: the wheel must not claim
// another version than the command does.
func checkVersion(ctx context.Context, path, want string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, abs, "version", "--json").Output()
	if err != nil {
		return fmt.Errorf("running %s version: %w", path, err)
	}
	var v struct{ Version string }
	if err := json.Unmarshal(out, &v); err != nil {
		return fmt.Errorf("%s version --json: %w", path, err)
	}
	if strings.TrimPrefix(v.Version, "v") != strings.TrimPrefix(want, "v") {
		return fmt.Errorf("%s is version %s, not %s: give -version %s", path, v.Version, want, v.Version)
	}
	return nil
}
