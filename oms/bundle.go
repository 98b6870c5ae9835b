package oms

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Bundle is a signature file whose signature nobody has verified yet.
type Bundle struct {
	hint    string   // of the key: SHA-256 of its PEM, in hexadecimal; "": none
	chain   [][]byte // DER, the signing certificate first; nil: signed with a bare key
	logged  int      // entries of transparency logs, which are not looked at
	payload []byte
	sig     []byte // ASN.1
}

type bundleJSON struct {
	MediaType string       `json:"mediaType"`
	Material  materialJSON `json:"verificationMaterial"`
	Envelope  envelopeJSON `json:"dsseEnvelope"`
}

type materialJSON struct {
	PublicKey *publicKeyJSON    `json:"publicKey,omitempty"`
	Chain     *chainJSON        `json:"x509CertificateChain,omitempty"`
	Keyless   *certificateJSON  `json:"certificate,omitempty"`
	Logged    []json.RawMessage `json:"tlogEntries"`
}

type publicKeyJSON struct {
	Hint string `json:"hint"`
}

type chainJSON struct {
	Certificates []certificateJSON `json:"certificates"`
}

type certificateJSON struct {
	RawBytes []byte `json:"rawBytes"`
}

type envelopeJSON struct {
	Payload     []byte          `json:"payload"`
	PayloadType string          `json:"payloadType"`
	Signatures  []signatureJSON `json:"signatures"`
}

type signatureJSON struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid"`
}

// ReadBundle reads a signature file. That there is none gives an error that is
// fs.ErrNotExist, too.
func ReadBundle(path string) (*Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the signature")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the signature")
	}
	b, err := ParseBundle(data)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", path)
	}
	return b, nil
}

// maxChain bounds the certificates of a bundle.
const maxChain = 16

// ParseBundle reads a signature.
func ParseBundle(data []byte) (*Bundle, error) {
	if len(data) > MaxSize {
		return nil, fault.New(fault.Mismatch, "the signature has more than %d bytes", MaxSize)
	}
	var j bundleJSON
	if err := decode(data, "the signature", &j); err != nil {
		return nil, err
	}
	if err := j.known(); err != nil {
		return nil, err
	}
	b := &Bundle{payload: j.Envelope.Payload, sig: j.Envelope.Signatures[0].Sig, logged: len(j.Material.Logged)}
	if j.Material.PublicKey != nil {
		b.hint = j.Material.PublicKey.Hint
	}
	if j.Material.Chain != nil {
		for _, c := range j.Material.Chain.Certificates {
			b.chain = append(b.chain, c.RawBytes)
		}
	}
	return b, nil
}

// known refuses bundles of other kinds.
func (j *bundleJSON) known() error {
	m := &j.Material
	switch {
	case j.MediaType != bundleType:
		return fault.New(fault.Unsupported, "the signature is of type %q, not %s", j.MediaType, bundleType)
	case m.Keyless != nil:
		return fault.New(fault.Unsupported, "the signature is a keyless one, made with Sigstore: its short-lived certificate, the identity in it, the transparency log and the time stamp can be checked only against Sigstore's trust root, and none of them was").
			WithHint("verify it with: python -m model_signing verify sigstore")
	case m.PublicKey == nil && m.Chain == nil:
		return fault.New(fault.Mismatch, "the signature names neither a key nor a certificate")
	case m.PublicKey != nil && m.Chain != nil:
		return fault.New(fault.Mismatch, "the signature names both a key and a certificate")
	case m.Chain != nil && (len(m.Chain.Certificates) == 0 || len(m.Chain.Certificates) > maxChain):
		return fault.New(fault.Mismatch, "the signature has %d certificates; 1 to %d are read", len(m.Chain.Certificates), maxChain)
	case j.Envelope.PayloadType != payloadType:
		return fault.New(fault.Unsupported, "the signature is over %q, not %s", j.Envelope.PayloadType, payloadType)
	case len(j.Envelope.Signatures) != 1:
		return fault.New(fault.Mismatch, "the file holds %d signatures, not one", len(j.Envelope.Signatures))
	}
	return nil
}

// Mentions reports whether a signature, whoever made it, says anything of a
// file. It is for warnings only: nothing has been verified.
func (b *Bundle) Mentions(path string) bool {
	s, err := parseStatement(b.payload)
	return err == nil && s.Lists(path)
}

// marshal writes a bundle.
func (b *Bundle) marshal() ([]byte, error) {
	j := bundleJSON{
		MediaType: bundleType, Material: materialJSON{Logged: []json.RawMessage{}},
		Envelope: envelopeJSON{b.payload, payloadType, []signatureJSON{{Sig: b.sig}}},
	}
	if b.chain == nil {
		j.Material.PublicKey = &publicKeyJSON{b.hint}
	} else {
		j.Material.Chain = &chainJSON{}
		for _, c := range b.chain {
			j.Material.Chain.Certificates = append(j.Material.Chain.Certificates, certificateJSON{c})
		}
	}
	data, err := json.Marshal(j)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "writing the signature")
	}
	if len(data) >= MaxSize {
		return nil, fault.New(fault.Unsupported, "the signature would have %d bytes; %d are read", len(data), MaxSize)
	}
	return append(data, '\n'), nil
}

// signedBytes is what a DSSE signature is over.
func signedBytes(payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}
