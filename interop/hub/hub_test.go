//go:build interop

// Package hub_test lets the real huggingface_hub client judge both sides: it
// downloads from and uploads to the hub that the tests run against, and shares a
// cache with the product's client.
package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/hub"
	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

const token = "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// client is the real client, in a process of its own.
type client struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// python finds an interpreter with huggingface_hub, or skips the test.
func python(t *testing.T) string {
	exe := os.Getenv("NEUROSEAL_PYTHON")
	if exe == "" {
		exe = filepath.Join("..", "..", ".venv", "bin", "python")
		if runtime.GOOS == "windows" {
			exe = filepath.Join("..", "..", ".venv", "Scripts", "python.exe")
		}
	}
	if out, err := exec.Command(exe, "-c", "import huggingface_hub").CombinedOutput(); err != nil {
		t.Skipf("no Python with huggingface_hub (%v %s): make interop-venv installs one, NEUROSEAL_PYTHON names another", err, out)
	}
	return exe
}

// start runs the real client against a hub. Xet, which the hub of the tests does
// not speak, is switched off, so that it uses plain HTTP and git-lfs.
func start(t *testing.T, endpoint string, env ...string) *client {
	cmd := exec.Command(python(t), "client.py")
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+endpoint, "HF_HUB_DISABLE_XET=1", "HF_HOME="+t.TempDir(), "HF_TOKEN=",
		"HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_UPDATE_CHECK=1", "HF_HUB_OFFLINE=", "NO_PROXY=*")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", stderr.String())
		}
	})
	return &client{t, in, bufio.NewReader(out)}
}

type answer struct {
	OK    json.RawMessage
	Error string
	Text  string
}

