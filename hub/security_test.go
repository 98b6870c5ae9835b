package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestTokenHides(t *testing.T) {
	tok, err := NewToken(" " + secret + "\n")
	if err != nil || !tok.Given() {
		t.Fatal(err)
	}
	cfg := Config{Token: tok}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", tok, "cfg", cfg)
	js, _ := json.Marshal(cfg.Token)
	for _, s := range []string{tok.String(), string(js), log.String(), fmt.Sprint(tok), fmt.Sprintf("%v %+v %#v %s %q %x %d", tok, tok, tok, tok, tok, tok, tok),
		fmt.Sprintf("%v %+v %#v", cfg, cfg, &cfg)} {
		if strings.Contains(s, secret[3:10]) || strings.Contains(s, fmt.Sprintf("%x", secret[3:8])) {
			t.Errorf("the token is visible in %q", s)
		}
	}
	for _, bad := range []string{"two words", "line\nbreak", "ümlaut", "tab\tstop"} {
		if _, err := NewToken(bad); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTokenStaysHome: wherever a hub sends its client, the token does not come
// along, and no message holds it or the signature of an address.
func TestTokenStaysHome(t *testing.T) {
	var leaked atomic.Bool
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(fmt.Sprint(r.Header), secret) {
			leaked.Store(true)
		}
		http.Error(w, "no", http.StatusNotFound)
	}))
	defer evil.Close()
	for name, status := range map[string]int{"301": 301, "302": 302, "303": 303, "307": 307, "308": 308} {
		hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", evil.URL+"/x?X-Amz-Signature=sesame")
			w.WriteHeader(status)
		}))
		cfg := Config{Endpoint: hub.URL, Cache: t.TempDir()}
		cfg.Token, _ = NewToken(secret)
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.sleep = func(context.Context, time.Duration) error { return nil }
		_, err = c.Repo(context.Background(), Ref{ID: "a/b"})
		_, perr := c.Push(context.Background(), PushOptions{Folder: folder(t, sealed()), Repo: Ref{ID: "a/b"}})
		for _, err := range []error{err, perr} {
			if err == nil || leaked.Load() || strings.Contains(err.Error()+fault.HintOf(err), "sesame") {
				t.Errorf("%s: leaked %v, %v", name, leaked.Load(), err)
			}
		}
		hub.Close()
	}
}

// TestUploadStaysHome: upload instructions that lead elsewhere get no token, and
// a body is not redirected to another host.
func TestUploadStaysHome(t *testing.T) {
	var leaked, body atomic.Bool
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(leaked.Load() || strings.Contains(fmt.Sprint(r.Header), secret))
		body.Store(body.Load() || r.ContentLength > 0)
	}))
	defer evil.Close()
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, evil.URL, http.StatusTemporaryRedirect)
	}))
	defer hub.Close()
	cfg := Config{Endpoint: hub.URL}
	cfg.Token, _ = NewToken(secret)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.post(context.Background(), c.api(nil, "api/repos/create"), map[string]string{"name": "x"}); err == nil {
		t.Error("a body went to another host")
	}
	p := &push{c: c, result: &PushResult{}, opt: PushOptions{Repo: Ref{ID: "a/b"}}}
	dir := folder(t, map[string][]byte{"f": []byte("text")})
	f := &localFile{path: "f", file: filepath.Join(dir, "f"), size: 4, sha256: strings.Repeat("a", 64), mode: modeLFS}
	var o lfsObject
	if err := json.Unmarshal([]byte(`{"actions": {"upload": {"href": "`+evil.URL+`/up"}, "verify": {"href": "`+evil.URL+`/verify"}}}`), &o); err != nil {
		t.Fatal(err)
	}
	if err := p.object(context.Background(), f, o); err != nil {
		t.Error(err)
	}
	if leaked.Load() {
		t.Error("the token left")
	}
}

// TestEchoedToken: a server, or a proxy, that repeats the token in its answer
// does not bring it into a message.
func TestEchoedToken(t *testing.T) {
	for name, reply := range map[string]func(http.ResponseWriter, string){
		"header": func(w http.ResponseWriter, auth string) {
			w.Header().Set("X-Error-Message", "bad "+auth)
			w.WriteHeader(http.StatusForbidden)
		},
		"JSON": func(w http.ResponseWriter, auth string) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "\x1b[31m" + auth + "\n" + strings.Repeat("x", 10_000)})
		},
		"text": func(w http.ResponseWriter, auth string) {
			w.Header().Set("Content-Type", "text/plain")
			http.Error(w, auth, http.StatusConflict)
		},
		"page": func(w http.ResponseWriter, auth string) { fmt.Fprintf(w, "<html>%s</html>", auth) },
	} {
		hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reply(w, r.Header.Get("Authorization")) }))
		cfg := Config{Endpoint: hub.URL}
		cfg.Token, _ = NewToken(secret)
		c, _ := New(cfg)
		c.sleep = func(context.Context, time.Duration) error { return nil }
		_, err := c.Repo(context.Background(), Ref{ID: "a/b"})
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), secret) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
			t.Errorf("%s: %v", name, err)
		}
		hub.Close()
	}
}

