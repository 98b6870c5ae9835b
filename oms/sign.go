package oms

import (
	"crypto/ecdsa"
	"crypto/x509"
	"slices"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Signer signs models with one key.
type Signer struct {
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate // the key's own first; nil: a bare key
}

// Certify makes the signer add certificates to its signatures: its own, and
// those that lead from it to a root. One that is not this key's, not valid at
// that time, or not for signing is refused.
func (s *Signer) Certify(own *x509.Certificate, others []*x509.Certificate, at time.Time) error {
	switch k, err := publicKey(own); {
	case err != nil:
		return err
	case !k.Equal(&s.key.PublicKey):
		return fault.New(fault.Usage, "the certificate of %s is of another key than the signing key", nameOf(own)).
			WithHint("give the certificate that was issued for this key")
	}
	if len(others) >= maxChain {
		return fault.New(fault.Usage, "%d certificates; a signature takes %d", len(others)+1, maxChain)
	}
	if err := signs(own); err != nil {
		return fault.Wrap(fault.Usage, err, "the certificate of %s cannot sign models", nameOf(own))
	}
	if at.Before(own.NotBefore) || at.After(own.NotAfter) {
		return fault.New(fault.Usage, "the certificate of %s is valid from %s to %s only", nameOf(own), own.NotBefore.UTC().Format(time.DateOnly), own.NotAfter.UTC().Format(time.DateOnly)).
			WithHint("have it renewed")
	}
	s.chain = append([]*x509.Certificate{own}, others...)
	return nil
}

// Identity says who the signer is.
func (s *Signer) Identity() Identity {
	id := Identity{KeyID: KeyID(&s.key.PublicKey)}
	if len(s.chain) > 0 {
		id.Subject, id.Certificate = nameOf(s.chain[0]), fingerprint(s.chain[0])
	}
	return id
}

// Sign returns the signature file of a statement. The same key and statement
// give the same bytes: the signature is the deterministic one of RFC 6979.
func (s *Signer) Sign(st *Statement) ([]byte, error) {
	if st.Sharded {
		return nil, fault.New(fault.Unsupported, "signatures of pieces of files are only read")
	}
	payload, err := st.payload()
	if err != nil {
		return nil, err
	}
	b := &Bundle{payload: payload}
	if s.chain == nil {
		b.hint = KeyID(&s.key.PublicKey)
	}
	for _, c := range s.chain {
		b.chain = append(b.chain, c.Raw)
	}
	return s.seal(b)
}

// seal signs the payload of a bundle.
func (s *Signer) seal(b *Bundle) ([]byte, error) {
	hash := hashOf(&s.key.PublicKey)
	h := hash.New()
	h.Write(signedBytes(b.payload))
	var err error
	if b.sig, err = s.key.Sign(nil, h.Sum(nil), hash); err != nil {
		return nil, fault.Wrap(fault.General, err, "signing")
	}
	return b.marshal()
}

// Resign returns the signature anew, with one file changed from before to
// after, and everything else as it was signed. The old signature must be of the
// same key and must fit before: nothing else needs to be read, because what it
// says of the other files was signed by this key already.
func (s *Signer) Resign(b *Bundle, path string, before, after []byte) ([]byte, error) {
	if err := b.verifySignature(&s.key.PublicKey); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "the old signature is not of this key").
			WithHint("give the key that made it; or change the keyslots without --sign, and sign the model anew")
	}
	st, err := parseStatement(b.payload)
	if err != nil {
		return nil, err
	}
	if st.single() {
		path = wholeFile
	}
	i := slices.IndexFunc(st.Resources, func(r Resource) bool { return r.Path == path })
	switch {
	case i < 0:
		return nil, fault.New(fault.Usage, "the old signature says nothing of %s", path).WithHint("sign the model anew: neuroseal sign")
	case st.Sharded:
		return nil, fault.New(fault.Unsupported, "the old signature is of pieces of files").WithHint("sign the model anew: neuroseal sign")
	case st.Resources[i].SHA256 != digestOf(before):
		return nil, fault.New(fault.Mismatch, "%s is not what the old signature is of", path).
			WithHint("find out who changed it, and sign the model anew: neuroseal sign")
	}
	st.Resources[i].SHA256 = digestOf(after)
	if s.chain != nil || b.chain == nil {
		return s.Sign(st)
	}
	// The certificates stay, if they are this key's.
	own, err := x509.ParseCertificate(b.chain[0])
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "the old signature's certificate")
	}
	if k, err := publicKey(own); err != nil || !k.Equal(&s.key.PublicKey) {
		return nil, fault.New(fault.Mismatch, "the old signature's certificate is of another key").WithHint("sign the model anew: neuroseal sign")
	}
	next := Bundle{chain: b.chain}
	if next.payload, err = st.payload(); err != nil {
		return nil, err
	}
	return s.seal(&next)
}
