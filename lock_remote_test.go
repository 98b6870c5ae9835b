package neuroseal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/safetensors"
	"github.com/neuroseal/neuroseal/seal"
)

// elsewhere is a folder that plays a remote checkpoint.
type elsewhere struct {
	dir string

	mu      sync.Mutex
	read    int64          // bytes read in ranges
	fetched map[string]int // how often a file was fetched
	cached  map[string]bool
	begun   int64                         // bytes of every file that an earlier run left
	arrived func(file, path string) error // called when a file has been fetched, one call at a time; nil: nothing
	alter   func(file string, p []byte, off int64)

	arriving sync.Mutex
}

func newElsewhere(dir string) *elsewhere {
	return &elsewhere{dir: dir, fetched: map[string]int{}, cached: map[string]bool{}}
}

func (e *elsewhere) remote() *Remote {
	return &Remote{Name: "hf://org/name", Files: e, Sum: e.sum, Fetch: e.fetch, Here: func(f string) bool { return e.cached[f] },
		Begun: func(string, string) int64 { return e.begun }}
}

func (e *elsewhere) sum(file string) string {
	data, err := os.ReadFile(filepath.Join(e.dir, file))
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (e *elsewhere) fetch(ctx context.Context, file, path string, also func() io.Writer) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Interrupted, err, "")
	}
	e.mu.Lock()
	e.fetched[file]++
	e.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(e.dir, file))
	if err == nil && also != nil {
		_, _ = also().Write(data[:len(data)/2]) // the first try fails
		w := also()
		for half := range slices.Chunk(data, len(data)/2+1) {
			if _, err = w.Write(half); err != nil {
				return err
			}
		}
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o666)
	}
	if err == nil && e.arrived != nil {
		e.arriving.Lock()
		defer e.arriving.Unlock()
		err = e.arrived(file, path)
	}
	return err
}

func (e *elsewhere) Open(name string) (fs.File, error) {
	f, err := os.Open(filepath.Join(e.dir, name))
	if err != nil {
		return nil, err
	}
	return &farFile{f, e, name}, nil
}

type farFile struct {
	*os.File
	e    *elsewhere
	name string
}

func (f *farFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	if !f.e.cached[f.name] {
		f.e.read += int64(n)
	}
	if f.e.alter != nil {
		f.e.alter(f.name, p[:n], off)
	}
	return n, err
}

func (f *farFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.read += int64(n)
	return n, err
}

// demo is the demo model, the one with weights of more than a few bytes.
const demo = "demo"

// deal deals a checkpoint's tensors out to shards.
func deal(t *testing.T, src, dst string, n int) {
	t.Helper()
	ck, err := checkpoint.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	shards, index := make([][]safetensors.Tensor, n), map[string]string{}
	name := func(i int) string { return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n) }
	for i, x := range ck.Tensors() {
		b := make([]byte, x.Size)
		if err := ck.ReadAt(x, b, 0); err != nil {
			t.Fatal(err)
		}
		shards[i%n] = append(shards[i%n], safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: x.Name, DType: x.DType, Shape: x.Shape}, Data: b})
		index[x.Name] = name(i % n)
	}
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dst, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dst, 0o777); err != nil {
		t.Fatal(err)
	}
	for i, list := range shards {
		var b bytes.Buffer
		if err := safetensors.Write(&b, map[string]string{"format": "pt"}, list); err != nil {
			t.Fatal(err)
		}
		put(name(i), b.Bytes())
	}
	text, _ := json.Marshal(map[string]any{"weight_map": index})
	put("model.safetensors.index.json", text)
	put("config.json", ck.ConfigJSON())
}

// remoteCase is a remote checkpoint of five shards, how to seal it, and the
// folder that sealing a local copy gives.
func remoteCase(t *testing.T, typ string, profile seal.Profile) (*elsewhere, LockOptions, string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	if typ == demo {
		deal(t, "internal/demo/model", src, 5)
	} else {
		src = sharded(t, typ, 5)
	}
	dir := t.TempDir()
	o := LockOptions{Source: src, Output: filepath.Join(dir, "whole"), Profile: profile, Key: keys.SealKey{7}, Time: time.Unix(1e9, 0), AllowSealed: true}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	e := newElsewhere(src)
	want := o.Output
	o.Source, o.Remote, o.Output = "", e.remote(), filepath.Join(t.TempDir(), "out")
	return e, o, want
}

