package hub

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestParseSource(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("here/model", 0o777); err != nil {
		t.Fatal(err)
	}
	commit := strings.Repeat("a1", 20)
	for s, want := range map[string]string{
		"org/name":                           "hf://org/name",
		"org/name@v1.0":                      "hf://org/name@v1.0",
		"org/name@" + commit:                 "hf://org/name@" + commit,
		"org/name@refs/pr/1":                 "hf://org/name@refs/pr/1",
		"hf://org/name":                      "hf://org/name",
		"hf://models/org/name@dev":           "hf://org/name@dev",
		"hf://gpt2":                          "hf://gpt2",
		"hf://gpt2@main":                     "hf://gpt2@main",
		"hf://org/name@main/sub/m.gguf":      "hf://org/name@main/sub/m.gguf",
		"hf://org/name/sub/m.gguf":           "hf://org/name/sub/m.gguf",
		"hf://org/name@refs/pr/12/m.gguf":    "hf://org/name@refs/pr/12/m.gguf",
		"hf://org/name@refs/convert/parquet": "hf://org/name@refs/convert/parquet",
		"hf://here/model":                    "hf://here/model",
		// Paths.
		"here/model": "", "./org/name": "", "../org/name": "", "/org/name": "", "~/org/name": "", "name": "", "a/b/c": "",
		"org/na me": "", "model.safetensors": "", `a\b`: "", "org/name/": "", "": "",
	} {
		ref, ok, err := ParseSource(s)
		switch {
		case err != nil || ok != (want != ""):
			t.Errorf("%q: %v %v", s, ok, err)
		case ok && ref.String() != want:
			t.Errorf("%q is %s, not %s", s, ref, want)
		}
	}
	for _, s := range []string{"hf://", "hf://a/b/../c", "hf://datasets/a/b", "hf://a--b/c", "hf://a/b.git", "hf://a/..", "hf://-a/b", "hf://a/b@",
		"hf://a/b@../x", "hf://a/b@x..y", "hf://a/b@/etc", "hf://a//b", "hf://a/b@main/../../x", "hf:///a/b", "hf://a/b?x=1", "hf://a/b#c", "hf://a/b\n"} {
		if ref, ok, err := ParseSource(s); ok || fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %+v %v %v", s, ref, ok, err)
		}
	}
}

// TestParseQuant: a quantisation stands behind a model, and nothing else does.
func TestParseQuant(t *testing.T) {
	t.Chdir(t.TempDir())
	for s, want := range map[string][2]string{
		"org/name:Q4_K_M":             {"hf://org/name", "Q4_K_M"},
		"org/name@v1:q8_0":            {"hf://org/name@v1", "q8_0"},
		"hf://org/name:UD-Q4_K_XL":    {"hf://org/name", "UD-Q4_K_XL"},
		"hf://org/name@refs/pr/1:F16": {"hf://org/name@refs/pr/1", "F16"},
	} {
		ref, ok, err := ParseSource(s)
		if err != nil || !ok || ref.String() != want[0] || ref.Quant != want[1] {
			t.Errorf("%q: %+v %v %v", s, ref, ok, err)
		}
	}
	for _, s := range []string{"org/name:", "org/name:a b", "org/name:../x", "name:Q4", "./org/name:Q4", "org/na:me/x"} {
		if ref, ok, err := ParseSource(s); ok || err != nil {
			t.Errorf("%q: %+v %v %v", s, ref, ok, err)
		}
	}
	for _, s := range []string{"hf://org/name/x.gguf:Q4", "hf://org/name:/x"} {
		if ref, ok, err := ParseSource(s); ok || fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %+v %v %v", s, ref, ok, err)
		}
	}
	if _, err := ParseRef("org/name:Q4_0"); fault.KindOf(err) != fault.Usage {
		t.Errorf("a target to push to: %v", err)
	}
}

