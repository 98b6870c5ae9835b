// Command wheel packs the command and the Python package neuroseal into wheels,
// one for each platform: pip install neuroseal then brings the static binary.
//
//	go run ./tools/wheel                 builds the command for every platform first
//	go run ./tools/wheel dist            takes the binaries that lie below dist
//	go run ./tools/wheel bin/neuroseal   takes this one
//
// What a wheel promises is read from the binary itself, not from its name: the
// platform, that it was built without cgo and links no library, and which macOS
// it needs. The same binaries give the same bytes; SOURCE_DATE_EPOCH sets the
// time of the files.
//
// There is no source distribution. Those of ruff and uv hold their whole source and
// a build backend for it; pip takes them where no wheel fits, and then needs the
// compiler. None is common for Go, and without one such a file would only fail
// later and less plainly than pip's own words. Packagers build from the release's
// source archive; where no wheel fits, go install makes the command.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal"
)

// targets are the platforms of a release.
var targets = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

type options struct {
	out     string
	version string
	source  string // the Python package
	license string
	notices string // "": they are made anew
	targets []string
	inputs  []string // binaries, or folders of them
}

func main() {
	o := options{}
	flag.StringVar(&o.out, "out", filepath.Join("dist", "wheels"), "write the wheels into `FOLDER`")
	flag.StringVar(&o.version, "version", neuroseal.Version, "version of the wheels, as the binaries' own `VERSION`")
	flag.StringVar(&o.source, "python", filepath.Join("python", "neuroseal"), "the Python package's `FOLDER`")
	flag.StringVar(&o.license, "license", "LICENSE", "licence `FILE`")
	flag.StringVar(&o.notices, "notices", "", "licences of linked modules, a `FILE` that tools/notices wrote; default: they are gathered")
	list := flag.String("targets", strings.Join(targets, ","), "without binaries: build for these `PLATFORMS`")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: wheel [flags] [BINARY or FOLDER …]")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.targets, o.inputs = strings.Split(*list, ","), flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "wheel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	when, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	version, err := pep440(o.version)
	if err != nil {
		return err
	}
	pkg, err := readPackage(o.source, o.license)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "neuroseal-wheel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	paths, err := o.binaries(ctx, scratch)
	if err != nil {
		return err
	}
	all, err := inspectAll(ctx, paths, o.version)
	if err != nil {
		return err
	}
	if pkg.notices, err = o.gather(ctx, scratch, paths); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o777); err != nil {
		return err
	}
	for _, b := range all {
		path, err := write(o.out, wheel{pkg: pkg, version: version, binary: b, when: when})
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

// binaries returns the paths of the binaries: the given ones, or new ones for
// every target.
func (o *options) binaries(ctx context.Context, scratch string) ([]string, error) {
	if len(o.inputs) > 0 {
		return find(o.inputs)
	}
	var paths []string
	for _, t := range o.targets {
		goos, goarch, ok := strings.Cut(strings.TrimSpace(t), "/")
		if !ok {
			return nil, fmt.Errorf("-targets: %q is not an operating system and an architecture, as linux/amd64", t)
		}
		path := filepath.Join(scratch, goos+"_"+goarch, binaryName(goos))
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/neuroseal")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOAMD64=v1", "GOARM64=v8.0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building for %s: %w\n%s", t, err, out)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// find returns the given files, and in given folders those that are named like
// the command.
func find(inputs []string) ([]string, error) {
	var paths []string
	for _, in := range inputs {
		info, err := os.Stat(in)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			paths = append(paths, in)
			continue
		}
		before := len(paths)
		err = filepath.WalkDir(in, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && (d.Name() == binaryName("") || d.Name() == binaryName("windows")) {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(paths) == before {
			return nil, fmt.Errorf("no binary named %s or %s below %s", binaryName(""), binaryName("windows"), in)
		}
	}
	return paths, nil
}

func binaryName(goos string) string {
	if goos == "windows" {
		return "neuroseal.exe"
	}
	return "neuroseal"
}

// sourceDate is the time of all files in a wheel: a fixed one, unless
// SOURCE_DATE_EPOCH gives another. Zip archives know no time before 1980.
func sourceDate(epoch string) (time.Time, error) {
	first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	if epoch == "" {
		return first, nil
	}
	n, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || n < 0 || n >= time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC).Unix() {
		return first, fmt.Errorf("SOURCE_DATE_EPOCH is %q, not a number of seconds from 1970 to 2107", epoch)
	}
	if t := time.Unix(n, 0).UTC(); t.After(first) {
		return t, nil
	}
	return first, nil
}

// gather returns the licences of what is linked into the binaries, and demands that
// none is missing.
func (o *options) gather(ctx context.Context, scratch string, binaries []string) ([]byte, error) {
	file := o.notices
	if file == "" {
		file = filepath.Join(scratch, "notices.txt")
		text, err := exec.CommandContext(ctx, "go", "run", "./tools/notices").Output()
		if err != nil {
			return nil, fmt.Errorf("gathering licences: %w", err)
		}
		if err := os.WriteFile(file, text, 0o666); err != nil {
			return nil, err
		}
	}
	check := exec.CommandContext(ctx, "go", append([]string{"run", "./tools/notices", "-check", file}, binaries...)...)
	if out, err := check.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("licences: %w\n%s", err, out)
	}
	return os.ReadFile(file)
}
