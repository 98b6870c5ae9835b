package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

const secret = "hf_abcdefghijklmnopqrstuvwxyz0123456"

// noise returns n bytes that do not compress and differ by seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(b)
	return b
}

// world is a hub, a client of it and what the client waited and said.
type world struct {
	*hubtest.Server
	c       *Client
	mu      sync.Mutex
	waits   []time.Duration
	notices []string
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{Server: hubtest.New()}
	t.Cleanup(w.Close)
	w.AddUser("ann", secret)
	w.AddUser("bob", "hf_bob")
	w.c = w.client(t, change)
	return w
}

func (w *world) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Endpoint: w.URL, Cache: filepath.Join(t.TempDir(), "hub"), Workers: 4}
	cfg.Token, _ = NewToken(secret)
	cfg.Notice = func(msg string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notices = append(w.notices, msg)
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(ctx context.Context, d time.Duration) error {
		w.mu.Lock()
		w.waits = append(w.waits, d)
		w.mu.Unlock()
		return ctx.Err()
	}
	return c
}

// big is more than two chunks.
var big = noise(1, 2*chunkSize+12345)

func model() map[string][]byte {
	return map[string][]byte{
		"config.json":              []byte(`{"model_type": "llama"}`),
		"README.md":                []byte("# a model\n"),
		"model.safetensors":        big,
		"pytorch_model.bin":        noise(2, 1000),
		"onnx/model.onnx":          noise(3, 1000),
		"tokenizer/vocab.json":     []byte(`{"a": 1}`),
		"original/big.safetensors": noise(4, 2000),
		"empty.txt":                {},
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestResolve(t *testing.T) {
	w := newWorld(t, nil)
	w.Redirect, w.PageSize = true, 3
	commit := w.AddRepo("ann/m", RepoPublic, model())
	s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Commit != commit || s.Folder != filepath.Join(w.c.cfg.Cache, "models--ann--m", "snapshots", commit) || s.Path != s.Folder {
		t.Errorf("%+v", s)
	}
	want := model()
	for _, other := range []string{"pytorch_model.bin", "onnx/model.onnx", "original/big.safetensors"} {
		delete(want, other)
	}
	if len(s.Files) != len(want) {
		t.Errorf("%d files, want %d", len(s.Files), len(want))
	}
	for name, data := range want {
		if !bytes.Equal(read(t, filepath.Join(s.Folder, name)), data) {
			t.Errorf("%s differs", name)
		}
	}
	sum := sha256.Sum256(big)
	link, err := os.Readlink(filepath.Join(s.Folder, "model.safetensors"))
	if err != nil || filepath.ToSlash(link) != "../../blobs/"+hex.EncodeToString(sum[:]) {
		t.Errorf("link %q, %v", link, err)
	}
	if got := string(read(t, filepath.Join(w.c.cfg.Cache, "models--ann--m", "refs", "main"))); got != commit {
		t.Errorf("ref %q", got)
	}
	if sent, _ := w.Traffic(); sent != int64(len(big)) {
		t.Errorf("storage sent %d bytes for %d", sent, len(big))
	}
	for _, r := range w.Requests() {
		if r.Server == "storage" && r.Authorization != "" {
			t.Fatal("the token reached the storage")
		}
	}

	// Again: one question, no bytes. By commit: not even that. Offline, too.
	w.Forget()
	if _, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{}); err != nil || len(w.Requests()) != 1 {
		t.Errorf("%v; %d requests", err, len(w.Requests()))
	}
	w.Forget()
	offline := w.client(t, func(cfg *Config) { cfg.Cache, cfg.Offline = w.c.cfg.Cache, true })
	for _, c := range []*Client{w.c, offline} {
		s2, err := c.Resolve(context.Background(), Ref{ID: "ann/m", Revision: commit}, ResolveOptions{})
		if err != nil || s2.Folder != s.Folder || len(w.Requests()) != 0 {
			t.Errorf("%v %+v; %d requests", err, s2, len(w.Requests()))
		}
	}
	if _, err := offline.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{All: true}); err == nil || !strings.Contains(fault.HintOf(err), "HF_HUB_OFFLINE") {
		t.Errorf("offline, what was not downloaded: %v", err)
	}
	// A hub that is down does not matter either, and the user is told.
	w.Fail(hubtest.Fault{Server: "hub", Status: 503})
	if _, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{}); err != nil || len(w.notices) != 1 {
		t.Errorf("%v %q", err, w.notices)
	}
}