// TestParseSourceHidden: a folder that may not be looked at is not taken for one
// that is not there.
func TestParseSourceHidden(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("org/name", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("org", 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod("org", 0o777)
	if _, err := os.Lstat("org/name"); err == nil {
		t.Skip("this user may look everywhere")
	}
	_, ok, err := ParseSource("org/name")
	if ok || fault.KindOf(err) != fault.General || !strings.Contains(err.Error(), "org/name") || !strings.Contains(fault.HintOf(err), "hf://org/name") {
		t.Errorf("%v, %v, %s", ok, err, fault.HintOf(err))
	}
	if _, ok, err := ParseSource("hf://org/name"); !ok || err != nil {
		t.Errorf("an address: %v, %v", ok, err)
	}
	if err := os.WriteFile("file", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := ParseSource("file/name"); !ok || err != nil {
		t.Errorf("below a file is no folder: %v, %v", ok, err)
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"org/name", "hf://org/name@rev/file", "hf://a@refs/pr/1/x", "hf://models/a/b", "a/b@c", "hf://a/b@c%2Fd/e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		if err != nil {
			return
		}
		again, err := ParseRef(ref.String())
		if err != nil || again != ref {
			t.Errorf("%q gives %q, which gives %+v, %v", s, ref, again, err)
		}
		c := &Client{cfg: Config{Cache: "/cache"}}
		for _, p := range []string{c.pointerPath(ref.ID, "0", ref.Path), filepath.Join(c.repoFolder(ref.ID), "refs", ref.revision())} {
			if rel, err := filepath.Rel("/cache", p); err != nil || !filepath.IsLocal(rel) || !strings.HasPrefix(rel, "models--") {
				t.Errorf("%q leads to %s", s, p)
			}
		}
	})
}

func TestFromEnv(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".cache", "huggingface"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".cache", "huggingface", "token"), []byte("hf_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(home, ".cache", "huggingface", "hub")
	for name, test := range map[string]struct {
		env, flag              string
		token, cache, endpoint string
		offline, warns         bool
	}{
		"nothing":         {"", "", "hf_file", cache, publicEndpoint, false, false},
		"variable":        {"HF_TOKEN=hf_env", "", "hf_env", cache, publicEndpoint, false, false},
		"flag":            {"", "hf_flag", "hf_flag", cache, publicEndpoint, false, true},
		"both":            {"HF_TOKEN=hf_env", "hf_flag", "hf_env", cache, publicEndpoint, false, true},
		"not implicit":    {"HF_HUB_DISABLE_IMPLICIT_TOKEN=1", "", "", cache, publicEndpoint, false, false},
		"token path":      {"HF_TOKEN_PATH=" + home + "/none", "", "", cache, publicEndpoint, false, false},
		"home":            {"HF_HOME=~/hf", "", "", filepath.Join(home, "hf", "hub"), publicEndpoint, false, false},
		"cache":           {"HF_HUB_CACHE=$HOME/c|HF_HOME=/x", "", "", home + "/c", publicEndpoint, false, false},
		"old cache":       {"HUGGINGFACE_HUB_CACHE=/old", "", "hf_file", "/old", publicEndpoint, false, false},
		"xdg":             {"XDG_CACHE_HOME=/xdg", "", "", filepath.FromSlash("/xdg/huggingface/hub"), publicEndpoint, false, false},
		"endpoint":        {"HF_ENDPOINT=http://localhost:1/hf/", "", "hf_file", cache, "http://localhost:1/hf", false, false},
		"offline":         {"HF_HUB_OFFLINE=yes", "", "hf_file", cache, publicEndpoint, true, false},
		"offline, old":    {"TRANSFORMERS_OFFLINE=1", "", "hf_file", cache, publicEndpoint, true, false},
		"offline, not so": {"HF_HUB_OFFLINE=0", "", "hf_file", cache, publicEndpoint, false, false},
	} {
		env := map[string]string{"HOME": home}
		for _, v := range strings.Split(test.env, "|") {
			k, val, _ := strings.Cut(v, "=")
			env[k] = val
		}
		cfg, warning, err := FromEnv(func(k string) string { return env[k] }, test.flag)
		if err != nil || cfg.Token.secret != test.token || cfg.Cache != test.cache || cfg.Endpoint != test.endpoint || cfg.Offline != test.offline || (warning != "") != test.warns {
			t.Errorf("%s: %q %+v %q %v", name, cfg.Token.secret, cfg, warning, err)
		}
	}
	for _, bad := range []string{"ftp://x", "huggingface.co", "https://user:pass@host", "https://host?x=1", "http://"} {
		_, _, err := FromEnv(func(k string) string { return map[string]string{"HF_ENDPOINT": bad}[k] }, "")
		if fault.KindOf(err) != fault.Usage || strings.Contains(fmt.Sprint(err), "pass@") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestGlobs(t *testing.T) {
	for pattern, want := range map[string]string{
		"*.json":     "a.json b/c.json",
		"b/":         "b/c.json b/d.txt",
		"?.json":     "a.json",
		"[!a]*":      "b/c.json b/d.txt [x].txt é.txt",
		"[ab].json":  "a.json",
		"[x].txt":    "",
		"[[]x].txt":  "[x].txt",
		"é.t?t":      "é.txt",
		"b/d.txt":    "b/d.txt",
		"b.d.txt":    "",
		"[":          "",
		"*[a-d].t*":  "b/d.txt",
		"[]a]*":      "a.json",
		"no\\thing*": "",
	} {
		re, err := globs([]string{pattern})
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		var got []string
		for _, name := range []string{"a.json", "b/c.json", "b/d.txt", "[x].txt", "é.txt"} {
			if matches(re, name) {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q matches %v, want %s", pattern, got, want)
		}
	}
}

// TestGlobsAreSafe: every pattern compiles or is refused, and a name without
// special characters matches itself.
func TestGlobsAreSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.StringN(1, 12, -1).Draw(rt, "pattern")
		re, err := globs([]string{p})
		if err == nil && !strings.ContainsAny(p, "*?[") && !strings.HasSuffix(p, "/") && !matches(re, p) {
			rt.Errorf("%q does not match itself", p)
		}
	})
}

func FuzzListing(f *testing.F) {
	f.Add(`[{"type": "file", "path": "a", "oid": "` + strings.Repeat("a", 40) + `", "size": 3}]`)
	f.Add(`[{"type": "file", "path": "../a", "oid": "x", "size": -3, "lfs": {"oid": "y", "size": 1}}, {"type": "directory"}]`)
	f.Add(`{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "` + strings.Repeat("b", 40) + `", "lfs_size": 5}}}`)
	f.Fuzz(func(t *testing.T, data string) {
		files := parseTree([]byte(data))
		var entries []treeEntry
		if unmarshal(data, &entries) {
			listed, err := listing(Ref{ID: "a/b"}, entries)
			if err == nil {
				files = append(files, listed...)
			}
		}
		for _, f := range files {
			if f.Size < 0 || !filepath.IsLocal(filepath.FromSlash(f.Path)) || !isHex(f.etag(), len(f.etag())) {
				t.Errorf("%+v", f)
			}
		}
	})
}

func FuzzParts(f *testing.F) {
	f.Add(`{"header": {"chunk_size": "10", "00001": "u", "00002": "v"}}`, int64(15))
	f.Add(`{"header": {"chunk_size": 1, "1": "u"}}`, int64(1<<62))
	f.Fuzz(func(t *testing.T, data string, size int64) {
		var a action
		if size < 0 || !unmarshal(data, &a) {
			return
		}
		n, urls, err := parts(&a, size)
		if err == nil && (int64(len(urls)-1)*n >= size && size > 0 || int64(len(urls))*n < size) {
			t.Errorf("%d parts of %d bytes for %d", len(urls), n, size)
		}
	})
}

func unmarshal(data string, v any) bool { return json.Unmarshal([]byte(data), v) == nil }