// try asks for one thing.
func (c *client) try(do string, args map[string]any) answer {
	c.t.Helper()
	ask := map[string]any{"do": do}
	for k, v := range args {
		ask[k] = v
	}
	line, _ := json.Marshal(ask)
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	reply, err := c.out.ReadBytes('\n')
	if err != nil {
		c.t.Fatalf("%s: %v", do, err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		c.t.Fatalf("%s: %v in %s", do, err, reply)
	}
	return a
}

// must asks for one thing that has to work.
func (c *client) must(into any, do string, args map[string]any) {
	c.t.Helper()
	a := c.try(do, args)
	if a.Error != "" {
		c.t.Fatalf("%s %v: %s: %s", do, args, a.Error, a.Text)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(a.OK, into); err != nil {
		c.t.Fatal(err)
	}
}

// ours is the product's client.
func ours(t *testing.T, s *hubtest.Server, cache string, change func(*hub.Config)) *hub.Client {
	t.Helper()
	cfg := hub.Config{Endpoint: s.URL, Cache: cache, Workers: 4}
	cfg.Token, _ = hub.NewToken(token)
	if change != nil {
		change(&cfg)
	}
	c, err := hub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func model() map[string][]byte {
	return map[string][]byte{
		"config.json":                      []byte(`{"model_type": "llama"}`),
		"README.md":                        []byte("---\nlicense: mit\n---\n# ü & \"quotes\"\n"),
		"model.safetensors.index.json":     []byte(`{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`),
		"model-00001-of-00002.safetensors": noise(1, 20<<20),
		"model-00002-of-00002.safetensors": noise(2, 3<<20+17),
		"sub/odd name+%41.txt":             []byte("odd"),
		"empty.txt":                        {},
	}
}

func server(t *testing.T) *hubtest.Server {
	s := hubtest.New()
	t.Cleanup(s.Close)
	s.AddUser("ann", token)
	s.AddUser("bob", "hf_bob")
	return s
}

// same demands that a folder holds exactly the files.
func same(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(dir, p)
		data, err := os.ReadFile(p)
		if w, ok := want[filepath.ToSlash(rel)]; !ok || !bytes.Equal(w, data) {
			t.Errorf("%s differs", rel)
		}
		return err
	})
	if err != nil || n != len(want) {
		t.Errorf("%s holds %d files, want %d (%v)", dir, n, len(want), err)
	}
}

func write(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDownloads: the real client downloads from the fake hub, and we use its
// cache without asking for a byte; then the other way round.
func TestDownloads(t *testing.T) {
	for _, redirect := range []bool{false, true} {
		s := server(t)
		s.Redirect, s.PageSize = redirect, 2
		commit := s.AddRepo("ann/m", hubtest.RepoOptions{}, model())
		py := start(t, s.URL)
		theirs, mine := t.TempDir(), t.TempDir()

		var folder string
		py.must(&folder, "download", map[string]any{"repo": "ann/m", "cache": theirs})
		same(t, folder, model())
		s.Forget()
		snap, err := ours(t, s, theirs, nil).Resolve(context.Background(), hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
		if err != nil || len(s.Requests()) != 1 {
			t.Fatalf("%v; %d requests", err, len(s.Requests()))
		}
		if snap.Commit != commit || !sameDir(snap.Folder, folder) {
			t.Errorf("%s, not %s", snap.Folder, folder)
		}
		snap, err = ours(t, s, theirs, func(c *hub.Config) { c.Offline = true }).Resolve(context.Background(), hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
		if err != nil || !sameDir(snap.Folder, folder) {
			t.Errorf("%+v %v", snap, err)
		}

		snap, err = ours(t, s, mine, nil).Resolve(context.Background(), hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, snap.Folder, model())
		s.Forget()
		py.must(&folder, "download", map[string]any{"repo": "ann/m", "cache": mine, "local": true})
		if !sameDir(snap.Folder, folder) || len(s.Requests()) != 0 {
			t.Errorf("%s, not %s; %d requests", folder, snap.Folder, len(s.Requests()))
		}
		py.must(&folder, "download", map[string]any{"repo": "ann/m", "cache": mine})
		if sent, _ := s.Traffic(); !sameDir(snap.Folder, folder) || sent != 0 {
			t.Errorf("%s; the real client downloaded %d bytes again", folder, sent)
		}
		var found string
		py.must(&found, "cached", map[string]any{"repo": "ann/m", "name": "sub/odd name+%41.txt", "cache": mine})
		if !sameDir(filepath.Dir(found), filepath.Join(snap.Folder, "sub")) {
			t.Errorf("cached file at %q", found)
		}
		checkScans(t, py, mine, theirs)
	}
}

func sameDir(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// checkScans: the real client's inventory of both caches is the same, and finds
// nothing wrong.
func checkScans(t *testing.T, py *client, caches ...string) {
	t.Helper()
	var first string
	for _, cache := range caches {
		var scan struct {
			Warnings, Incomplete []string
			Repos                json.RawMessage
		}
		py.must(&scan, "scan", map[string]any{"cache": cache})
		if len(scan.Warnings)+len(scan.Incomplete) != 0 {
			t.Errorf("%s: %v %v", cache, scan.Warnings, scan.Incomplete)
		}
		if first == "" {
			first = string(scan.Repos)
		}
		if string(scan.Repos) != first {
			t.Errorf("inventories differ:\n%s\n%s", first, scan.Repos)
		}
	}
}

// TestUploads: what the real client uploads, in one piece and in parts, arrives
// as it is; we find nothing to add; and what we push the real client downloads.
func TestUploads(t *testing.T) {
	for _, part := range []int64{0, 5 << 20} {
		s := server(t)
		s.PartSize = part
		py := start(t, s.URL)
		dir := write(t, model())
		var done struct{ OID, PR string }
		py.must(&done, "upload", map[string]any{"repo": "ann/theirs", "folder": dir, "token": token, "private": true})
		got := s.Content("ann/theirs", "main")
		delete(got, ".gitattributes")
		if exists, private := s.Private("ann/theirs"); !exists || !private || len(got) != len(model()) {
			t.Fatalf("%v %v %d files", exists, private, len(got))
		}
		mine := ours(t, s, t.TempDir(), nil)
		r, err := mine.Push(context.Background(), hub.PushOptions{Folder: dir, Repo: hub.Ref{ID: "ann/theirs"}})
		if err != nil || !r.Unchanged {
			t.Errorf("after the real client's upload: %+v %v", r, err)
		}

		changed := model()
		changed["model-00002-of-00002.safetensors"] = noise(3, 11<<20)
		dir = write(t, changed)
		r, err = mine.Push(context.Background(), hub.PushOptions{Folder: dir, Repo: hub.Ref{ID: "ann/mine"}, Private: true})
		if err != nil || r.Uploaded != 11<<20 || r.Reused != 20<<20 {
			t.Fatalf("%+v %v", r, err)
		}
		var folder string
		py.must(&folder, "download", map[string]any{"repo": "ann/mine", "cache": t.TempDir(), "token": token})
		changed[".gitattributes"] = s.Content("ann/mine", "main")[".gitattributes"]
		same(t, folder, changed)
		commits := s.Commits("ann/mine")
		py.must(&done, "upload", map[string]any{"repo": "ann/mine", "folder": dir, "token": token})
		if s.Commits("ann/mine") != commits {
			t.Error("the real client found something to add to our push")
		}

		s.AddRepo("ann/public", hubtest.RepoOptions{}, map[string][]byte{"README.md": []byte("x")})
		py.must(&done, "upload", map[string]any{"repo": "ann/public", "folder": dir, "token": "hf_bob", "create_pr": true, "create": false})
		if s.Commits("ann/public") != 2 || len(s.Content("ann/public", "main")) != 1 || len(s.Content("ann/public", "refs/pr/1")) != len(model()) {
			t.Errorf("pull request %+v", done)
		}
	}
}

// TestErrors: the fake hub's refusals are what the real client knows the real
// hub's by.
func TestErrors(t *testing.T) {
	s := server(t)
	s.AddRepo("bob/gated", hubtest.RepoOptions{Gated: true}, model())
	s.AddRepo("bob/secret", hubtest.RepoOptions{Private: true}, model())
	s.AddRepo("bob/old", hubtest.RepoOptions{}, map[string][]byte{"config.json": []byte("{}")})
	s.Rename("bob/old", "bob/new")
	py := start(t, s.URL)
	for _, test := range []struct {
		do, want string
		args     map[string]any
	}{
		{"one", "GatedRepoError", map[string]any{"repo": "bob/gated", "name": "config.json"}},
		{"one", "GatedRepoError", map[string]any{"repo": "bob/gated", "name": "config.json", "token": token}},
		{"one", "", map[string]any{"repo": "bob/gated", "name": "config.json", "token": "hf_bob"}},
		{"one", "RepositoryNotFoundError", map[string]any{"repo": "bob/secret", "name": "config.json"}},
		{"one", "RepositoryNotFoundError", map[string]any{"repo": "bob/secret", "name": "config.json", "token": token}},
		{"one", "RepositoryNotFoundError", map[string]any{"repo": "bob/nothing", "name": "config.json", "token": token}},
		{"one", "RemoteEntryNotFoundError", map[string]any{"repo": "bob/new", "name": "nothing.json"}},
		{"one", "", map[string]any{"repo": "bob/old", "name": "config.json"}},
		{"download", "RevisionNotFoundError", map[string]any{"repo": "bob/new", "revision": "v9"}},
		{"upload", "HfHubHTTPError", map[string]any{"repo": "bob/new", "folder": write(t, model()), "token": token, "create": false}},
	} {
		if test.do != "upload" {
			test.args["cache"] = t.TempDir()
		}
		if a := py.try(test.do, test.args); a.Error != test.want {
			t.Errorf("%s %v: %q (%s), want %q", test.do, test.args, a.Error, a.Text, test.want)
		}
	}
	var name string
	py.must(&name, "whoami", map[string]any{"token": token})
	if name != "ann" {
		t.Errorf("whoami: %q", name)
	}
	var tree [][]any
	py.must(&tree, "listing", map[string]any{"repo": "bob/gated", "token": token})
	if len(tree) != len(model()) {
		t.Errorf("listing: %v", tree)
	}
}

// TestHandOver: the real client completes what we began, and we what it began.
func TestHandOver(t *testing.T) {
	s := server(t)
	s.AddRepo("ann/m", hubtest.RepoOptions{}, model())
	py := start(t, s.URL)
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopper := &tripwire{after: 18 << 20, do: cancel}
	_, err := ours(t, s, cache, func(c *hub.Config) { c.Workers, c.Progress = 1, stopper }).Resolve(ctx, hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
	if fault.KindOf(err) != fault.Interrupted {
		t.Fatal(err)
	}
	var folder string
	py.must(&folder, "download", map[string]any{"repo": "ann/m", "cache": cache})
	same(t, folder, model())
	snap, err := ours(t, s, cache, nil).Resolve(context.Background(), hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
	if err != nil || !sameDir(snap.Folder, folder) {
		t.Errorf("%+v %v", snap, err)
	}

	// It downloads a part of the files; we take them and fetch the others.
	cache = t.TempDir()
	py.must(&folder, "download", map[string]any{"repo": "ann/m", "cache": cache, "only": []string{"*00001*", "config.json"}})
	s.Forget()
	snap, err = ours(t, s, cache, nil).Resolve(context.Background(), hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
	if sent, _ := s.Traffic(); err != nil || sent != 3<<20+17 {
		t.Fatalf("%v; %d bytes", err, sent)
	}
	same(t, snap.Folder, model())
	checkScans(t, py, cache)
}

type tripwire struct {
	after int64
	do    func()
}

func (w *tripwire) Stage(string, int64) {}
func (w *tripwire) Add(n int64) {
	if w.after -= n; w.after <= 0 {
		w.do()
	}
}

// TestLock: we wait while the real client has the lock of a blob.
func TestLock(t *testing.T) {
	s := server(t)
	s.AddRepo("ann/m", hubtest.RepoOptions{}, model())
	py := start(t, s.URL)
	cache := t.TempDir()
	sum := sha256.Sum256(model()["model-00001-of-00002.safetensors"])
	path := filepath.Join(cache, ".locks", "models--ann--m", hex.EncodeToString(sum[:])+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	py.must(nil, "lock", map[string]any{"path": path})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := ours(t, s, cache, nil).Resolve(ctx, hub.Ref{ID: "ann/m"}, hub.ResolveOptions{})
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("did not wait for the lock: %v", err)
	case <-time.After(2 * time.Second):
	}
	py.must(nil, "unlock", map[string]any{"path": path})
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// TestVersion names the client that judged.
func TestVersion(t *testing.T) {
	s := server(t)
	var v string
	start(t, s.URL).must(&v, "version", nil)
	t.Log("huggingface_hub", v)
	if strings.HasPrefix(v, "0.") {
		t.Errorf("huggingface_hub %s is older than what the tests are written for", v)
	}
}
