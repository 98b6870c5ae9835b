package oms

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// signed hashes and signs a model, and returns what a verifier reads of it.
func signed(t testing.TB, s *Signer, model string, trust Trust) *Verified {
	t.Helper()
	st, err := Hash(t.Context(), model, HashOptions{Ignore: []string{Name}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.Verify(trust)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSignEveryKey(t *testing.T) {
	for _, name := range []string{"p256", "p384", "p521", "p256-sec1", "p256-params", "p256-encrypted", "p256-scrypt", "p256-sha1", "p256-sha512"} {
		s := signer(t, name)
		v := signed(t, s, at("model"), Trust{Key: public(t, strings.Split(name, "-")[0])})
		if r := check(t, v.Statement, at("model"), CheckOptions{}); len(r.Problems) > 0 || r.Files != 6 {
			t.Errorf("%s: %+v", name, r)
		}
		if v.Signer != s.Identity() {
			t.Errorf("%s: %+v, want %+v", name, v.Signer, s.Identity())
		}
	}
}

func TestSignWithCertificate(t *testing.T) {
	s := signer(t, "p256")
	if err := s.Certify(certificates(t, "leaf")[0], certificates(t, "intermediate"), time.Now()); err != nil {
		t.Fatal(err)
	}
	v := signed(t, s, at("model"), Trust{Roots: certificates(t, "root")})
	if v.Signer.Subject != "CN=Publisher" || v.Signer != s.Identity() {
		t.Errorf("%+v", v.Signer)
	}
	for name, text := range map[string]string{
		"leaf-p384": "another key", "expired": "valid from 2010-01-01", "future": "valid from 2090", "server": "code signing", "useless": "digital signature",
	} {
		err := signer(t, "p256").Certify(certificates(t, name)[0], nil, time.Now())
		wantFault(t, err, fault.Usage)
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBadCertificates: chains that a careless signer would make are refused by
// the verifier, too.
func TestBadCertificates(t *testing.T) {
	for name, text := range map[string]string{
		"server": "code signing", "useless": "must not sign", "future": "not valid on", "expired": "not valid on", "leaf-p384": "does not fit",
	} {
		s := signer(t, "p256")
		s.chain = append(certificates(t, name), certificates(t, "intermediate")...)
		st, err := Hash(t.Context(), at("model"), HashOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := s.Sign(st)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Verify(Trust{Roots: certificates(t, "root")})
		wantFault(t, err, fault.Mismatch)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The intermediate certificate is needed, and must be the right one.
	s := signer(t, "p256")
	s.chain = certificates(t, "leaf")
	b := &Bundle{payload: []byte("{}"), chain: [][]byte{s.chain[0].Raw}}
	if _, err := b.Verify(Trust{Roots: certificates(t, "root")}); err == nil || !strings.Contains(err.Error(), "leads to none") {
		t.Error(err)
	}
}

// TestIssuersUsages: an issuer that is confined to servers gives nobody the
// right to sign models.
func TestIssuersUsages(t *testing.T) {
	for name, c := range map[string]struct {
		usages []x509.ExtKeyUsage
		text   string
	}{
		"any":     {nil, ""},
		"signing": {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageCodeSigning}, ""},
		"servers": {[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, "usages of its issuers do not include code signing"},
	} {
		s := signer(t, "p256")
		issue := func(cert, by *x509.Certificate) *x509.Certificate {
			cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
			cert.BasicConstraintsValid = cert.IsCA
			if by == nil {
				by = cert
			}
			der, err := x509.CreateCertificate(rand.Reader, cert, by, &s.key.PublicKey, s.key)
			if err != nil {
				t.Fatal(err)
			}
			made, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return made
		}
		template := func(n int64, subject string) *x509.Certificate {
			return &x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: subject}, IsCA: n < 3, KeyUsage: x509.KeyUsageCertSign}
		}
		root := issue(template(1, "root"), nil)
		between := template(2, "between")
		between.ExtKeyUsage = c.usages
		between = issue(between, root)
		leaf := template(3, "leaf\nok")
		leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		leaf = issue(leaf, between)
		got, err := chainTo([]*x509.Certificate{root}, [][]byte{leaf.Raw, between.Raw}, time.Now())
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && nameOf(got) != `"CN=leaf\nok"` {
			t.Errorf("%s: %s", name, nameOf(got))
		}
	}
}

func TestKeysRefused(t *testing.T) {
	for name, c := range map[string]struct {
		kind fault.Kind
		text string
	}{
		"ed25519": {fault.Unsupported, "ed25519"}, "rsa": {fault.Unsupported, "rsa"}, "p224": {fault.Unsupported, "P-224"},
		"k256": {fault.Mismatch, "curve"}, "p256-old": {fault.Unsupported, "old way"}, "p256-3des": {fault.Unsupported, "cipher"},
		"p256.pub": {fault.Usage, "PUBLIC KEY"},
	} {
		_, _, err := ReadKey(at("keys", name+".pem"), func() (string, error) { return testPassphrase, nil })
		wantFault(t, err, c.kind)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"p256-encrypted", "p256-scrypt", "p256-sha1"} {
		_, _, err := ReadKey(at("keys", name+".pem"), func() (string, error) { return "wrong", nil })
		wantFault(t, err, fault.WrongKey)
		_, _, err = ReadKey(at("keys", name+".pem"), nil)
		wantFault(t, err, fault.Usage)
	}
	for name, kind := range map[string]fault.Kind{"ed25519.pub": fault.Unsupported, "rsa.pub": fault.Unsupported, "p256": fault.Usage} {
		_, err := ReadPublicKey(at("keys", name+".pem"))
		wantFault(t, err, kind)
	}
	_, err := ReadPublicKey(at("certificates", "leaf.pem"))
	wantFault(t, err, fault.Usage)
	_, err = ReadCertificates(at("keys", "p256.pem"))
	wantFault(t, err, fault.Usage)
}

func TestReproducible(t *testing.T) {
	st, err := Hash(t.Context(), at("model"), HashOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := signer(t, "p384").Sign(st)
	b, err2 := signer(t, "p384").Sign(st)
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Error("the same statement was signed differently", err1, err2)
	}
}

// TestChangedBundle: no byte of a signature file can be changed so that another
// statement is believed.
func TestChangedBundle(t *testing.T) {
	for name, trust := range map[string]Trust{"p256": {Key: public(t, "p256")}, "certificate": {Roots: certificates(t, "root")}} {
		raw, err := os.ReadFile(at("signed", name+".sig"))
		if err != nil {
			t.Fatal(err)
		}
		good, err := bundle(t, name).Verify(trust)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			bad := bytes.Clone(raw)
			i := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
			bad[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			b, err := ParseBundle(bad)
			if err != nil {
				return
			}
			if v, err := b.Verify(trust); err == nil && (v.root() != good.root() || len(v.Resources) != len(good.Resources)) {
				t.Fatalf("believed with byte %d changed", i)
			}
		})
	}
}

// TestSwappedPayload: a payload that contradicts nothing but its signature.
func TestSwappedPayload(t *testing.T) {
	raw, err := os.ReadFile(at("signed", "p256.sig"))
	if err != nil {
		t.Fatal(err)
	}
	b := bundle(t, "p256")
	enc := base64.StdEncoding.EncodeToString
	for name, change := range map[string]func(string) string{
		"a file's name": func(s string) string { return strings.Replace(s, "weights.bin", "weightz.bin", 1) },
		"another method": func(s string) string {
			return strings.Replace(s, `"allow_symlinks": false`, `"allow_symlinks": true`, 1)
		},
		"more is ignored": func(s string) string { return strings.Replace(s, `".github"`, `"weights.bin"`, 1) },
	} {
		next := change(string(b.payload))
		if next == string(b.payload) {
			t.Fatal(name, "changes nothing")
		}
		bad, err := ParseBundle(bytes.Replace(raw, []byte(enc(b.payload)), []byte(enc([]byte(next))), 1))
		if err != nil {
			t.Fatal(err)
		}
		_, err = bad.Verify(Trust{Key: public(t, "p256")})
		wantFault(t, err, fault.Mismatch)
	}
}

func TestResign(t *testing.T) {
	model := copyModel(t)
	before, after := `{"model_type": "none"}`+"\n", `{"model_type": "some"}`+"\n"
	s, trust := signer(t, "p256"), Trust{Key: public(t, "p256")}
	put(t, filepath.Join(model, "config.json"), after)
	for _, name := range []string{"p256", "ignoring", "certificate"} {
		data, err := s.Resign(bundle(t, name), "config.json", []byte(before), []byte(after))
		if err != nil {
			t.Fatal(name, err)
		}
		b, err := ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		if name == "certificate" {
			trust = Trust{Roots: certificates(t, "root")}
		}
		v, err := b.Verify(trust)
		if err != nil {
			t.Fatal(name, err)
		}
		if r := check(t, v.Statement, model, CheckOptions{}); len(r.Problems) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if _, err := s.Resign(bundle(t, "file"), "config.json", []byte(before), []byte(after)); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]func() ([]byte, error){
		"another key": func() ([]byte, error) {
			return signer(t, "other").Resign(bundle(t, "p256"), "config.json", []byte(before), nil)
		},
		"changed before":   func() ([]byte, error) { return s.Resign(bundle(t, "p256"), "config.json", []byte(after), nil) },
		"not in there":     func() ([]byte, error) { return s.Resign(bundle(t, "p256"), "other.json", []byte(before), nil) },
		"pieces":           func() ([]byte, error) { return s.Resign(bundle(t, "shards"), "config.json", []byte(before), nil) },
		"other key's bare": func() ([]byte, error) { return s.Resign(bundle(t, "p384"), "config.json", []byte(before), nil) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: signed anew", name)
		}
	}
}
