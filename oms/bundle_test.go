package oms

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// statementText is a statement with parts of its own.
func statementText(ignore, resources string) string {
	return fmt.Sprintf(`{"_type":%q,"subject":[{"name":"m","digest":{"sha256":%q}}],"predicateType":%q,
		"predicate":{"serialization":{"method":"files","hash_type":"sha256","allow_symlinks":false,"ignore_paths":[%s]},"resources":[%s]}}`,
		statementType, "ROOT", predicateType, ignore, resources)
}

// withRoot puts the right root digest into a statement whose n files all have
// the digest of nothing.
func withRoot(text string, n int) string {
	s := Statement{Resources: make([]Resource, n)}
	for i := range s.Resources {
		s.Resources[i].SHA256 = digestOf(nil)
	}
	return strings.Replace(text, "ROOT", s.root().String(), 1)
}

func entry(name string) string {
	return fmt.Sprintf(`{"name":%q,"algorithm":"sha256","digest":%q}`, name, digestOf(nil).String())
}

// TestHostileStatements: signed nonsense is refused as well.
func TestHostileStatements(t *testing.T) {
	ok := withRoot(statementText(`"x"`, entry("a")), 1)
	if _, err := parseStatement([]byte(ok)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"absolute":         withRoot(statementText("", entry("/etc/passwd")), 1),
		"outside":          withRoot(statementText("", entry("../x")), 1),
		"dots inside":      withRoot(statementText("", entry("a/../../x")), 1),
		"not clean":        withRoot(statementText("", entry("a//x")), 1),
		"empty":            withRoot(statementText("", entry("")), 1),
		"the folder":       withRoot(statementText("", entry(".")+","+entry("a")), 2),
		"null byte":        withRoot(statementText("", `{"name":"a\u0000","algorithm":"sha256","digest":"`+digestOf(nil).String()+`"}`), 1),
		"twice":            withRoot(statementText("", entry("a")+","+entry("a")), 2),
		"ignore all":       withRoot(statementText(`"."`, entry("a")), 1),
		"ignore absolute":  withRoot(statementText(`"/"`, entry("a")), 1),
		"ignore outside":   withRoot(statementText(`".."`, entry("a")), 1),
		"nothing":          withRoot(statementText("", ""), 0),
		"another root":     statementText("", entry("a")),
		"short digest":     withRoot(strings.Replace(statementText("", entry("a")), digestOf(nil).String(), "abcd", 1), 1),
		"two subjects":     strings.Replace(ok, `"subject":[`, `"subject":[{"name":"x"},`, 1),
		"key twice":        strings.Replace(ok, `"predicateType"`, `"predicateType":"x","PredicateType"`, 1),
		"other predicate":  strings.Replace(ok, predicateType, "https://x", 1),
		"old predicate":    strings.Replace(ok, predicateType, predicateOld, 1),
		"other statement":  strings.Replace(ok, statementType, "https://x", 1),
		"blake3":           strings.Replace(ok, `"hash_type":"sha256"`, `"hash_type":"blake3"`, 1),
		"other algorithm":  strings.Replace(ok, `"algorithm":"sha256"`, `"algorithm":"md5"`, 1),
		"other method":     strings.Replace(ok, `"method":"files"`, `"method":"tensors"`, 1),
		"piece of nothing": strings.Replace(strings.Replace(ok, `"method":"files"`, `"method":"shards"`, 1), `"algorithm":"sha256"`, `"algorithm":"sha256-sharded-5"`, 1),
		"deep":             strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"two values":       ok + ok,
		"not UTF-8":        strings.Replace(ok, `"a"`, "\"\xff\"", 1),
	} {
		if _, err := parseStatement([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if k := fault.KindOf(err); k != fault.Mismatch && k != fault.Unsupported {
			t.Errorf("%s: %v (%d)", name, err, k)
		}
	}
}

func TestPieces(t *testing.T) {
	text := func(names ...string) string {
		var list []string
		for _, n := range names {
			list = append(list, strings.Replace(entry(n), `"sha256"`, `"sha256-sharded-5"`, 1))
		}
		return withRoot(strings.Replace(statementText("", strings.Join(list, ",")), `"files"`, `"shards"`, 1), len(names))
	}
	if s, err := parseStatement([]byte(text("a:5:7", "a:0:5", "b:0:1"))); err != nil || s.Files() != 2 || !s.Sharded {
		t.Error(s, err)
	}
	for _, bad := range [][]string{
		{"a:0:5", "a:6:7"}, {"a:0:5", "a:4:7"}, {"a:0:5", "a:0:5"}, {"a:1:5"}, {"a:0:0"}, {"a:5:0"}, {"a:-1:5"}, {"a:0:05"}, {"a:0:+5"},
		{"a"}, {"a:0"}, {"a:0:5:7"}, {".:0:5"}, {"../a:0:5"}, {"a:0:99999999999999999999"},
	} {
		if _, err := parseStatement([]byte(text(bad...))); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
}

func TestBundlesRefused(t *testing.T) {
	raw, err := os.ReadFile(at("signed", "p256.sig"))
	if err != nil {
		t.Fatal(err)
	}
	ok := string(raw)
	for name, text := range map[string]string{
		"another type":    strings.Replace(ok, "v0.3+json", "v0.1+json", 1),
		"no material":     strings.Replace(ok, `"publicKey"`, `"x"`, 1),
		"both":            strings.Replace(ok, `"publicKey"`, `"x509CertificateChain":{"certificates":[{"rawBytes":""}]},"publicKey"`, 1),
		"no certificates": strings.Replace(ok, `"publicKey":{`, `"x509CertificateChain":{"certificates":[]},"x":{`, 1),
		"another payload": strings.Replace(ok, "application/vnd.in-toto+json", "text/plain", 1),
		"no signature":    strings.Replace(ok, `"signatures":[{`, `"signatures":[],"x":[{`, 1),
		"two signatures":  strings.Replace(ok, `"signatures":[{`, `"signatures":[{},{`, 1),
		"not base64":      strings.Replace(ok, `"payload":"`, `"payload":"!`, 1),
		"key twice":       strings.Replace(ok, `"payload":"`, `"payload":"","payload":"`, 1),
		"folded key":      strings.Replace(ok, `"signatures"`, `"\u017fignatures":[],"signatures"`, 1), // a long s
		"other spelling":  strings.Replace(ok, `"dsseEnvelope"`, `"dsse_envelope":{},"dsseEnvelope"`, 1),
		"empty":           "",
		"null":            "null",
		"not JSON":        "model.sig",
	} {
		if text == ok {
			t.Fatal(name, "changes nothing")
		}
		if _, err := ParseBundle([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseBundle(make([]byte, MaxSize+1)); err == nil {
		t.Error("a bundle of any size is read")
	}
	// What the format may add is passed over; an old hint-less key is, too.
	for _, text := range []string{strings.Replace(ok, `{"mediaType"`, `{"new":[{}],"mediaType"`, 1), strings.Replace(ok, `"hint"`, `"rawBytes"`, 1)} {
		b, err := ParseBundle([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Verify(Trust{Key: public(t, "p256")}); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	files, err := filepath.Glob(at("signed", "*.sig"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBundle(data)
		if err != nil {
			return
		}
		b.Mentions("config.json")
		// What is written again is read as the same.
		out, err := b.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseBundle(out)
		if err != nil || string(again.payload) != string(b.payload) || string(again.sig) != string(b.sig) || len(again.chain) != len(b.chain) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

func FuzzParseStatement(f *testing.F) {
	for _, name := range []string{"p256", "file", "ignoring", "shards"} {
		f.Add(bundle(f, name).payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseStatement(data)
		if err != nil {
			return
		}
		for _, r := range s.Resources {
			if r.Path != wholeFile && !filepath.IsLocal(filepath.FromSlash(r.Path)) {
				t.Fatalf("%q leaves the model", r.Path)
			}
		}
		if s.Sharded {
			return
		}
		out, err := s.payload()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseStatement(out); err != nil || again.root() != s.root() || len(again.Ignore) != len(s.Ignore) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

func FuzzReadKey(f *testing.F) {
	files, _ := filepath.Glob(at("keys", "*.pem"))
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		// Without a passphrase, so that no derivation runs.
		_, _ = parsePrivate(data, nil)
		_, _ = parsePublic(data)
	})
}

func TestEncoding(t *testing.T) {
	// The text that is signed, from the specification of DSSE.
	if got := string(signedBytes([]byte("hello world"))); got != "DSSEv1 28 application/vnd.in-toto+json 11 hello world" {
		t.Error(got)
	}
	if _, err := base64.StdEncoding.DecodeString(string(bundle(t, "p256").payload)); err == nil {
		t.Error("the payload is still encoded")
	}
}