// TestTokenNotOnDisk: a download and a push leave no token in the cache.
func TestTokenNotOnDisk(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("ann/m", RepoPublic, model())
	if _, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(w.c.cfg.Cache, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), secret) {
			t.Errorf("%s holds the token", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestExplained(t *testing.T) {
	w := newWorld(t, nil)
	w.AddRepo("bob/gated", hubtest.RepoOptions{Gated: true}, model())
	w.AddRepo("bob/secret", hubtest.RepoOptions{Private: true}, model())
	w.AddRepo("ann/m", RepoPublic, model())
	w.AddRepo("ann/pickle", RepoPublic, map[string][]byte{"config.json": []byte("{}"), "pytorch_model.bin": []byte("x")})
	w.AddRepo("ann/gguf", RepoPublic, map[string][]byte{"m-Q4_0.gguf": []byte("GGUF")})
	w.AddRepo("ann/holey", RepoPublic, map[string][]byte{"config.json": []byte("{}"),
		indexName: []byte(`{"weight_map": {"a": "model-00001-of-00002.safetensors"}}`), "model-00002-of-00002.safetensors": []byte("x")})
	w.AddRepo("ann/badconfig", RepoPublic, map[string][]byte{"config.json": []byte("[]"), "model.safetensors": []byte("x")})
	anonymous := w.client(t, func(cfg *Config) { cfg.Token = Token{} })
	stranger := w.client(t, func(cfg *Config) { cfg.Token, _ = NewToken("hf_unknown") })
	offline := w.client(t, func(cfg *Config) { cfg.Offline = true })
	for name, test := range map[string]struct {
		c          *Client
		ref        Ref
		kind       fault.Kind
		text, hint string
	}{
		"missing":            {w.c, Ref{ID: "ann/nothing"}, fault.General, "has no model ann/nothing, or it is private", "account"},
		"missing, anonymous": {anonymous, Ref{ID: "ann/nothing"}, fault.General, "or it is private", "HF_TOKEN"},
		"private":            {w.c, Ref{ID: "bob/secret"}, fault.General, "or it is private", "./bob/secret"},
		"gated, anonymous":   {anonymous, Ref{ID: "bob/gated"}, fault.General, "is gated", "HF_TOKEN"},
		"gated, stranger":    {w.c, Ref{ID: "bob/gated"}, fault.General, "no access", "ask for access"},
		"unknown token":      {stranger, Ref{ID: "ann/m"}, fault.General, "does not accept the token", "settings/tokens"},
		"revision":           {w.c, Ref{ID: "ann/m", Revision: "v9"}, fault.General, `no revision "v9"`, "tree/main"},
		"pickles":            {w.c, Ref{ID: "ann/pickle"}, fault.Unsupported, "pytorch_model.bin", "convert"},
		"gguf":               {w.c, Ref{ID: "ann/gguf"}, fault.Unsupported, "m-Q4_0.gguf", "hf://ann/gguf/m-Q4_0.gguf"},
		"missing shard":      {w.c, Ref{ID: "ann/holey"}, fault.Mismatch, "lacks shard", "incomplete"},
		"config":             {w.c, Ref{ID: "ann/badconfig"}, fault.Mismatch, "config.json", ""},
		"offline":            {offline, Ref{ID: "ann/m"}, fault.General, "not in the cache", "HF_HUB_OFFLINE"},
	} {
		_, err := test.c.Resolve(context.Background(), test.ref, ResolveOptions{})
		if fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) || !strings.Contains(fault.HintOf(err), test.hint) {
			t.Errorf("%s: kind %d: %v\nhint: %s", name, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
	if left, _ := filepath.Glob(filepath.Join(w.c.cfg.Cache, "*", "snapshots", "*", "*")); len(left) != 0 {
		t.Errorf("a refused model left %v", left)
	}
}

// TestHostileListing: names that lead out of the cache are refused.
func TestHostileListing(t *testing.T) {
	for _, name := range []string{"../../../x", "/etc/passwd", "a/../../b", `a\b`, "C:evil", "a\x00b"} {
		w := newWorld(t, nil)
		w.AddRepo("ann/m", RepoPublic, map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("x"), name: []byte("evil")})
		_, err := w.c.Resolve(context.Background(), Ref{ID: "ann/m"}, ResolveOptions{All: true})
		if fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestHostileSizes: sizes that no disk has are refused where they are listed:
// their sums would pass for small ones.
func TestHostileSizes(t *testing.T) {
	oid := strings.Repeat("a", 40)
	few := []treeEntry{{Type: "file", Path: "a", OID: oid, Size: math.MaxInt64}, {Type: "file", Path: "b", OID: oid, Size: math.MaxInt64}}
	var many []treeEntry
	kept := treeListing{treeFormat, map[string]treeFile{}}
	for i := range maxTotal/maxFile + 1 {
		e := treeEntry{Type: "file", Path: fmt.Sprint(i), OID: oid, Size: maxFile}
		many = append(many, e)
		kept.Files[e.Path] = treeFile{Size: e.Size, BlobID: oid}
	}
	for name, list := range map[string][]treeEntry{"few": few, "many": many} {
		if _, err := listing(Ref{ID: "ann/m"}, list); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	data, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if parseTree(data) != nil {
		t.Error("a kept listing is believed")
	}
}

// TestEndlessListing: a listing of full pages without end is given up before it
// fills the memory.
func TestEndlessListing(t *testing.T) {
	page := []byte("[" + strings.Repeat("{},", 1<<19-1) + "{}]")
	pages := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/revision/") {
			fmt.Fprintf(w, `{"id":"ann/m","sha":"%040d"}`, 1)
			return
		}
		pages++
		w.Header().Set("Link", "<"+r.URL.Path+`>; rel="next"`)
		_, _ = w.Write(page)
	}))
	t.Cleanup(s.Close)
	c, err := New(Config{Endpoint: s.URL, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Repo(context.Background(), Ref{ID: "ann/m"}); fault.KindOf(err) != fault.Unsupported || pages > 3 {
		t.Errorf("after %d pages: %v", pages, err)
	}
}