// RepoPublic is what most tests use.
var RepoPublic = hubtest.RepoOptions{}

func TestResolveFile(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m", Path: "original/big.safetensors"}, ResolveOptions{})
	if err != nil || len(s.Files) != 1 || !bytes.Equal(read(t, s.Path), model()["original/big.safetensors"]) {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m", Path: "no.gguf"}, ResolveOptions{}); err == nil || !strings.Contains(err.Error(), "no.gguf") {
		t.Error(err)
	}
}

// TestTrouble: what networks and hubs do wrong in passing leaves no trace in
// the result.
func TestTrouble(t *testing.T) {
	for name, faults := range map[string][]hubtest.Fault{
		"cut in the middle":      {{Server: "storage", Cut: 100_000, Times: 3}},
		"cut at once":            {{Server: "storage", Cut: 0, Times: 3}},
		"cut of every answer":    {{Server: "storage", Method: "GET", Cut: 6 << 20}},
		"hub busy":               {{Server: "hub", Status: 503, Times: 3}},
		"bad gateway at storage": {{Server: "storage", Status: 502, Times: 4}},
		"listing cut":            {{Server: "hub", Path: "/tree/", Cut: 10, Times: 2}},
		"info cut":               {{Server: "hub", Path: "/revision/", Cut: 5, Times: 2}},
		"small file cut":         {{Server: "hub", Path: "config.json", Cut: 3, Times: 2}},
		"signed address refused": {{Server: "storage", Skip: 1, Status: 403, Times: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.AddRepo("ann/m", RepoPublic, model())
			for _, f := range faults {
				w.Fail(f)
			}
			s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, filepath.Join(s.Folder, "model.safetensors")), big) {
				t.Error("the bytes differ")
			}
		})
	}
}

func TestExpiredAddresses(t *testing.T) {
	w := newWorld(t, nil)
	w.ExpireURL = 1
	w.AddRepo("ann/m", RepoPublic, model())
	if _, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestNoRanges(t *testing.T) {
	w := newWorld(t, nil)
	w.NoRanges = true
	w.AddRepo("ann/m", RepoPublic, model())
	w.Fail(hubtest.Fault{Server: "storage", Skip: 6, Cut: 20 << 20, Times: 1})
	s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, filepath.Join(s.Folder, "model.safetensors")), big) {
		t.Error("the bytes differ")
	}
}

func TestRetryAfter(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	w.Fail(hubtest.Fault{Server: "hub", Status: 429, RetryAfter: "7", Times: 2})
	if _, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"}); err != nil {
		t.Fatal(err)
	}
	if len(w.waits) != 2 || w.waits[0] != 7*time.Second || w.waits[1] != 7*time.Second {
		t.Errorf("waited %v", w.waits)
	}
	w.Heal()
	w.waits = nil
	w.Fail(hubtest.Fault{Server: "hub", Status: 429, RetryAfter: "100000"})
	if _, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"}); err == nil || len(w.waits) != 0 {
		t.Errorf("%v after %v", err, w.waits)
	}
}

