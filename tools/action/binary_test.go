package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal"
)

// releaseArchive is an archive as a release has it, whose program prints a word.
func releaseArchive(t *testing.T, word string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{"README.md": "# read me\n", "neuroseal": "#!/bin/sh\necho " + word + "\n"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkout makes a checkout of the action with the given checksums, which holds
// no more than release.sh reads.
func checkout(t *testing.T, checksums string) string {
	t.Helper()
	root, from := t.TempDir(), repository(t)
	for _, path := range []string{"neuroseal.go", "go.mod", "tools/action/release.sh", "tools/action/runner.sh"} {
		to := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(read(t, filepath.Join(from, path))), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "tools/action/checksums.txt"), []byte(checksums), 0o666); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestReleasedBinary: a release is run only if it is what was recorded for this
// version; what was not released is built; nothing else is run.
func TestReleasedBinary(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("the archives for Windows are zip files")
	}
	good := releaseArchive(t, "released")
	name := fmt.Sprintf("neuroseal_%s_%s_%s.tar.gz", neuroseal.Version, runtime.GOOS, runtime.GOARCH)
	sum := func(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
	for test, c := range map[string]struct {
		checksums string
		served    []byte // nil: there is no such release
		path      bool
		said      string
	}{
		"released":      {"# of archives\n" + sum(nil) + "  other.tar.gz\n" + sum(good) + "  " + name + "\n", good, true, ""},
		"tampered":      {sum(good) + "  " + name + "\n", releaseArchive(t, "tampered"), false, "it is not what was released"},
		"cut":           {sum(good) + "  " + name + "\n", good[:100], false, "it is not what was released"},
		"not recorded":  {sum(good) + "  x" + name + "\n", good, false, ""},
		"not there":     {sum(good) + "  " + name + "\n", nil, false, ""},
		"other version": {sum(good) + "  " + strings.Replace(name, neuroseal.Version, "0.0.0", 1) + "\n", good, false, ""},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				asked = req.URL.Path
				if c.served == nil {
					http.NotFound(w, req)
					return
				}
				_, _ = w.Write(c.served)
			}))
			defer server.Close()
			r := newRunner(t, nil)
			r.action = checkout(t, c.checksums)
			r.env = append(r.env, "NEUROSEAL_RELEASES="+server.URL+"/dl")
			code, out := r.runStep(t, 0, stepOf(t, "release"))
			r.watch()
			if (code == 0) != (c.said == "") || !strings.Contains(strings.Join(r.said, "\n"), c.said) {
				t.Errorf("exit status %d, said %q", code, r.said)
			}
			if want := "/dl/v" + neuroseal.Version + "/" + name; asked != "" && asked != want {
				t.Errorf("asked for %s, want %s", asked, want)
			}
			if !c.path {
				if out["path"] != "" || c.said == "" && out["go"] != "true" {
					t.Errorf("outputs %q", out)
				}
				return
			}
			if got, err := exec.Command(out["path"]).Output(); err != nil || string(got) != "released\n" {
				t.Errorf("%s: %q, %v", out["path"], got, err)
			}
		})
	}
}

// stepOf is the step with an id.
func stepOf(t *testing.T, id string) step {
	t.Helper()
	steps := readAction(t, repository(t)).Runs.Steps
	i := slices.IndexFunc(steps, func(s step) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("no step %s", id)
	}
	return steps[i]
}

// TestBuiltBinary: without a release the action builds what its checkout holds,
// whatever the job's settings for Go.
func TestBuiltBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command")
	}
	if runtime.GOOS == "windows" {
		t.Skip("the workflow ci.yml builds it there")
	}
	r := newRunner(t, nil)
	r.env = append(r.env, "GOFLAGS=-mod=vendor -tags=foreign", "GOOS=plan9", "GOWORK="+filepath.Join(r.workspace, "go.work"))
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		r.env = append(r.env, name+"="+strings.TrimSpace(string(value)))
	}
	code, out := r.runStep(t, 0, stepOf(t, "build"))
	if code != 0 {
		t.Fatal(r.raw)
	}
	got, err := exec.Command(out["path"], "version", "-q").Output()
	if err != nil || string(got) != neuroseal.Version+"\n" {
		t.Errorf("%q %v", got, err)
	}
}
