package oms

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Trust is whom a verifier believes: one public key, or everybody with a
// certificate below the roots.
type Trust struct {
	Key   *ecdsa.PublicKey
	Roots []*x509.Certificate
	// At is when certificates must be valid; zero: now. A signature does not
	// tell when it was made.
	At time.Time
}

// Identity is who signed.
type Identity struct {
	KeyID       string `json:"key_id"`                // SHA-256 of the public key's PEM form
	Subject     string `json:"subject,omitempty"`     // of the certificate
	Certificate string `json:"certificate,omitempty"` // SHA-256 of it
}

func (i Identity) String() string {
	if i.Subject != "" {
		return fmt.Sprintf("%s (certificate %.16s…)", i.Subject, i.Certificate)
	}
	return fmt.Sprintf("key %.16s…", i.KeyID)
}

// Verified is what a signature says, once it has been verified.
type Verified struct {
	*Statement
	Signer Identity
	Notes  []string // what was not checked
}

// Verify checks the signature itself. What it says of a model is then for
// Statement.Check to compare with the files.
func (b *Bundle) Verify(t Trust) (*Verified, error) {
	v := &Verified{}
	key := t.Key
	switch {
	case (key == nil) == (len(t.Roots) == 0):
		return nil, fault.New(fault.Usage, "whom to trust: one public key, or roots of certificates")
	case key != nil && b.chain != nil:
		v.Notes = append(v.Notes, "the signature's certificates were not looked at: a public key was given")
	case key == nil && b.chain == nil:
		return nil, fault.New(fault.Mismatch, "the signature carries no certificate; it was made with the bare key %.16s…", b.hint).
			WithHint("if you know that key, give it with --public-key")
	case key == nil:
		at := t.At
		if at.IsZero() {
			at = time.Now()
		}
		leaf, err := chainTo(t.Roots, b.chain, at)
		if err != nil {
			return nil, err
		}
		if key, err = publicKey(leaf); err != nil {
			return nil, err
		}
		v.Signer.Subject, v.Signer.Certificate = nameOf(leaf), fingerprint(leaf)
	}
	v.Signer.KeyID = KeyID(key)
	if err := b.verifySignature(key); err != nil {
		return nil, err
	}
	if b.logged > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("transparency log: %d entries, which were not checked", b.logged))
	}
	var err error
	v.Statement, err = parseStatement(b.payload)
	return v, err
}

// verifySignature demands that a key signed the payload.
func (b *Bundle) verifySignature(key *ecdsa.PublicKey) error {
	if b.hint != "" && b.hint != KeyID(key) {
		return fault.New(fault.Mismatch, "the signature is of another key: %.16s…, not %.16s…", b.hint, KeyID(key)).
			WithHint("is it the right signer's public key?")
	}
	h := hashOf(key).New()
	h.Write(signedBytes(b.payload))
	if !ecdsa.VerifyASN1(key, h.Sum(nil), b.sig) {
		return fault.New(fault.Mismatch, "the signature does not fit: its text was changed, or another key signed it").
			WithHint("fetch the signature again; is it the right signer's public key?")
	}
	return nil
}

func digestOf(data []byte) Digest { return sha256.Sum256(data) }
