// Command bench-hub serves a checkpoint from a hub on loopback, a process of its
// own, and takes the time of ways to get it, in turn: curl, which does not look
// at what it gets; package hub, which checks every SHA-256; and neuroseal lock,
// which also measures and seals it and brings the result to the disk. Only the
// ratios mean anything: all share one machine with the server.
//
//	bench-seal make MODEL 1
//	bench-hub -neuroseal bin/neuroseal MODEL
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/hub"
	"github.com/neuroseal/neuroseal/hub/hubtest"
)

const model = "ann/model"

func main() {
	o := options{}
	flag.IntVar(&o.reps, "reps", 5, "how often each way is measured")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where downloads and outputs go; twice the size must be free")
	flag.StringVar(&o.binary, "neuroseal", "", "the neuroseal binary; without it nothing is sealed")
	serve := flag.Bool("serve", false, "be the hub (for internal use)")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() != 1:
		err = fmt.Errorf("usage: bench-hub [flags] MODEL, a folder that bench-seal make wrote")
	case *serve:
		err = beHub(flag.Arg(0))
	default:
		o.model = flag.Arg(0)
		err = o.bench()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-hub:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	model, dir, binary string
	reps               int
	url                string // of the hub
	files              []string
}

// beHub serves a folder until standard input ends.
func beHub(dir string) error {
	s := hubtest.New()
	defer s.Close()
	s.AddRepo(model, hubtest.RepoOptions{}, nil)
	names, err := list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.AddFile(model, name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	fmt.Println(s.URL)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// list names the files below a folder.
func list(dir string) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, p)
		}
		return err
	})
	return names, err
}

func (o *options) bench() error {
	var err error
	if o.files, err = list(o.model); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-serve", o.model)
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		stdin.Close()
		_ = server.Wait()
	}()
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return err
	}
	o.url = strings.TrimSpace(url)
	return o.compare()
}

// way is one way to get the model.
type way struct {
	name string
	get  func(dst string) error
	took []time.Duration
}

func (o *options) ways() []*way {
	ways := []*way{
		{name: "curl", get: o.curl},
		{name: "hub, 8 connections", get: o.download},
	}
	if o.binary == "" {
		return ways
	}
	for _, profile := range []string{"strong", "portable"} {
		ways = append(ways, &way{name: "lock, profile " + profile, get: func(dst string) error {
			return o.command(dst, "-q", "lock", model, filepath.Join(dst, "sealed"), "--profile", profile)
		}})
	}
	return append(ways, &way{name: "the download, then lock", get: func(dst string) error {
		if err := o.download(dst); err != nil {
			return err
		}
		return o.command(dst, "-q", "lock", model, filepath.Join(dst, "sealed"), "--profile", "strong")
	}})
}

// curl gets all files one after the other, over one connection.
func (o *options) curl(dst string) error {
	args := []string{"-sSfL"}
	for _, name := range o.files {
		args = append(args, "-o", filepath.Join(dst, filepath.Base(name)), o.url+"/"+model+"/resolve/main/"+name)
	}
	return exec.Command("curl", args...).Run()
}

func (o *options) download(dst string) error {
	c, err := hub.New(hub.Config{Endpoint: o.url, Cache: filepath.Join(dst, "hub"), Workers: 8})
	if err != nil {
		return err
	}
	_, err = c.Resolve(context.Background(), hub.Ref{ID: model}, hub.ResolveOptions{})
	return err
}

// command runs neuroseal with a home of its own.
func (o *options) command(dst string, args ...string) error {
	cmd := exec.Command(o.binary, args...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+o.url, "HF_HOME="+dst, "HF_TOKEN=", "HF_HUB_OFFLINE=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

func (o *options) compare() error {
	ways := o.ways()
	for range o.reps {
		for _, w := range ways {
			dst, err := os.MkdirTemp(o.dir, "bench-hub-")
			if err != nil {
				return err
			}
			began := time.Now()
			err = w.get(dst)
			w.took = append(w.took, time.Since(began))
			if rerr := os.RemoveAll(dst); err == nil {
				err = rerr
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	// Each repetition is compared with its own curl: what else the machine does
	// changes from one to the next.
	for _, w := range ways {
		ratio := make([]float64, o.reps)
		for i := range ratio {
			ratio[i] = w.took[i].Seconds() / ways[0].took[i].Seconds()
		}
		slices.Sort(ratio)
		fmt.Printf("%-24s %5.2f × curl (median of %d; %.2f to %.2f)\n", w.name, ratio[len(ratio)/2], o.reps, ratio[0], ratio[len(ratio)-1])
	}
	return nil
}
