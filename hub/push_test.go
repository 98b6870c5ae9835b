package hub

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// folder writes files below a new folder.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
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

func sealed() map[string][]byte {
	return map[string][]byte{
		"config.json":                      []byte(`{"model_type": "llama"}`),
		"README.md":                        []byte("---\nlicense: mit\n---\n<sealed> & \"quoted\" ü\n"),
		"model-00001-of-00002.safetensors": noise(11, 300_000),
		"model-00002-of-00002.safetensors": noise(12, 100_001),
		"neuroseal_config.json":            []byte(`{"sealed": true}`),
		"sub dir/näme+%41.txt":             []byte("odd name"),
		"empty.txt":                        {},
	}
}

// sameFiles compares what the hub holds with what was pushed, .gitattributes apart.
func sameFiles(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	got = maps.Clone(got)
	delete(got, ".gitattributes")
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the hub holds %v", slices.Sorted(maps.Keys(got)))
	}
}

func TestPush(t *testing.T) {
	for _, partSize := range []int64{0, 64 << 10} {
		w := newWorld(t, nil)
		w.PartSize = partSize
		opt := PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "ann/sealed"}, Private: true, Message: "seal"}
		dry := opt
		dry.DryRun = true
		r, err := w.c.Push(context.Background(), dry)
		if err != nil || !r.Created || len(r.Files) != len(sealed()) {
			t.Fatalf("%+v %v", r, err)
		}
		if exists, _ := w.Private("ann/sealed"); exists {
			t.Fatal("a dry run made a repository")
		}
		r, err = w.c.Push(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if exists, private := w.Private("ann/sealed"); !exists || !private || !r.Created || r.Uploaded != 400_001 || r.Commit == "" {
			t.Errorf("%v %v %+v", exists, private, r)
		}
		sameFiles(t, w.Content("ann/sealed", "main"), sealed())
		for _, q := range w.Requests() {
			if q.Server == "storage" && (q.Authorization != "" || q.Header.Get("Cookie") != "") {
				t.Fatal("the token reached the storage")
			}
		}

		// Again: nothing to do, and nothing is done.
		w.Forget()
		r, err = w.c.Push(context.Background(), opt)
		if err != nil || !r.Unchanged || r.Uploaded != 0 || w.Count("", "", "/commit/") != 0 || w.Count("", "", "objects/batch") != 0 {
			t.Errorf("%+v %v", r, err)
		}
		// One file changes: one file moves.
		files := sealed()
		files["config.json"] = []byte(`{}`)
		opt.Folder = folder(t, files)
		w.Forget()
		r, err = w.c.Push(context.Background(), opt)
		if err != nil || r.Uploaded != 0 || r.Reused != 0 || w.Commits("ann/sealed") != 3 {
			t.Errorf("%+v %v", r, err)
		}
		sameFiles(t, w.Content("ann/sealed", "main"), files)
	}
}

func TestPushDelete(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	r, err := w.c.Push(context.Background(), PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "ann/m"}, Delete: []string{"*"}})
	if err != nil || len(r.Deleted) != 5 {
		t.Fatalf("%+v %v", r, err)
	}
	sameFiles(t, w.Content("ann/m", "main"), sealed())
}

func TestPushPullRequest(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("bob/m", RepoPublic, model())
	opt := PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "bob/m"}}
	if _, err := w.c.Push(context.Background(), opt); err == nil || w.Commits("bob/m") != 1 {
		t.Errorf("somebody else's repository: %v", err)
	}
	opt.CreatePR = true
	r, err := w.c.Push(context.Background(), opt)
	if err != nil || !strings.HasSuffix(r.PullRequest, "/bob/m/discussions/1") {
		t.Fatalf("%+v %v", r, err)
	}
	sameFiles(t, w.Content("bob/m", "main"), model())
	if got := w.Content("bob/m", "refs/pr/1"); !bytes.Equal(got["neuroseal_config.json"], sealed()["neuroseal_config.json"]) {
		t.Error("the pull request lacks a file")
	}
}

// TestPushTrouble: whatever fails in passing, the result is one commit, and
// nothing is uploaded twice.
func TestPushTrouble(t *testing.T) {
	for name, f := range map[string]hubtest.Fault{
		"busy everywhere":      {Status: 503, Times: 2},
		"create busy":          {Path: "repos/create", Status: 500, Times: 2},
		"create answer lost":   {Path: "repos/create", Lose: true, Times: 1},
		"preupload busy":       {Path: "preupload", Status: 429, RetryAfter: "1", Times: 2},
		"batch busy":           {Path: "objects/batch", Status: 502, Times: 2},
		"upload refused once":  {Server: "storage", Method: "PUT", Status: 500, Times: 2},
		"upload answer lost":   {Server: "storage", Method: "PUT", Lose: true, Times: 1},
		"commit busy":          {Path: "/commit/", Status: 503, Times: 2},
		"commit answer lost":   {Path: "/commit/", Lose: true, Times: 1},
		"commit never arrives": {Path: "/commit/", Cut: 0, Times: 1},
		"verify busy":          {Path: "/verify", Status: 503, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.Fail(f)
			r, err := w.c.Push(context.Background(), PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "ann/s"}})
			if err != nil {
				t.Fatal(err)
			}
			sameFiles(t, w.Content("ann/s", "main"), sealed())
			if w.Commits("ann/s") != 2 || r.Commit == "" {
				t.Errorf("%d commits, %+v", w.Commits("ann/s"), r)
			}
		})
	}
}

