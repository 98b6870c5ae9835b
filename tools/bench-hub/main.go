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
	"math/rand/v2"
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
	get := flag.String("get", "", "download from the hub at URL into -dir (for internal use)")
	flag.Parse()
	var err error
	switch {
	case *get != "":
		err = fetch(*get, o.dir)
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
	self               string // this program
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
	if o.self, err = os.Executable(); err != nil {
		return err
	}
	server := exec.Command(o.self, "-serve", o.model)
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
	get  func(dst string) []*exec.Cmd // one after the other
	took []time.Duration
	cpu  []time.Duration
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
		ways = append(ways, &way{name: "lock, profile " + profile, get: func(dst string) []*exec.Cmd {
			return []*exec.Cmd{o.lock(dst, profile)}
		}})
	}
	return append(ways, &way{name: "hub, then lock strong", get: func(dst string) []*exec.Cmd {
		return append(o.download(dst), o.lock(dst, "strong"))
	}})
}

// curl gets all files one after the other, over one connection.
func (o *options) curl(dst string) []*exec.Cmd {
	args := []string{"-sSfL"}
	for _, name := range o.files {
		args = append(args, "-o", filepath.Join(dst, filepath.Base(name)), o.url+"/"+model+"/resolve/main/"+name)
	}
	return []*exec.Cmd{exec.Command("curl", args...)}
}

func (o *options) download(dst string) []*exec.Cmd {
	return []*exec.Cmd{exec.Command(o.self, "-get", o.url, "-dir", dst)}
}

// fetch downloads the model into the cache below a folder.
func fetch(url, dst string) error {
	c, err := hub.New(hub.Config{Endpoint: url, Cache: filepath.Join(dst, "hub"), Workers: 8})
	if err != nil {
		return err
	}
	_, err = c.Resolve(context.Background(), hub.Ref{ID: model}, hub.ResolveOptions{})
	return err
}

// lock seals the model from the hub, with a home of its own.
func (o *options) lock(dst, profile string) *exec.Cmd {
	cmd := exec.Command(o.binary, "-q", "lock", model, filepath.Join(dst, "sealed"), "--profile", profile)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+o.url, "HF_HOME="+dst, "HF_TOKEN=", "HF_HUB_OFFLINE=")
	return cmd
}

func (w *way) run(dst string) error {
	began, cpu := time.Now(), time.Duration(0)
	for _, cmd := range w.get(dst) {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", w.name, err, out)
		}
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	w.took, w.cpu = append(w.took, time.Since(began)), append(w.cpu, cpu)
	return nil
}

func (o *options) compare() error {
	ways := o.ways()
	for range o.reps {
		for _, k := range rand.Perm(len(ways)) { // each leaves memory and disk to the next in another state
			w := ways[k]
			dst, err := os.MkdirTemp(o.dir, "bench-hub-")
			if err != nil {
				return err
			}
			err = w.run(dst)
			if rerr := os.RemoveAll(dst); err == nil {
				err = rerr
			}
			if err != nil {
				return err
			}
		}
	}
	fmt.Printf("%-22s %-34s %-30s %s\n", "", "× curl: wall time (and its range)", "processor time of the client", "seconds of both")
	for _, w := range ways {
		wall, cpu := ratios(w.took, ways[0].took), ratios(w.cpu, ways[0].cpu)
		n := o.reps
		fmt.Printf("%-22s %5.2f  (%.2f to %.2f) %20.2f %22.2f %.2f\n", w.name, wall[n/2], wall[0], wall[n-1], cpu[n/2],
			median(w.took).Seconds(), median(w.cpu).Seconds())
	}
	return nil
}

func median(d []time.Duration) time.Duration { return slices.Sorted(slices.Values(d))[len(d)/2] }

// ratios compares each repetition with its own curl, as what else the machine
// does changes from one to the next, and sorts.
func ratios(a, base []time.Duration) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i].Seconds() / base[i].Seconds()
	}
	slices.Sort(out)
	return out
}
