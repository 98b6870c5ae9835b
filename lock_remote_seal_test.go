package neuroseal

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// permuteCase is a remote checkpoint of five shards, a fixture's or the demo
// model's, how to permute it, and the folder that sealing a local copy gives.
func permuteCase(t *testing.T, model string) (*elsewhere, LockOptions, string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	deal(t, model, src, 5)
	o := LockOptions{Source: src, Output: filepath.Join(t.TempDir(), "whole"), Profile: seal.Max, Permute: true, Key: keys.SealKey{7}, Time: time.Unix(1e9, 0)}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	e, want := newElsewhere(src), o.Output
	o.Source, o.Remote, o.Output = "", e.remote(), filepath.Join(t.TempDir(), "out")
	return e, o, want
}

// manyExperts is a model whose experts lie in several shards.
const manyExperts = "arch/testdata/mixtral"

// TestRemotePermute: where weights change places, within a shard or between
// shards, and whether a run was interrupted or not, a remote checkpoint is sealed
// as a local one.
func TestRemotePermute(t *testing.T) {
	for _, model := range []string{"internal/demo/model", manyExperts} {
		for _, interrupted := range []bool{false, true} {
			e, o, want := permuteCase(t, model)
			if interrupted {
				sealSome(t, o)
			}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Errorf("%s, interrupted %v: %v", model, interrupted, err)
				continue
			}
			sealedAs(t, o, want)
			for file, n := range e.fetched {
				if n != 1 {
					t.Errorf("%s, interrupted %v: %s was fetched %d times", model, interrupted, file, n)
				}
			}
		}
	}
}

// TestRemotePermuteSpace: originals that have to stay need room, which is asked
// for before the first shard is sealed.
func TestRemotePermuteSpace(t *testing.T) {
	_, o, _ := permuteCase(t, manyExperts)
	real := freeSpace
	t.Cleanup(func() { freeSpace = real })
	o.Progress = onStage{"sealing", func() { freeSpace = func(string) (int64, error) { return 1 << 20, nil } }}
	if _, err := Lock(context.Background(), o); fault.KindOf(err) != fault.NoSpace {
		t.Fatal(err)
	}
	if list, _ := filepath.Glob(filepath.Join(DownloadFolder(o.Output), sealedFolder, "*")); len(list) != 0 {
		t.Errorf("sealed: %v", list)
	}
}

// TestRemoteShared: a file of the download that is a link, or has another name, is
// somebody else's, too: it serves, and stays as it was.
func TestRemoteShared(t *testing.T) {
	for name, link := range map[string]func(from, to string) error{"hard": os.Link, "symbolic": os.Symlink} {
		t.Run(name, func(t *testing.T) {
			e, o, want := remoteCase(t, demo, seal.Portable)
			shards, _ := filepath.Glob(filepath.Join(e.dir, "*.safetensors"))
			file := filepath.Base(shards[1])
			sum := e.sum(file)
			source := filepath.Join(DownloadFolder(o.Output), sourceFolder)
			if err := os.MkdirAll(source, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := link(shards[1], filepath.Join(source, sum)); err != nil {
				t.Skip(err)
			}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			sealedAs(t, o, want)
			if e.sum(file) != sum {
				t.Errorf("%s was written over", file)
			}
		})
	}
}

// TestRemoteLitter: what a killed run left of shards is gone before anything is
// downloaded, and its room is not asked for twice.
func TestRemoteLitter(t *testing.T) {
	e, o, want := remoteCase(t, demo, seal.Portable)
	shards, _ := filepath.Glob(filepath.Join(e.dir, "*.safetensors"))
	sealed := filepath.Join(DownloadFolder(o.Output), sealedFolder)
	if err := os.MkdirAll(sealed, 0o777); err != nil {
		t.Fatal(err)
	}
	var litter int64
	for i, name := range []string{"." + filepath.Base(shards[0]) + ".neuroseal-partial", filepath.Base(shards[1])} {
		data, err := os.ReadFile(shards[i])
		if err == nil {
			err = os.WriteFile(filepath.Join(sealed, name), data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		litter += int64(len(data))
	}
	real := freeSpace
	t.Cleanup(func() { freeSpace = real })
	check, err := CheckRemote(o.Remote, false, false)
	if err != nil {
		t.Fatal(err)
	}
	freeSpace = func(string) (int64, error) { return check.Peak - litter, nil }
	var once sync.Once
	e.arrived = func(string, string) error {
		once.Do(func() {
			freeSpace = func(string) (int64, error) { return check.Peak, nil }
			if n := usage(sealed); n != 0 {
				t.Errorf("%d bytes are left", n)
			}
		})
		return nil
	}
	if atomicdir.Left(filepath.Join(sealed, filepath.Base(shards[0]))) == 0 {
		t.Fatal("nothing was left")
	}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	sealedAs(t, o, want)
}

// counter sums what is told of each stage.
type counter struct {
	mu     sync.Mutex
	stages []counted
}

type counted struct {
	name        string
	total, done int64
}

func (c *counter) Stage(name string, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stages = append(c.stages, counted{name: name, total: total})
}

func (c *counter) Add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stages[len(c.stages)-1].done += n
}

// TestRemoteProgress: no stage counts more than it announces.
func TestRemoteProgress(t *testing.T) {
	_, o, _ := remoteCase(t, demo, seal.Portable)
	c := new(counter)
	o.Progress = c
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.stages {
		if s.done > s.total {
			t.Errorf("%s: %d of %d bytes", s.name, s.done, s.total)
		}
	}
}
