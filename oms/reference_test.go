package oms

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestReference: what the reference signed fits, with every curve, by files and
// by pieces, with certificates, and of a model that is one file.
func TestReference(t *testing.T) {
	root := certificates(t, "root")
	year2010 := time.Date(2010, 7, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		trust   Trust
		model   string
		files   int
		subject string
		ignored string
	}{
		"p256":             {trust: Trust{Key: public(t, "p256")}, files: 6},
		"p384":             {trust: Trust{Key: public(t, "p384")}, files: 6},
		"p521":             {trust: Trust{Key: public(t, "p521")}, files: 6},
		"shards":           {trust: Trust{Key: public(t, "p256")}, files: 5, ignored: "empty.txt"},
		"ignoring":         {trust: Trust{Key: public(t, "p256")}, files: 5, ignored: "a"},
		"file":             {trust: Trust{Key: public(t, "p256")}, model: "config.json", files: 1},
		"certificate":      {trust: Trust{Roots: root}, files: 6, subject: "CN=Publisher"},
		"certificate-p384": {trust: Trust{Roots: root}, files: 6, subject: "CN=Publisher 384"},
		"expired":          {trust: Trust{Roots: root, At: year2010}, files: 6, subject: "CN=Publisher of 2010"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := bundle(t, name).Verify(c.trust)
			if err != nil {
				t.Fatal(err)
			}
			r := check(t, v.Statement, filepath.Join(at("model"), c.model), CheckOptions{})
			if len(r.Problems) > 0 || r.Files != c.files || strings.Join(r.Ignored, " ") != c.ignored || r.Partial {
				t.Errorf("%+v", r)
			}
			if v.Signer.Subject != c.subject || len(v.Signer.KeyID) != 64 {
				t.Errorf("%+v", v.Signer)
			}
		})
	}
}

// TestSameStatement: of the same model, our statement is the reference's.
func TestSameStatement(t *testing.T) {
	v, err := bundle(t, "p256").Verify(Trust{Key: public(t, "p256")})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Hash(t.Context(), at("model"), HashOptions{Ignore: []string{"model.sig"}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ours.Resources, v.Resources) || ours.root() != v.root() || ours.Model != v.Model {
		t.Errorf("ours\n%+v\ntheirs\n%+v", ours, v.Statement)
	}
	for _, p := range v.Ignore {
		if !slices.Contains(ours.Ignore, p) {
			t.Errorf("%s is not ignored", p)
		}
	}
}

// TestDistrust: signatures that are sound in themselves, and not to be believed.
func TestDistrust(t *testing.T) {
	root, other := certificates(t, "root"), certificates(t, "other-root")
	for name, c := range map[string]struct {
		bundle string
		trust  Trust
		kind   fault.Kind
		text   string
	}{
		"another key":          {"p256", Trust{Key: public(t, "other")}, fault.Mismatch, "of another key"},
		"another curve":        {"p256", Trust{Key: public(t, "p521")}, fault.Mismatch, "of another key"},
		"expired":              {"expired", Trust{Roots: root}, fault.Mismatch, "only from 2010-01-01 to 2011-01-01"},
		"not yet":              {"certificate", Trust{Roots: root, At: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}, fault.Mismatch, "not valid on 1999-01-01"},
		"another root":         {"certificate", Trust{Roots: other}, fault.Mismatch, "leads to none of the roots"},
		"key, not certificate": {"p256", Trust{Roots: root}, fault.Mismatch, "carries no certificate"},
		"wrong key of a chain": {"certificate", Trust{Key: public(t, "other")}, fault.Mismatch, "does not fit"},
		"nobody":               {"p256", Trust{}, fault.Usage, "whom to trust"},
		"both":                 {"p256", Trust{Key: public(t, "p256"), Roots: root}, fault.Usage, "whom to trust"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bundle(t, c.bundle).Verify(c.trust)
			wantFault(t, err, c.kind)
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v does not say %q", err, c.text)
			}
		})
	}
	_, err := ReadBundle(at("signed", "keyless.sig"))
	wantFault(t, err, fault.Unsupported)
	if !strings.Contains(err.Error(), "transparency log") {
		t.Error(err)
	}
}