// TestResume: what an interrupted download brought is not brought again.
func TestResume(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.Workers = 1 })
	w.AddRepo("ann/m", RepoPublic, model())
	ctx, cancel := context.WithCancel(context.Background())
	w.c.cfg.Progress = &trip{after: chunkSize + 1<<20, do: cancel}
	_, err := w.c.Resolve(ctx, Ref{ID: "ann/m"}, ResolveOptions{})
	if fault.KindOf(err) != fault.Interrupted {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.c.repoFolder("ann/m"), "refs", "main")); err == nil {
		t.Error("an incomplete download has a ref")
	}
	w.c.cfg.Progress = nil
	w.Forget()
	s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, filepath.Join(s.Folder, "model.safetensors")), big) {
		t.Error("the bytes differ")
	}
	if sent, _ := w.Traffic(); sent != int64(len(big)-chunkSize) {
		t.Errorf("%d bytes were sent again, of %d", sent, len(big))
	}
	left, _ := filepath.Glob(filepath.Join(w.c.repoFolder("ann/m"), "blobs", "*.incomplete"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// trip does something when enough bytes have passed.
type trip struct {
	mu    sync.Mutex
	after int64
	do    func()
}

func (t *trip) Stage(string, int64) {}
func (t *trip) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.after -= n; t.after <= 0 && t.do != nil {
		t.do()
		t.do = nil
	}
}

// TestForeignPrefix: a partial file of an older huggingface_hub is used; one
// that holds something else does no harm.
func TestForeignPrefix(t *testing.T) {
	for name, have := range map[string][]byte{"right": big[:chunkSize+5], "wrong": noise(9, chunkSize+5), "too long": append(noise(9, 5), big...)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.AddRepo("ann/m", RepoPublic, model())
			sum := sha256.Sum256(big)
			blob := w.c.blobPath("ann/m", hex.EncodeToString(sum[:]))
			if err := w.c.prepare("ann/m"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(blob+".incomplete", have, 0o666); err != nil {
				t.Fatal(err)
			}
			s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, filepath.Join(s.Folder, "model.safetensors")), big) {
				t.Error("the bytes differ")
			}
			if sent, _ := w.Traffic(); name == "right" && sent != int64(len(big)-chunkSize) {
				t.Errorf("storage sent %d bytes", sent)
			}
		})
	}
}

func TestCorruption(t *testing.T) {
	w := newWorld(t, nil)
	files := model()
	small := noise(8, 5000)
	files["model.safetensors"] = small
	w.AddRepo("ann/small", RepoPublic, files)
	w.AddRepo("ann/large", RepoPublic, model())
	w.Corrupt(small)
	w.Corrupt(big)
	for _, id := range []string{"ann/small", "ann/large"} {
		_, err := w.c.Resolve(context.Background(), Ref{ID: id}, ResolveOptions{})
		if fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "model.safetensors") {
			t.Errorf("%s: %v", id, err)
		}
		left, _ := filepath.Glob(filepath.Join(w.c.repoFolder(id), "snapshots", "*", "model.safetensors"))
		if len(left) != 0 {
			t.Errorf("%s: %v", id, left)
		}
	}
}

// TestManyLarge: several large files arrive over as many connections as are
// allowed, all together; one that arrives wrong comes once more, and the others
// do not.
func TestManyLarge(t *testing.T) {
	const connections = 3
	w := newWorld(t, func(cfg *Config) { cfg.Workers = connections })
	files, want := map[string][]byte{}, int64(0)
	var index []string
	for i := range 5 {
		name, data := fmt.Sprintf("model-%d.safetensors", i), noise(uint64(20+i), chunkSize+i*chunkSize/3)
		files[name], want = data, want+int64(len(data))
		index = append(index, fmt.Sprintf("%q: %q", name, name))
	}
	files["model.safetensors.index.json"] = []byte(`{"weight_map": {` + strings.Join(index, ", ") + `}}`)
	bad := files["model-2.safetensors"]
	w.AddRepo("ann/m", RepoPublic, files)
	w.Corrupt(bad)
	w.c.cfg.Notice = func(msg string) {
		if !strings.Contains(msg, "model-2.safetensors arrived with a wrong checksum") {
			t.Error(msg)
		}
		w.Corrupt(bad) // once more: right again
	}
	var under, most atomic.Int64
	w.c.http.Transport = underWay{w.c.http.Transport, &under, &most}
	snap, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if !bytes.Equal(read(t, filepath.Join(snap.Path, name)), data) {
			t.Errorf("%s differs", name)
		}
	}
	if sent, _ := w.Traffic(); sent != want+int64(len(bad)) {
		t.Errorf("storage sent %d bytes for %d and %d again", sent, want, len(bad))
	}
	if n := most.Load(); n > connections {
		t.Errorf("%d connections at once", n)
	}
}

// underWay counts the answers that are under way.
type underWay struct {
	http.RoundTripper
	under, most *atomic.Int64
}