// sealedAs demands that the output is there, equal to want, and alone.
func sealedAs(t *testing.T, o LockOptions, want string) {
	t.Helper()
	sameFolder(t, want, o.Output)
	if list, _ := os.ReadDir(filepath.Dir(o.Output)); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// TestRemoteEqualsLocal: sealing as it arrives gives the bytes that sealing a
// folder gives, fetches every file once, and reads no more than headers else.
func TestRemoteEqualsLocal(t *testing.T) {
	for _, typ := range []string{"llama", "qwen3", "mixtral", "gemma2"} {
		for _, profile := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
			t.Run(typ+"/"+string(profile), func(t *testing.T) {
				e, o, want := remoteCase(t, typ, profile)
				if _, err := Lock(context.Background(), o); err != nil {
					t.Fatal(err)
				}
				sealedAs(t, o, want)
				for file, n := range e.fetched {
					if n != 1 {
						t.Errorf("%s was fetched %d times", file, n)
					}
				}
			})
		}
	}
}

// TestRemoteHere: what a cache has is read there, and stays.
func TestRemoteHere(t *testing.T) {
	e, o, want := remoteCase(t, demo, seal.Portable)
	shards, _ := filepath.Glob(filepath.Join(e.dir, "*.safetensors"))
	for _, s := range shards[:3] {
		e.cached[filepath.Base(s)] = true
	}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	sealedAs(t, o, want)
	for file := range e.cached {
		if e.fetched[file] != 0 || e.sum(file) == "" {
			t.Errorf("%s was fetched or removed", file)
		}
	}
}

// usage sums the sizes of the files below a folder, those with several names
// once.
func usage(dir string) (n int64) {
	var seen []fs.FileInfo
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil || slices.ContainsFunc(seen, func(s fs.FileInfo) bool { return os.SameFile(s, info) }) {
			return nil
		}
		seen = append(seen, info)
		n += info.Size()
		return nil
	})
	return n
}

// watcher looks at the disk whenever something moves.
type watcher struct {
	dir  string
	mu   sync.Mutex
	peak int64
}

func (w *watcher) Stage(string, int64) { w.look() }
func (w *watcher) Add(int64)           { w.look() }
func (w *watcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peak = max(w.peak, usage(w.dir))
}

// TestRemotePeak: the disk never holds more than the output and the records of
// the work, less than what is announced: what is downloaded becomes the output.
func TestRemotePeak(t *testing.T) {
	e, o, want := remoteCase(t, demo, seal.Portable)
	w := &watcher{dir: filepath.Dir(o.Output)}
	o.Progress = w
	e.arrived = func(string, string) error { w.look(); return nil }
	atomicdir.Hook = func(string, string) error { w.look(); return nil } // before an original goes, too
	defer func() { atomicdir.Hook = nil }()
	check, err := CheckRemote(o.Remote, false, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	sealedAs(t, o, want)
	var largest, weights int64
	shards, _ := filepath.Glob(filepath.Join(want, "*.safetensors"))
	for _, s := range shards {
		info, err := os.Stat(s)
		if err != nil {
			t.Fatal(err)
		}
		largest, weights = max(largest, info.Size()), weights+info.Size()
	}
	records := usage(want) - weights + 64<<10*int64(len(shards))
	t.Logf("peak %d, output %d, largest shard %d, announced %d", w.peak, usage(want), largest, check.Peak)
	if w.peak > usage(want)+records {
		t.Errorf("peak %d bytes; the output has %d, the largest shard %d", w.peak, usage(want), largest)
	}
	if w.peak < weights {
		t.Errorf("peak %d bytes: was anything looked at?", w.peak)
	}
	if check.Shards != len(shards) || !check.Streams || check.Download != check.Bytes || check.Peak < check.Bytes+largest {
		t.Errorf("%+v", check)
	}
}

// TestRemoteInterrupted stops at every arrival; the next run goes on.
func TestRemoteInterrupted(t *testing.T) {
	for n := 1; ; n++ {
		e, o, want := remoteCase(t, demo, seal.Portable)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		seen := 0
		e.arrived = func(string, string) error {
			if seen++; seen == n {
				cancel()
			}
			return nil
		}
		_, err := Lock(ctx, o)
		if err == nil {
			if n < 7 {
				t.Fatalf("only %d arrivals", n)
			}
			return
		}
		if fault.KindOf(err) != fault.Interrupted {
			t.Fatalf("arrival %d: %v", n, err)
		}
		if _, err := os.Lstat(o.Output); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("arrival %d: there is an output", n)
		}
		if _, err := Lock(context.Background(), o); err != nil {
			t.Fatalf("after arrival %d: %v", n, err)
		}
		sealedAs(t, o, want)
		for file, k := range e.fetched {
			if k != 1 {
				t.Errorf("arrival %d: %s was fetched %d times", n, file, k)
			}
		}
	}
}

