package neuroseal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
	"github.com/neuroseal/neuroseal/seal"
)

func testSigner(t *testing.T) (*oms.Signer, oms.Trust) {
	t.Helper()
	s, _, err := oms.ReadKey("oms/testdata/keys/p256.pem", nil)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := oms.ReadPublicKey("oms/testdata/keys/p256.pub.pem")
	if err != nil {
		t.Fatal(err)
	}
	return s, oms.Trust{Key: pub}
}

// TestLockSigns: what Lock signs is what is on the disk, with every method, and
// the folder is there with its signature or not at all.
func TestLockSigns(t *testing.T) {
	signer, trust := testSigner(t)
	for _, method := range []seal.Method{seal.Gauge, seal.Dynamic, seal.Static} {
		out := filepath.Join(t.TempDir(), "sealed")
		res, err := Lock(t.Context(), LockOptions{Source: "arch/testdata/qwen2", Output: out, Method: method, Key: keys.SealKey{1}, Signer: signer})
		if err != nil {
			t.Fatal(err)
		}
		if res.Signature != filepath.Join(out, oms.Name) {
			t.Errorf("%s: %q", method, res.Signature)
		}
		b, err := oms.ReadBundle(res.Signature)
		if err != nil {
			t.Fatal(err)
		}
		v, err := b.Verify(trust)
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.Check(t.Context(), out, oms.CheckOptions{Signature: res.Signature})
		if err != nil || len(r.Problems) > 0 || !v.Lists(manifest.Name) || v.Model != "sealed" {
			t.Errorf("%s: %+v, %v", method, r, err)
		}
		// Another signer would have signed the same list.
		again, err := oms.Hash(t.Context(), out, oms.HashOptions{Ignore: signatures})
		if err != nil {
			t.Fatal(err)
		}
		data, err := signer.Sign(again)
		if err != nil {
			t.Fatal(err)
		}
		if was, err := os.ReadFile(res.Signature); err != nil || string(was) != string(data) {
			t.Errorf("%s: signed by itself, it is another signature (%v)", method, err)
		}
		ver, err := Verify(t.Context(), VerifyOptions{Sealed: out})
		if err != nil || !ver.OK || strings.Contains(strings.Join(ver.Notes, " "), oms.Name) {
			t.Errorf("%s: %+v, %v", method, ver, err)
		}
	}
}

// TestVerifyHashed: digests that somebody else took are compared all the same,
// and their files are not read for it.
func TestVerifyHashed(t *testing.T) {
	out := filepath.Join(t.TempDir(), "sealed")
	res, err := Lock(t.Context(), LockOptions{Source: "arch/testdata/qwen2", Output: out, Key: keys.SealKey{1}})
	if err != nil {
		t.Fatal(err)
	}
	right := map[string]string{}
	for _, f := range res.Manifest.Files {
		right[f.Path] = f.SHA256
	}
	for _, c := range []struct {
		hashed map[string]string
		bad    int
	}{
		{nil, 0}, {right, 0}, {map[string]string{"config.json": strings.Repeat("0", 64)}, 1}, {map[string]string{"unknown": "x"}, 0},
	} {
		v, err := Verify(t.Context(), VerifyOptions{Sealed: out, Hashed: c.hashed})
		if err != nil || len(v.Mismatches) != c.bad {
			t.Errorf("%v: %+v, %v", c.hashed, v, err)
		}
	}
	// Read by nobody: changed since, and still believed.
	if err := os.WriteFile(filepath.Join(out, "reference.json"), []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	if right["reference.json"] == "" {
		t.Fatal("the fixture has no such file")
	}
	v, err := Verify(t.Context(), VerifyOptions{Sealed: out, Hashed: right})
	if err != nil || !v.OK {
		t.Errorf("%+v, %v", v, err)
	}
}
