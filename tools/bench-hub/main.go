// Command bench-hub downloads the same file from a hub on loopback with curl and
// with package hub, in turn, and prints how many times as long the latter takes.
// Only the ratios mean anything: both share one machine with the server, which
// is a process of its own. curl does not look at what it gets; hub checks the
// SHA-256. Everything stays in the page cache; neither brings it to the disk.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
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

const (
	model = "ann/model"
	file  = "model.safetensors"
)

func main() {
	gb := flag.Float64("gb", 1, "size of the file, in 10^9 bytes")
	reps := flag.Int("reps", 5, "how often each is measured")
	serve := flag.String("serve", "", "be the hub that serves FILE (for internal use)")
	flag.Parse()
	var err error
	if *serve != "" {
		err = beHub(*serve)
	} else {
		err = bench(*gb, *reps)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-hub:", err)
		os.Exit(1)
	}
}

// beHub serves a file until standard input ends.
func beHub(path string) error {
	s := hubtest.New()
	defer s.Close()
	s.AddRepo(model, hubtest.RepoOptions{}, map[string][]byte{"config.json": []byte("{}")})
	if err := s.AddFile(model, file, path); err != nil {
		return err
	}
	fmt.Println(s.URL)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func bench(gb float64, reps int) error {
	dir, err := os.MkdirTemp("", "bench-hub-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "served")
	if err := makeFile(path, int64(gb*1e9)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-serve", path)
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
	return compare(dir, strings.TrimSpace(url), reps)
}

func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), size); err != nil {
		return err
	}
	return f.Sync()
}

// way is one way to get the file.
type way struct {
	name string
	get  func(dir string) error
	took []time.Duration
}

func compare(dir, url string, reps int) error {
	ways := []*way{
		{name: "curl", get: func(dst string) error {
			return exec.Command("curl", "-sSfL", "-o", filepath.Join(dst, file), url+"/"+model+"/resolve/main/"+file).Run()
		}},
		{name: "curl, then sha256sum", get: func(dst string) error {
			out := filepath.Join(dst, file)
			if err := exec.Command("curl", "-sSfL", "-o", out, url+"/"+model+"/resolve/main/"+file).Run(); err != nil {
				return err
			}
			return exec.Command("sha256sum", out).Run()
		}},
		{name: "hub, 1 connection", get: func(dst string) error { return download(url, dst, 1) }},
		{name: "hub, 4 connections", get: func(dst string) error { return download(url, dst, 4) }},
		{name: "hub, 8 connections", get: func(dst string) error { return download(url, dst, 8) }},
	}
	for range reps {
		for _, w := range ways {
			dst, err := os.MkdirTemp(dir, "")
			if err != nil {
				return err
			}
			began := time.Now()
			if err := w.get(dst); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.took = append(w.took, time.Since(began))
			if err := os.RemoveAll(dst); err != nil {
				return err
			}
		}
	}
	base := median(ways[0].took)
	for _, w := range ways {
		fmt.Printf("%-22s %5.2f × curl (median of %d; %.2f to %.2f)\n", w.name, median(w.took)/base, reps,
			slices.Min(w.took).Seconds()/base, slices.Max(w.took).Seconds()/base)
	}
	return nil
}

func median(d []time.Duration) float64 {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Seconds()
}

func download(url, dst string, workers int) error {
	c, err := hub.New(hub.Config{Endpoint: url, Cache: dst, Workers: workers})
	if err != nil {
		return err
	}
	_, err = c.Resolve(context.Background(), hub.Ref{ID: model}, hub.ResolveOptions{})
	return err
}