// TestRemoteRots: what changed on this machine's disk between two runs is refused
// and removed, leaves no output, and comes again; nothing else does.
func TestRemoteRots(t *testing.T) {
	e, o, want := remoteCase(t, demo, seal.Portable)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := o
	stopped.Progress = onStage{"sealing", cancel}
	if _, err := Lock(ctx, stopped); fault.KindOf(err) != fault.Interrupted {
		t.Fatal(err)
	}
	shards, _ := filepath.Glob(filepath.Join(e.dir, "*.safetensors"))
	rotten := filepath.Base(shards[2])
	flipByte(t, filepath.Join(DownloadFolder(o.Output), sourceFolder, e.sum(rotten)))
	if _, err := Lock(context.Background(), o); fault.KindOf(err) != fault.Mismatch || !strings.Contains(fault.HintOf(err), "downloads it again") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(o.Output); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there is an output")
	}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	sealedAs(t, o, want)
	for file, n := range e.fetched {
		if n != 1 && file != rotten || file == rotten && n != 2 {
			t.Errorf("%s was fetched %d times", file, n)
		}
	}
}

// stopper ends a run when a quarter of the bytes are sealed.
type stopper struct {
	cancel  context.CancelFunc
	sealing bool
	left    int64
	mu      sync.Mutex
}

func (s *stopper) Stage(name string, total int64) { s.sealing, s.left = name == "sealing", total/4 }
func (s *stopper) Add(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealing {
		if s.left -= n; s.left <= 0 {
			s.cancel()
		}
	}
}

// sealSome seals a part of a remote checkpoint.
func sealSome(t *testing.T, o LockOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Progress = &stopper{cancel: cancel}
	if _, err := Lock(ctx, o); fault.KindOf(err) != fault.Interrupted || !strings.Contains(fault.HintOf(err), DownloadFolder(o.Output)) {
		t.Fatal(err)
	}
}

// TestRemoteResumesSealing: with the same key, nothing is fetched again and no
// sealed shard is sealed again; with another key, the sealed shards' originals
// come once more; a sealed shard that was damaged since is made anew.
func TestRemoteResumesSealing(t *testing.T) {
	const same, otherKey, otherOptions, damaged, forgotten = "same key", "another key", "other options", "damaged", "without activations"
	for _, how := range []string{same, otherKey, otherOptions, damaged, forgotten} {
		t.Run(how, func(t *testing.T) {
			e, o, want := remoteCase(t, demo, seal.Portable)
			sealSome(t, o)
			records, _ := filepath.Glob(filepath.Join(DownloadFolder(o.Output), recordsFolder, "*"))
			originals, _ := filepath.Glob(filepath.Join(DownloadFolder(o.Output), sourceFolder, "*"))
			if len(records) == 0 || len(records) == 5 {
				t.Fatalf("%d shards are sealed, %d files left", len(records), len(originals))
			}
			again := len(records)
			switch how {
			case same:
				again = 0
			case otherKey, otherOptions:
				local := o
				if how == otherKey {
					local.Key, o.Key = keys.SealKey{8}, keys.SealKey{8}
				} else {
					local.Signs, o.Signs = true, true
				}
				local.Remote, local.Source, local.Output = nil, e.dir, filepath.Join(t.TempDir(), "whole")
				if _, err := Lock(context.Background(), local); err != nil {
					t.Fatal(err)
				}
				want = local.Output
			case damaged:
				again = 1
				flipByte(t, filepath.Join(DownloadFolder(o.Output), sealedFolder, strings.TrimSuffix(filepath.Base(records[0]), ".json")))
			case forgotten:
				if err := os.Remove(filepath.Join(DownloadFolder(o.Output), activationsName)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			sealedAs(t, o, want)
			n := -1 * len(e.fetched)
			for _, k := range e.fetched {
				n += k
			}
			if n != again {
				t.Errorf("%d files were fetched again, want %d", n, again)
			}
		})
	}
}

func flipByte(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestRemoteLies: a header that is not the file's, a file that changes here, and
// a checkpoint that is sealed or strange are refused, and leave no output.
func TestRemoteLies(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, e *elsewhere, o *LockOptions)
		kind  fault.Kind
		words string
	}{
		"header": {func(_ *testing.T, e *elsewhere, _ *LockOptions) {
			e.alter = func(name string, p []byte, off int64) {
				if i := strings.Index(string(p), `"format":"pt"`); i >= 0 {
					copy(p[i:], `"format":"tp"`)
				}
			}
		}, fault.Mismatch, "another header"},
		"changes here": {func(t *testing.T, e *elsewhere, o *LockOptions) {
			o.Progress = onStage{"sealing", func() {
				list, _ := filepath.Glob(filepath.Join(DownloadFolder(o.Output), sourceFolder, "*"))
				for _, f := range list {
					flipByte(t, f)
				}
			}}
		}, fault.Mismatch, "is not what it was"},
		"rotten in the cache": {func(t *testing.T, e *elsewhere, o *LockOptions) {
			shards, _ := filepath.Glob(filepath.Join(e.dir, "*.safetensors"))
			name, sum := filepath.Base(shards[0]), o.Remote.Sum
			e.cached[name] = true
			before := sum(name)
			flipByte(t, shards[0])
			o.Remote.Sum = func(file string) string {
				if file == name {
					return before
				}
				return sum(file)
			}
		}, fault.Mismatch, "which hf://org/name lists"},
		"vanishes here": {func(_ *testing.T, _ *elsewhere, o *LockOptions) {
			o.Progress = onStage{"measuring activations", func() { os.RemoveAll(filepath.Join(DownloadFolder(o.Output), sourceFolder)) }}
		}, 0, ""},
		"no space": {func(t *testing.T, _ *elsewhere, _ *LockOptions) {
			real := freeSpace
			t.Cleanup(func() { freeSpace = real })
			freeSpace = func(string) (int64, error) { return 100 << 10, nil }
		}, fault.NoSpace, "are free"},
		"a dry run": {func(_ *testing.T, _ *elsewhere, o *LockOptions) { o.DryRun = true }, fault.Usage, "not here"},
	} {
		t.Run(name, func(t *testing.T) {
			e, o, want := remoteCase(t, demo, seal.Portable)
			c.spoil(t, e, &o)
			_, err := Lock(context.Background(), o)
			if c.kind == 0 {
				if err == nil {
					sameFolder(t, want, o.Output)
				}
				t.Logf("%v", err)
				return
			}
			if fault.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.words) || fault.HintOf(err) == "" && c.kind != fault.NoSpace {
				t.Errorf("%v", err)
			}
			if _, err := os.Lstat(o.Output); !errors.Is(err, fs.ErrNotExist) {
				t.Error("there is an output")
			}
		})
	}
}

