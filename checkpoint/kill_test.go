package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
)

const (
	killEnv    = "NEUROSEAL_TEST_KILL_AT"
	killSrc    = "NEUROSEAL_TEST_SRC"
	killDst    = "NEUROSEAL_TEST_DST"
	killedCode = 77
)

// TestMain lets the test binary play a rewrite that is killed: it exits just
// before its n-th operation on the output.
func TestMain(m *testing.M) {
	n, err := strconv.Atoi(os.Getenv(killEnv))
	if err != nil {
		os.Exit(m.Run())
	}
	var count atomic.Int64
	atomicdir.Hook = func(op, path string) error {
		if count.Add(1) == int64(n) {
			os.Exit(killedCode)
		}
		return nil
	}
	if err := flipAll(os.Getenv(killSrc), os.Getenv(killDst)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// flipAll rewrites src to dst, replacing it, with all bits of all tensors
// inverted.
func flipAll(src, dst string) error {
	c, err := Open(src)
	if err != nil {
		return err
	}
	defer c.Close()
	var mu sync.Mutex
	var errs []string
	_, err = rewriteCtx(context.Background(), c, dst, atomicdir.Options{Force: true},
		RewriteOptions{Edit: func(x Tensor) Editor { return &flipper{t: x, mu: &mu, errs: &errs} }})
	return err
}

// TestRewriteKilled: killed at any operation, the source is untouched, the
// output is missing or whole, and a second run completes it.
func TestRewriteKilled(t *testing.T) {
	src := makeFolder(t)
	before := digests(t, src)
	whole := filepath.Join(t.TempDir(), "whole")
	if err := flipAll(src, whole); err != nil {
		t.Fatal(err)
	}
	want := digests(t, whole)
	for n := 1; ; n++ {
		dst := filepath.Join(t.TempDir(), "out")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprint(killEnv, "=", n), killSrc+"="+src, killDst+"="+dst)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err == nil {
			if n < 20 {
				t.Errorf("only %d operations", n)
			}
			return
		}
		if !errors.As(err, &exit) || exit.ExitCode() != killedCode {
			t.Fatalf("killed at %d: %v\n%s", n, err, out)
		}
		if got := digests(t, dst); got != nil && !maps.Equal(got, want) {
			t.Fatalf("killed at %d: half an output", n)
		}
		if !maps.Equal(digests(t, src), before) {
			t.Fatalf("killed at %d: the source has changed", n)
		}
		if err := flipAll(src, dst); err != nil {
			t.Fatalf("killed at %d, second run: %v", n, err)
		}
		if !maps.Equal(digests(t, dst), want) {
			t.Fatalf("killed at %d: the second run's output is wrong", n)
		}
	}
}
