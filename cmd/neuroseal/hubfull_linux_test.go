package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/keys"
)

// disk is a small file system that somebody else fills up.
type disk struct {
	dir   string
	leave int64 // bytes that stay free
}

func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return &disk{dir: dir}
}

// fill takes all space but what is to stay.
func (d *disk) fill() error {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	if n := int64(s.Bavail)*s.Bsize - d.leave; n > 0 {
		return unix.Fallocate(int(f.Fd()), 0, 0, n)
	}
	return nil
}

func (d *disk) free() { _ = os.Remove(filepath.Join(d.dir, "filler")) }

// each plays a command again and again, and fills the disk when its n-th request
// arrives, for every stride-th n. The command says that the disk is full, or
// succeeds; when there is room again, the same command succeeds, and check looks
// at the state.
func (d *disk) each(t *testing.T, n *network, stride int, args []string, clean func(*testing.T), check func(t *testing.T, when string)) {
	t.Helper()
	failed := 0
	if testing.Short() {
		stride *= 4
	}
	for at := 1; ; at += stride {
		d.leave = []int64{0, 96 << 10, 700 << 10}[at%3]
		when := fmt.Sprintf("full at request %d, but for %d bytes", at, d.leave)
		seen := 0
		n.Arrived(func(string, *http.Request) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			if seen++; seen == at {
				if err := d.fill(); err != nil && !errors.Is(err, unix.ENOSPC) {
					t.Error(err)
				}
			}
			return true
		})
		code, out := n.run(t, filepath.Join(d.dir, "hf"), 0, "", args...)
		n.Requests() // until the hub is at rest
		d.free()
		switch {
		case code == 0:
		case code == 15 && strings.Contains(out, "hint: ") && strings.Contains(out, "space"):
			failed++
		default:
			t.Fatalf("%s: exit code %d\n%s", when, code, out)
		}
		if code == 15 {
			code, out = n.run(t, filepath.Join(d.dir, "hf"), 0, "", args...)
		}
		if code != 0 {
			t.Fatalf("%s, second run: exit code %d\n%s", when, code, out)
		}
		check(t, when)
		clean(t)
		if seen < at { // before that request
			break
		}
	}
	if failed == 0 {
		t.Error("the disk was never full")
	}
	t.Logf("full %d times", failed)
}

// TestHubDiskFull: a disk that fills up during a download, or a seal of what
// arrives, costs nothing but the time.
func TestHubDiskFull(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := keys.WriteKeyFile(key, keys.NewSealKey()); err != nil {
		t.Fatal(err)
	}
	shards := filepath.Join(t.TempDir(), "src")
	if err := mkshards(fixture(t, "../../internal/demo/model"), shards, 3); err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t)
	d := newDisk(t, 80<<20)
	for name, src := range map[string]string{"shards": shards, "large": fixture(t, "../../internal/demo/model")} {
		n.AddRepo("ann/model", hubtest.RepoOptions{}, contents(t, src))
		t.Run("lock/"+name, func(t *testing.T) { lockFull(t, n, d, key) })
		t.Run("cache/"+name, func(t *testing.T) { cacheFull(t, n, d, src) })
	}
}

// empty removes everything.
func (d *disk) empty(t *testing.T) {
	list, err := os.ReadDir(d.dir)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func lockFull(t *testing.T, n *network, d *disk, key string) {
	want := t.TempDir()
	n.Arrived(n.arrived)
	if code, out := n.run(t, t.TempDir(), 0, "", "lock", "ann/model", filepath.Join(want, "out"), "--key-file", key); code != 0 {
		t.Fatal(out)
	}
	d.each(t, n, 2, []string{"lock", "ann/model", filepath.Join(d.dir, "out"), "--key-file", key}, d.empty, func(t *testing.T, when string) {
		if diff, err := treeDiff(filepath.Join(want, "out"), filepath.Join(d.dir, "out")); diff != "" || err != nil {
			t.Fatalf("%s: %s differs (%v)", when, diff, err)
		}
		if list, _ := os.ReadDir(d.dir); len(list) != 1 {
			t.Fatalf("%s: left behind: %v", when, list)
		}
	})
}

func cacheFull(t *testing.T, n *network, d *disk, src string) {
	model := filepath.Join(d.dir, "hf/hub/models--ann--model")
	d.each(t, n, 1, []string{"inspect", "ann/model", "--detect"}, d.empty, func(t *testing.T, when string) {
		if left, _ := filepath.Glob(filepath.Join(model, "*/*.incomplete")); len(left) > 0 {
			t.Fatalf("%s: left behind: %v", when, left)
		}
		snapshots, _ := filepath.Glob(filepath.Join(model, "snapshots/*"))
		if len(snapshots) != 1 {
			t.Fatalf("%s: snapshots %v", when, snapshots)
		}
		if diff, err := treeDiff(src, snapshots[0]); diff != "" || err != nil {
			t.Fatalf("%s: %s differs (%v)", when, diff, err)
		}
	})
}
