package oms

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// The fixtures are what interop/signing_fixtures.py lets the reference write.
const testPassphrase = "correct horse"

func at(parts ...string) string { return filepath.Join(append([]string{"testdata"}, parts...)...) }

func signer(t testing.TB, name string) *Signer {
	t.Helper()
	s, _, err := ReadKey(at("keys", name+".pem"), func() (string, error) { return testPassphrase, nil })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func public(t testing.TB, name string) *ecdsa.PublicKey {
	t.Helper()
	k, err := ReadPublicKey(at("keys", name+".pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certificates(t testing.TB, names ...string) []*x509.Certificate {
	t.Helper()
	var paths []string
	for _, n := range names {
		paths = append(paths, at("certificates", n+".pem"))
	}
	list, err := ReadCertificates(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func bundle(t testing.TB, name string) *Bundle {
	t.Helper()
	b, err := ReadBundle(at("signed", name+".sig"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// copyModel returns a copy of the fixture's model that a test may change.
func copyModel(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(at("model"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func check(t testing.TB, s *Statement, model string, o CheckOptions) *Report {
	t.Helper()
	r, err := s.Check(context.Background(), model, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantFault demands an error of a kind.
func wantFault(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%v (kind %d), want kind %d", err, fault.KindOf(err), kind)
	}
}