// TestPushInterrupted: at every request of a push the connection fails for
// good. There is no partial commit, and the next push uploads what is missing.
func TestPushInterrupted(t *testing.T) {
	total := int64(400_001)
	for n := 0; ; n++ {
		w := newWorld(t, nil)
		opt := PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "ann/s"}}
		w.Fail(hubtest.Fault{Skip: n, Status: 500})
		_, err := w.c.Push(context.Background(), opt)
		if err == nil {
			if n < 8 {
				t.Errorf("a push takes only %d requests", n)
			}
			return
		}
		if got := w.Content("ann/s", "main"); len(got) > 1 {
			t.Fatalf("after %d requests the repository holds %d files", n, len(got))
		}
		w.Heal()
		_, before := w.Traffic()
		r, err := w.c.Push(context.Background(), opt)
		if err != nil {
			t.Fatalf("after %d requests: %v", n, err)
		}
		sameFiles(t, w.Content("ann/s", "main"), sealed())
		if _, taken := w.Traffic(); taken != total || r.Uploaded+before != total {
			t.Errorf("after %d requests: storage took %d bytes of %d", n, taken, total)
		}
	}
}

func TestPushRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/public", RepoPublic, model())
	dir := folder(t, sealed())
	badCard := sealed()
	badCard["README.md"] = []byte("---\nlicense: mit\n")
	linked := folder(t, sealed())
	if err := os.Symlink(filepath.Join(dir, "config.json"), filepath.Join(linked, "secret")); err != nil {
		t.Skip(err)
	}
	for name, test := range map[string]struct {
		opt  PushOptions
		kind fault.Kind
		text string
	}{
		"public one as private": {PushOptions{Folder: dir, Repo: Ref{ID: "ann/public"}, Private: true}, fault.Usage, "public"},
		"no owner":              {PushOptions{Folder: dir, Repo: Ref{ID: "x"}}, fault.Usage, "owner"},
		"a file":                {PushOptions{Folder: dir, Repo: Ref{ID: "ann/x", Path: "f"}}, fault.Usage, "file"},
		"no folder":             {PushOptions{Folder: filepath.Join(dir, "config.json"), Repo: Ref{ID: "ann/x"}}, fault.Usage, "not a folder"},
		"nothing":               {PushOptions{Folder: dir, Repo: Ref{ID: "ann/x"}, Include: []string{"no"}}, fault.Usage, "no file"},
		"link":                  {PushOptions{Folder: linked, Repo: Ref{ID: "ann/x"}}, fault.Usage, "outside"},
		"model card":            {PushOptions{Folder: folder(t, badCard), Repo: Ref{ID: "ann/public"}}, fault.Usage, "the metadata has no end"},
		"foreign organisation":  {PushOptions{Folder: dir, Repo: Ref{ID: "corp/x"}}, fault.General, "may not create"},
		"missing branch":        {PushOptions{Folder: dir, Repo: Ref{ID: "ann/public", Revision: "dev"}}, fault.General, "no revision"},
	} {
		_, err := w.c.Push(context.Background(), test.opt)
		if fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.Commits("ann/public") != 1 {
		t.Error("something was committed")
	}
}

// TestPushRace: somebody else commits while this push uploads.
func TestPushRace(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	w.c.cfg.Progress = &trip{after: 350_000, do: func() { w.Commit("ann/m", map[string][]byte{"new": []byte("x")}) }}
	_, err := w.c.Push(context.Background(), PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "ann/m"}})
	if err == nil || !strings.Contains(err.Error(), "another commit") {
		t.Fatal(err)
	}
	if got := w.Content("ann/m", "main"); len(got) != len(model())+1 {
		t.Errorf("%d files", len(got))
	}
}

// TestPushMovingFile: a file that is written to during the push is not
// committed.
func TestPushMovingFile(t *testing.T) {
	w := newWorld(t, nil)
	dir := folder(t, sealed())
	w.c.cfg.Progress = &trip{after: 500_000, do: func() {
		_ = os.Chtimes(filepath.Join(dir, "config.json"), time.Time{}, time.Unix(1, 0))
	}}
	_, err := w.c.Push(context.Background(), PushOptions{Folder: dir, Repo: Ref{ID: "ann/s"}})
	if fault.KindOf(err) != fault.Mismatch || w.Commits("ann/s") != 1 {
		t.Errorf("%v", err)
	}
}
