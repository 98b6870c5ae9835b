package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/keys"
)

// How a command's n-th request to the hub ends.
const (
	killedBefore = "killed before the hub acts"
	killedAfter  = "killed before the answer"
	signalled    = "interrupted"
	cut          = "connection cut"
)

// network is a hub and commands that talk to it.
type network struct {
	*hubtest.Server
	env []string

	mu    sync.Mutex
	seen  int // requests of the command that runs
	at    int // which of them something happens to; 0: none
	how   string
	child *exec.Cmd
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{Server: hubtest.New()}
	t.Cleanup(n.Close)
	n.AddUser("ann", hubToken)
	n.Arrived(n.arrived)
	n.env = append(os.Environ(), "HF_ENDPOINT="+n.URL, "HF_TOKEN="+hubToken, "HF_HUB_OFFLINE=", "SOURCE_DATE_EPOCH=1700000000")
	return n
}

// arrived lets the n-th request end as it shall.
func (n *network) arrived(string, *http.Request) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen++; n.seen != n.at {
		return true
	}
	switch n.how {
	case cut:
		return false
	case signalled:
		_ = n.child.Process.Signal(os.Interrupt)
		return true
	}
	_ = n.child.Process.Kill()
	return n.how == killedAfter
}

// run runs the command, whose at-th request ends as how says, and returns its
// exit code, -1 if it was killed.
func (n *network) run(t *testing.T, home string, at int, how string, args ...string) (code int, output string) {
	t.Helper()
	path, err := exec.LookPath("neuroseal") // this test binary, by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(n.env, "HF_HOME="+home)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	n.mu.Lock()
	n.seen, n.at, n.how, n.child = 0, at, how, cmd
	err = cmd.Start()
	n.mu.Unlock()
	if err == nil {
		err = cmd.Wait()
	}
	if strings.Contains(out.String(), hubToken) {
		t.Fatalf("the token is in the output: %s", &out)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), out.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out.String()
}

// each plays a command over and over, and lets every stride-th of its requests
// end in each of the four ways, each way beginning one request later: with a
// stride of 4, every request ends in one way. check looks at the state after
// the command was given again, which must succeed.
func (n *network) each(t *testing.T, stride int, begin func(t *testing.T, dir string) []string, check func(t *testing.T, dir, when string)) {
	t.Helper()
	ways := []string{killedBefore, killedAfter, signalled, cut}
	if testing.Short() {
		stride *= 3
	}
	for i, how := range ways {
		at := 1 + i%stride
		for ; ; at += stride {
			dir, home := t.TempDir(), t.TempDir()
			args := begin(t, dir)
			when := fmt.Sprintf("request %d %s", at, how)
			code, out := n.run(t, home, at, how, args...)
			ended := n.seen < at // before that request
			switch {
			case code == 0 && (how == cut || ended || n.seen == at || how == signalled):
			case code == -1 && how != cut && how != signalled, code == 130 && how == signalled:
			default:
				t.Fatalf("%s: exit code %d\n%s", when, code, out)
			}
			if code != 0 {
				if code, out = n.run(t, home, 0, "", args...); code != 0 {
					t.Fatalf("%s, second run: exit code %d\n%s", when, code, out)
				}
			}
			check(t, dir, when)
			if ended {
				break
			}
		}
		t.Logf("%s: at every %d of %d requests", how, stride, n.seen)
	}
}

// TestHubInterruptedLock: lock ends with the bytes of a lock that nothing
// disturbed, and leaves nothing else.
func TestHubInterruptedLock(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := keys.WriteKeyFile(key, keys.NewSealKey()); err != nil {
		t.Fatal(err)
	}
	sharded := filepath.Join(t.TempDir(), "src")
	if err := mkshards(fixture(t, "../../arch/testdata/llama-tied"), sharded, 3); err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]string{"shards": sharded, "large": fixture(t, "../../internal/demo/model")} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			n.AddRepo("ann/model", hubtest.RepoOptions{}, contents(t, src))
			args := func(dir string) []string {
				return []string{"lock", "ann/model", filepath.Join(dir, "out"), "--key-file", key}
			}
			want := t.TempDir()
			if code, out := n.run(t, t.TempDir(), 0, "", args(want)...); code != 0 {
				t.Fatal(out)
			}
			n.each(t, 4, func(_ *testing.T, dir string) []string { return args(dir) }, func(t *testing.T, dir, when string) {
				if diff, err := treeDiff(want, dir); diff != "" || err != nil {
					t.Fatalf("%s: %s differs (%v)", when, diff, err)
				}
				if left, _ := os.ReadDir(dir); len(left) != 1 {
					t.Fatalf("%s: left behind: %v", when, left)
				}
			})
		})
	}
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for name, data := range files {
		out[name] = []byte(data)
	}
	return out
}

// TestHubInterruptedPush: push makes one commit with all files, and storage
// takes each file once.
func TestHubInterruptedPush(t *testing.T) {
	_, sealed := sealedFixture(t, keys.NewSealKey())
	n := newNetwork(t)
	want := contents(t, sealed)
	n.each(t, 2, func(t *testing.T, dir string) []string {
		n.Reset()
		return []string{"push", sealed, "ann/model"}
	}, func(t *testing.T, _, when string) {
		got := n.Content("ann/model", "main")
		for name, data := range want {
			if !bytes.Equal(got[name], data) {
				t.Fatalf("%s: %s differs", when, name)
			}
		}
		if c := n.Commits("ann/model"); c != 2 { // the one that creates, and the push
			t.Fatalf("%s: %d commits", when, c)
		}
		stored := map[string]int{}
		for _, r := range n.Requests() {
			if r.Server == "storage" && r.Method == http.MethodPut && r.Status == http.StatusOK {
				if stored[r.Path]++; stored[r.Path] > 1 {
					t.Fatalf("%s: %s was stored twice", when, r.Path)
				}
			}
			if r.Server == "storage" && r.Authorization != "" {
				t.Fatalf("%s: storage was shown the token", when)
			}
		}
		n.Forget()
	})
}

// TestKilledRemoteLock dies at operations on the file system instead.
func TestKilledRemoteLock(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := mkshards(fixture(t, "../../arch/testdata/llama-tied"), src, 3); err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t)
	n.AddRepo("ann/model", hubtest.RepoOptions{}, contents(t, src))
	for name, value := range map[string]string{"HF_ENDPOINT": n.URL, "HF_HOME": t.TempDir(), "HF_TOKEN": hubToken, "SOURCE_DATE_EPOCH": "1700000000"} {
		t.Setenv(name, value)
	}
	killed{
		source: src, stride: 7,
		args: func(dir string) []string { return []string{"lock", "ann/model", filepath.Join(dir, "out")} },
		whole: func(t *testing.T, dir string) error {
			if _, err := os.Lstat(filepath.Join(dir, "out.download")); err == nil {
				if _, err := os.Lstat(filepath.Join(dir, "out")); err != nil {
					return errors.New("only the download is there")
				}
			}
			return opens(src, func(dir string) (keys.SealKey, error) {
				k, _, err := keys.ReadKeyFile(filepath.Join(dir, "out.key"))
				return k, err
			})(t, dir)
		},
	}.run(t)
}
