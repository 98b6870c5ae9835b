// Command bench-train measures the embedded training engine next to PyTorch.
//
//	NEUROSEAL_PYTHON=python go run ./tools/bench-train -reps 3
//
// Both train the same shapes of Llama, with random weights, on 4 × 128 tokens:
// float32, scaled dot product attention, AdamW, the same number of threads. They
// run one after the other, each as a process of its own, the whole round as often
// as asked, so that what else goes on in the machine falls on both. The table has
// the median tokens per second of wall and of processor time and the peak memory
// of each, and the ratios.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// cell is one thing to measure.
type cell struct {
	Model   string `json:"model"`
	Modules string `json:"lora_modules,omitempty"` // "": full fine-tuning
	Threads int    `json:"threads"`
	BF16    bool   `json:"bf16,omitempty"` // the engine reads a checkpoint in bf16; PyTorch holds float32
}

func (c cell) String() string {
	kind, stored := "full", ""
	switch {
	case c.Modules == allLinear:
		kind = "lora-all"
	case c.Modules != "":
		kind = "lora-vo-ud"
	}
	if c.BF16 {
		stored = "-bf16"
	}
	return fmt.Sprintf("%s/%s%s/threads=%d", c.Model, kind, stored, c.Threads)
}

const allLinear = "all-linear"

// cells are all of them: the seed recipe's modules, and all linear ones.
func cells() []cell {
	const some = "v_proj,o_proj,up_proj,down_proj"
	var out []cell
	for _, threads := range []int{1, 2} {
		for _, modules := range []string{"", some, allLinear} {
			out = append(out, cell{"6m", modules, threads, false})
		}
		for _, modules := range []string{some, allLinear} {
			out = append(out, cell{"135m", modules, threads, false}, cell{"135m", modules, threads, true})
		}
	}
	return out
}

type options struct {
	reps    int
	seconds float64
	python  string
	script  string
	json    string
	only    *regexp.Regexp
}

func main() {
	var o options
	flag.IntVar(&o.reps, "reps", 3, "how often each process runs; the median counts")
	flag.Float64Var(&o.seconds, "seconds", 5, "how long each process is measured, after its first steps")
	flag.StringVar(&o.python, "python", os.Getenv("NEUROSEAL_PYTHON"), "a Python with torch, transformers and peft; \"none\": only the engine")
	flag.StringVar(&o.script, "script", filepath.Join("arena", "train", "testdata", "bench.py"), "the PyTorch side")
	flag.StringVar(&o.json, "json", "", "write the figures to this file too")
	only := flag.String("only", "", "regular expression: measure only these rows, such as 135m/lora.*threads=2")
	engine := flag.String("engine", "", "measure one row (as JSON) in this process and print the sample")
	profile := flag.String("cpuprofile", "", "with -engine: write a processor profile")
	flag.Parse()
	err := func() (err error) {
		if *engine != "" {
			var c cell
			if err := json.Unmarshal([]byte(*engine), &c); err != nil {
				return fmt.Errorf("-engine: %w", err)
			}
			return runEngine(c, o.seconds, *profile)
		}
		if o.only, err = regexp.Compile(*only); err != nil {
			return fmt.Errorf("-only: %w", err)
		}
		if o.python == "" {
			return errors.New("no Python: set NEUROSEAL_PYTHON, or give -python none to measure the engine alone")
		}
		return bench(o)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-train: error:", err)
		os.Exit(1)
	}
}

// bench measures all rows, prints the table and writes the file.
func bench(o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r := &report{System: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}
	for _, c := range cells() {
		if o.only.MatchString(c.String()) && c.Threads <= runtime.NumCPU() {
			r.Rows = append(r.Rows, &row{Cell: c, Name: c.String()})
		}
	}
	if len(r.Rows) == 0 {
		return errors.New("-only matches no row")
	}
	for i := range o.reps {
		for _, w := range r.Rows {
			s, err := measure(self, engineArgs(o, w.Cell)...)
			if err != nil {
				return err
			}
			w.Engine = append(w.Engine, s)
			line := fmt.Sprintf("%d/%d  %-30s engine %v", i+1, o.reps, w.Name, s)
			if o.python != "none" {
				if s, err = measure(o.python, torchArgs(o, w.Cell)...); err != nil {
					return err
				}
				w.Torch = append(w.Torch, s)
				line += fmt.Sprintf("; PyTorch %v", s)
			}
			fmt.Fprintln(os.Stderr, line)
		}
	}
	r.print(os.Stdout)
	if o.json == "" {
		return nil
	}
	return r.write(o.json)
}

func engineArgs(o options, c cell) []string {
	raw, _ := json.Marshal(c) // strings and numbers
	return []string{"-engine", string(raw), "-seconds", fmt.Sprint(o.seconds)}
}

func torchArgs(o options, c cell) []string {
	return []string{o.script, "--json", "--model", c.Model, "--lora", c.Modules, "--threads", fmt.Sprint(c.Threads), "--seconds", fmt.Sprint(o.seconds)}
}

// measure runs one process and reads the sample that it prints.
func measure(name string, args ...string) (sample, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var s sample
	if err := cmd.Run(); err != nil {
		return s, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		return s, fmt.Errorf("%s printed %q: %w", filepath.Base(name), stdout.String(), err)
	}
	return s, nil
}
