// Command bench-seal measures what sealing a large checkpoint costs, next to
// what copying and hashing the same bytes costs in the same run.
//
//	go run ./tools/bench-seal -gb 1 -reps 5
//
// It makes a bf16 Llama with random weights, then runs, each as a process of
// its own: cp -r; SHA-256 of all files, one after the other; neuroseal lock for
// every profile; unlock; verify. It reports the median wall time, the processor
// time and the peak memory of each, as the system accounts for them. Before
// every command all data is on the disk, the source is in the page cache, and
// the memory that the output will take has been in use.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/keys"
)

// options are the command line.
type options struct {
	gb       float64
	reps     int
	dir, bin string
	profiles []string
	json     string
	run      bool
	gguf     bool
	cpuPy    float64 // processor seconds of the original Python tool for 1 GB
	wallPy   float64
	peakPy   float64 // MiB
}

func main() {
	var o options
	flag.Float64Var(&o.gb, "gb", 1, "size of the checkpoint in GB (10^9 bytes)")
	flag.IntVar(&o.reps, "reps", 5, "how often each command runs; the median counts")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the files are made; three times the size must be free")
	flag.StringVar(&o.bin, "bin", "", "the neuroseal binary (default: built from this source)")
	profiles := flag.String("profiles", "portable,strong,max", "comma-separated")
	flag.StringVar(&o.json, "json", "", "write the figures to this file too")
	flag.BoolVar(&o.gguf, "gguf", false, "a model in GGUF, quantised to Q4_K_M, in place of one in bf16; its only profile is portable")
	flag.BoolVar(&o.run, "run", false, "measure verify --run too, which runs both networks")
	flag.Float64Var(&o.cpuPy, "python-cpu", 12.4, "processor seconds of the original Python tool for 1 GB; 0: leave it out")
	flag.Float64Var(&o.wallPy, "python-wall", 21.7, "its wall time in seconds")
	flag.Float64Var(&o.peakPy, "python-peak", 1745, "its peak memory in MiB")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench-seal [flags] | bench-seal make|make-gguf DIR GB | bench-seal hash DIR")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.profiles = strings.Split(*profiles, ",")
	if o.gguf {
		o.profiles = []string{"portable"}
	}
	if err := dispatch(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench-seal: error:", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or one of its own steps in a process by itself:
// a large step here would show in the peak memory of the processes started
// later, which begin as copies of this one.
func dispatch(o options, args []string) error {
	switch {
	case len(args) == 0:
		return bench(o)
	case len(args) == 3 && (args[0] == "make" || args[0] == "make-gguf"):
		var gb float64
		if _, err := fmt.Sscan(args[2], &gb); err != nil {
			return fmt.Errorf("size %q: %w", args[2], err)
		}
		if args[0] == "make-gguf" {
			return makeGGUF(args[1], gb)
		}
		return makeModel(args[1], gb)
	case len(args) == 2 && args[0] == "hash":
		return hashFolder(args[1])
	}
	flag.Usage()
	return errors.New("unknown arguments")
}

// bench makes the checkpoint, measures, prints and cleans up.
func bench(o options) (err error) {
	if o.gb <= 0 || o.reps < 1 {
		return errors.New("-gb and -reps must be positive")
	}
	if err := checkSpace(o.dir, o.gb); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-seal-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if o.bin == "" {
		o.bin = filepath.Join(dir, "neuroseal")
		if err := build(o.bin); err != nil {
			return err
		}
	} else if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	src, key := filepath.Join(dir, "model"), filepath.Join(dir, "key")
	fmt.Fprintf(os.Stderr, "making a checkpoint of %g GB\n", o.gb)
	kind := "make"
	if o.gguf {
		kind = "make-gguf"
	}
	if _, err := measure(self, kind, src, fmt.Sprint(o.gb)); err != nil {
		return err
	}
	if err := keys.WriteKeyFile(key, keys.SealKey{1, 2, 3}); err != nil {
		return err
	}
	report, err := measureAll(o, dir, src, key, self)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	if o.json == "" {
		return nil
	}
	return report.write(o.json)
}

// build compiles the product as a release is compiled.
func build(out string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, "github.com/neuroseal/neuroseal/cmd/neuroseal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the command: %w", err)
	}
	return nil
}

// checkSpace refuses to fill the disk.
func checkSpace(dir string, gb float64) error {
	free, err := atomicdir.Free(dir)
	if err != nil {
		return err
	}
	if need := int64(3.1*gb*1e9) + 1<<30; free < need {
		return fmt.Errorf("%s has %.1f GB free, %.1f are needed", dir, float64(free)/1e9, float64(need)/1e9)
	}
	return nil
}

// system describes the machine in a few words.
func system() string {
	return fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
