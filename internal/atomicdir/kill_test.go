package atomicdir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"sync/atomic"
	"testing"
)

const (
	killEnv    = "NEUROSEAL_TEST_KILL_AT"
	killForce  = "NEUROSEAL_TEST_FORCE"
	killDst    = "NEUROSEAL_TEST_DST"
	killWhat   = "NEUROSEAL_TEST_WHAT"
	killedCode = 77
)

// TestMain lets the test binary play the process that is killed: it exits just
// before its n-th operation on the file system, as a kill would end it.
func TestMain(m *testing.M) {
	n, err := strconv.Atoi(os.Getenv(killEnv))
	if err != nil {
		os.Exit(m.Run())
	}
	var count atomic.Int64
	Hook = func(op, path string) error {
		if count.Add(1) == int64(n) {
			os.Exit(killedCode)
		}
		return nil
	}
	dst, force := os.Getenv(killDst), os.Getenv(killForce) == "true"
	if os.Getenv(killWhat) == "file" {
		err = WriteFile(dst, []byte("new"), 0o600, force)
	} else {
		err = writeTree(dst, Options{Force: force})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killAt runs the child and reports whether it was killed.
func killAt(t *testing.T, what, dst string, force bool, n int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprint(killEnv, "=", n), fmt.Sprint(killForce, "=", force), killDst+"="+dst, killWhat+"="+what)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == killedCode {
		return true
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}

func TestKilledAtEveryOperation(t *testing.T) {
	for _, force := range []bool{false, true} {
		n := 1
		for ; ; n++ {
			parent := t.TempDir()
			dst := filepath.Join(parent, "out")
			if force {
				makeOld(t, dst)
			}
			if !killAt(t, "dir", dst, force, n) {
				break
			}
			checkKilled(t, dst, force, n)
			opt := Options{Force: true}
			if err := writeTree(dst, opt); err != nil {
				t.Fatalf("killed at %d, second run: %v", n, err)
			}
			if got := tree(t, dst); !reflect.DeepEqual(got, newTree) {
				t.Fatalf("killed at %d, second run: %v", n, got)
			}
			onlyChild(t, parent, "out")
		}
		if n < 15 {
			t.Errorf("only %d operations", n)
		}
		t.Logf("force %v: killed at each of %d operations", force, n-1)
	}
}

// checkKilled demands that the destination is old or new, never a mixture, and
// that an old one which is moved aside is put back by the next run, even one
// that goes no further.
func checkKilled(t *testing.T, dst string, force bool, n int) {
	t.Helper()
	got := tree(t, dst)
	if reflect.DeepEqual(got, newTree) {
		return
	}
	if !force {
		if got != nil {
			t.Fatalf("killed at %d: %v", n, got)
		}
		return
	}
	if got == nil {
		told := ""
		if err := writeTree(dst, Options{Notice: func(msg string) { told += msg }}); err == nil {
			t.Fatalf("killed at %d: the old folder was not restored", n)
		}
		if told == "" {
			t.Errorf("killed at %d: nothing was said of the repair", n)
		}
		got = tree(t, dst)
	}
	// A second forced run replaces what a first one completed.
	if !reflect.DeepEqual(got, oldTree) && !reflect.DeepEqual(got, newTree) {
		t.Fatalf("killed at %d: %v", n, got)
	}
}

// TestKilledInRecovery kills the second run too, at each of its operations.
func TestKilledInRecovery(t *testing.T) {
	for _, first := range []int{10, 21, 24} {
		for n := 1; ; n++ {
			parent := t.TempDir()
			dst := filepath.Join(parent, "out")
			makeOld(t, dst)
			if !killAt(t, "dir", dst, true, first) || !killAt(t, "dir", dst, true, n) {
				break
			}
			checkKilled(t, dst, true, n)
			if err := writeTree(dst, Options{Force: true}); err != nil {
				t.Fatalf("killed at %d and %d, third run: %v", first, n, err)
			}
			if got := tree(t, dst); !reflect.DeepEqual(got, newTree) {
				t.Fatalf("killed at %d and %d, third run: %v", first, n, got)
			}
			onlyChild(t, parent, "out")
		}
	}
}

func TestKilledWritingFile(t *testing.T) {
	for _, force := range []bool{false, true} {
		for n := 1; ; n++ {
			parent := t.TempDir()
			dst := filepath.Join(parent, "key")
			before := ""
			if force {
				before = "old"
				os.WriteFile(dst, []byte(before), 0o600)
			}
			if !killAt(t, "file", dst, force, n) {
				break
			}
			got, _ := os.ReadFile(dst)
			if string(got) != before && string(got) != "new" {
				t.Fatalf("force %v, killed at %d: %q", force, n, got)
			}
			if err := WriteFile(dst, []byte("newer"), 0o600, true); err != nil {
				t.Fatalf("force %v, killed at %d, second run: %v", force, n, err)
			}
			if got, _ := os.ReadFile(dst); string(got) != "newer" {
				t.Fatalf("force %v, killed at %d, second run: %q", force, n, got)
			}
			onlyChild(t, parent, "key")
		}
	}
}
