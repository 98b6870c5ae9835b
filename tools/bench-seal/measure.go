package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sample is what one run of a command cost.
type sample struct {
	Wall   float64 `json:"wall_s"`
	User   float64 `json:"user_s"` // of all threads
	System float64 `json:"system_s"`
	Peak   float64 `json:"peak_mib"` // largest resident set
}

// CPU is the processor time in seconds.
func (s sample) CPU() float64 { return s.User + s.System }

// measure runs a command and says what it cost.
func measure(name string, args ...string) (sample, error) {
	var output bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	began := time.Now()
	err := cmd.Run()
	s := sample{Wall: time.Since(began).Seconds()}
	if err != nil {
		return s, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, output.String())
	}
	s.User, s.System = cmd.ProcessState.UserTime().Seconds(), cmd.ProcessState.SystemTime().Seconds()
	s.Peak = peakMiB(cmd.ProcessState)
	return s, nil
}

// step is a command to measure.
type step struct {
	name   string
	output string // the folder that it will make; "": none
	run    func() (sample, error)
}

// measureAll runs all steps, the whole round as often as asked, so that a
// change of the machine's mood falls on all of them.
func measureAll(o options, dir, src, key, self string) (*report, error) {
	size, err := sizeOf(src)
	if err != nil {
		return nil, err
	}
	r := &report{o: o, System: system(), Bytes: size, Samples: map[string][]sample{}, Started: time.Now().UTC().Format(time.RFC3339)}
	steps := steps(o, dir, src, key, self)
	if _, err := measure(self, "hash", src); err != nil { // into the page cache
		return nil, err
	}
	for i := range o.reps {
		for _, s := range steps {
			if err := prepare(src, s.output); err != nil {
				return nil, err
			}
			got, err := s.run()
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "%d/%d  %-24s %7.2f s wall %7.2f s CPU %6.0f MiB\n", i+1, o.reps, s.name, got.Wall, got.CPU(), got.Peak)
			if r.Samples[s.name] == nil {
				r.Order = append(r.Order, s.name)
			}
			r.Samples[s.name] = append(r.Samples[s.name], got)
		}
	}
	return r, nil
}

// prepare removes a command's output of the round before. Then it writes as much
// to the same place once and removes that too: a virtual machine gives its guest
// memory at the first use, which is slower by far, and takes it back soon.
func prepare(src, output string) error {
	if output == "" {
		return nil
	}
	if err := os.RemoveAll(output); err != nil {
		return err
	}
	if _, err := measure("cp", "-r", src, output); err != nil {
		return err
	}
	err := os.RemoveAll(output)
	syncDisks()
	return err
}

const (
	stepCopy  = "cp -r"
	stepFlush = "cp -r, then sync"
	stepHash  = "SHA-256"
)

// steps lists the commands in the order in which they run.
func steps(o options, dir, src, key, self string) []step {
	out, back := filepath.Join(dir, "sealed"), filepath.Join(dir, "unlocked")
	plain := func(args ...string) func() (sample, error) {
		return func() (sample, error) { return measure(args[0], args[1:]...) }
	}
	list := []step{
		{stepCopy, out, plain("cp", "-r", src, out)},
		{stepFlush, out, func() (sample, error) {
			began := time.Now()
			s, err := measure("cp", "-r", src, out)
			syncDisks()
			s.Wall = time.Since(began).Seconds()
			return s, err
		}},
		{stepHash, "", plain(self, "hash", src)},
	}
	for _, p := range o.profiles {
		list = append(list, step{"lock --profile " + p, out, plain(o.bin, "lock", src, out, "--profile", p, "--key-file", key, "-q")})
	}
	list = append(list,
		step{"verify", "", plain(o.bin, "verify", out, "--key-file", key, "-q")},
		step{"verify --against", "", plain(o.bin, "verify", out, "--against", src, "-q")},
	)
	if o.run {
		list = append(list, step{"verify --against --run", "", plain(o.bin, "verify", out, "--against", src, "--run", "-q")})
	}
	return append(list, step{"unlock", back, func() (sample, error) {
		s, err := measure(o.bin, "unlock", out, back, "--key-file", key, "-q")
		if err != nil {
			return s, err
		}
		return s, os.RemoveAll(back)
	}})
}

func sizeOf(dir string) (n int64, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, err
}