// onStage does something when a stage begins.
type onStage struct {
	name string
	do   func()
}

func (s onStage) Stage(name string, _ int64) {
	if name == s.name {
		s.do()
	}
}
func (s onStage) Add(int64) {}

// TestRemoteSpace: what an earlier run has brought is not asked for again.
func TestRemoteSpace(t *testing.T) {
	real := freeSpace
	t.Cleanup(func() { freeSpace = real })
	e, o, _ := remoteCase(t, demo, seal.Portable)
	check, err := CheckRemote(o.Remote, false, false)
	if err != nil {
		t.Fatal(err)
	}
	freeSpace = func(string) (int64, error) { return check.Peak - 1000, nil }
	if _, err := Lock(context.Background(), o); fault.KindOf(err) != fault.NoSpace {
		t.Fatalf("%v", err)
	}
	e.begun = 1000
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// TestInspectRemote: headers tell what the folder tells, and no more is read.
func TestInspectRemote(t *testing.T) {
	const src = "internal/demo/model"
	e := newElsewhere(src)
	var weights int64
	shards, _ := filepath.Glob(filepath.Join(src, "*.safetensors"))
	for _, s := range shards {
		info, err := os.Stat(s)
		if err != nil {
			t.Fatal(err)
		}
		weights += info.Size()
	}
	far, err := Inspect(context.Background(), InspectOptions{Remote: e.remote()})
	if err != nil {
		t.Fatal(err)
	}
	near, err := Inspect(context.Background(), InspectOptions{Path: src})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", far) != fmt.Sprintf("%+v", near) {
		t.Errorf("remote\n%+v\nlocal\n%+v", far, near)
	}
	if e.read > weights/4 {
		t.Errorf("%d bytes were read of %d", e.read, weights)
	}
	_, err = Inspect(context.Background(), InspectOptions{Remote: e.remote(), Detect: true})
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
}

// TestRemoteFolderInTheWay: the folder of the work is removed in the end, so a
// link in its place, and files of somebody else's in it, are refused and stay.
func TestRemoteFolderInTheWay(t *testing.T) {
	for _, link := range []bool{true, false} {
		_, o, _ := remoteCase(t, demo, seal.Portable)
		dir := DownloadFolder(o.Output)
		if link {
			dir = t.TempDir()
			if err := os.Symlink(dir, DownloadFolder(o.Output)); err != nil {
				t.Skip(err)
			}
		} else if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "precious")
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Lock(context.Background(), o); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("link %v: %v", link, err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("link %v: %v", link, err)
		}
	}
}