func (c underWay) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.under.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	resp, err := c.RoundTripper.RoundTrip(r)
	if err != nil {
		c.under.Add(-1)
		return nil, err
	}
	resp.Body = &underWayBody{ReadCloser: resp.Body, under: c.under}
	return resp, nil
}

type underWayBody struct {
	io.ReadCloser
	under *atomic.Int64
	once  sync.Once
}

func (b *underWayBody) Close() error {
	b.once.Do(func() { b.under.Add(-1) })
	return b.ReadCloser.Close()
}

func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	w.c.sleep = sleep
	other := w.client(t, func(cfg *Config) { cfg.Cache = w.c.cfg.Cache })
	other.sleep = sleep
	errs := make(chan error, 2)
	for _, c := range []*Client{w.c, other} {
		go func() {
			_, err := c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Fatal(err)
	}
	if sent, _ := w.Traffic(); sent != int64(len(big)) {
		t.Errorf("storage sent %d bytes for %d", sent, len(big))
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// TestFetch: one file outside of the cache, shown in order on its way.
func TestFetch(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	repo, err := w.c.Repo(context.Background(), Ref{ID: "ann/m"})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := repo.File("model.safetensors")
	path := filepath.Join(t.TempDir(), "shard")
	var seen bytes.Buffer
	also := func() io.Writer { seen.Reset(); return &seen }
	if err := repo.Fetch(context.Background(), f, path, also); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), big) || !bytes.Equal(seen.Bytes(), big) {
		t.Error("the bytes differ")
	}
	small, _ := repo.File("config.json")
	if err := repo.Fetch(context.Background(), small, path+".json", also); err != nil || !bytes.Equal(seen.Bytes(), read(t, path+".json")) {
		t.Errorf("a small file: %v", err)
	}
	_ = os.Remove(path + ".json")
	broken := func() io.Writer { return brokenWriter{} }
	if err := repo.Fetch(context.Background(), f, path+"2", broken); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
	if err := repo.Fetch(context.Background(), f, path+"2", also); err != nil || !bytes.Equal(seen.Bytes(), big) {
		t.Errorf("after a writer that failed: %v", err)
	}
	_ = os.Remove(path + "2")
	if err := repo.Fetch(context.Background(), f, path, nil); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
}

// TestResolveInterrupted: at every request of a download the hub fails for good.
// The next download completes it, and no large byte is sent twice.
func TestResolveInterrupted(t *testing.T) {
	for n := 0; ; n++ {
		w := newWorld(t, func(cfg *Config) { cfg.Workers = 1 })
		w.AddRepo("ann/m", RepoPublic, model())
		w.Fail(hubtest.Fault{Skip: n, Status: 500})
		_, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
		if err == nil {
			if n < 8 {
				t.Errorf("a download takes only %d requests", n)
			}
			return
		}
		if _, err := os.Stat(filepath.Join(w.c.repoFolder("ann/m"), "refs", "main")); err == nil {
			t.Fatalf("after %d requests there is a ref", n)
		}
		w.Heal()
		s, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{})
		if err != nil {
			t.Fatalf("after %d requests: %v", n, err)
		}
		if sent, _ := w.Traffic(); sent != int64(len(big)) || !bytes.Equal(read(t, filepath.Join(s.Folder, "model.safetensors")), big) {
			t.Fatalf("after %d requests: storage sent %d bytes of %d", n, sent, len(big))
		}
	}
}

// TestInterruptedBetween: a download that is interrupted when the small files are
// there, and no large one has begun, is not complete.
func TestInterruptedBetween(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.Workers = 1 })
	w.AddRepo("ann/m", RepoPublic, model())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	plan, _, err := w.c.Look(ctx, Ref{ID: "ann/m"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var small int64
	for _, f := range plan.Files {
		if f.Size <= smallFile {
			small += f.Size
		}
	}
	w.c.cfg.Progress = &trip{after: small, do: cancel}
	if _, err := plan.Run(ctx); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(w.c.repoFolder("ann/m"), "refs", "main")); err == nil {
		t.Error("an incomplete download has a ref")
	}
}
