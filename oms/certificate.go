package oms

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// ReadCertificates reads all certificates of PEM files.
func ReadCertificates(paths ...string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, path := range paths {
		data, err := readPEM(path, "a certificate")
		if err != nil {
			return nil, err
		}
		n := len(all)
		for {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fault.Wrap(fault.Usage, err, "%s: certificate %d", path, len(all)-n+1)
			}
			all = append(all, c)
		}
		if len(all) == n {
			return nil, fault.New(fault.Usage, "%s holds no certificate in PEM form", path)
		}
	}
	return all, nil
}

// signs refuses certificates that are not for signing. As the reference does,
// it takes the usage digital signature or the extended usage code signing; but
// one that lists extended usages must list code signing, so that a server's
// certificate from the same issuer signs no models.
func signs(c *x509.Certificate) error {
	if len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) > 0 {
		if slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return nil
		}
		return errors.New("its extended usages do not include code signing")
	}
	if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("neither the usage digital signature nor code signing is among its usages")
	}
	return nil
}

// publicKey is the key of a certificate that signs models.
func publicKey(c *x509.Certificate) (*ecdsa.PublicKey, error) {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, unsupportedKey(c.PublicKey)
	}
	return k, checkCurve(k)
}

// chainTo demands that the certificates of a bundle, the signing one first,
// lead to one of the roots at that time, and that the first one may sign.
func chainTo(roots []*x509.Certificate, chain [][]byte, at time.Time) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault.Wrap(fault.Mismatch, err, "certificate %d of the signature", i+1)
		}
		if i == 0 {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	// The usage holds along the chain: an issuer that is confined to servers
	// cannot give anybody the right to sign models.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
		err = errors.New("extended usages of its issuers do not include code signing")
	} else if err != nil {
		return nil, chainFault(leaf, err, at)
	}
	if own := signs(leaf); own != nil {
		err = own
	}
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "the certificate of %s must not sign models", nameOf(leaf))
	}
	return leaf, nil
}

// chainFault explains why certificates are not accepted.
func chainFault(leaf *x509.Certificate, err error, at time.Time) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		c := invalid.Cert
		if c == nil {
			c = leaf
		}
		const day = "2006-01-02"
		return fault.New(fault.Mismatch, "the certificate of %s is not valid on %s, only from %s to %s", nameOf(c), at.UTC().Format(day), c.NotBefore.UTC().Format(day), c.NotAfter.UTC().Format(day)).
			WithHint("no signature tells when it was made; if you know, --at DATE judges certificates as of that day")
	}
	return fault.Wrap(fault.Mismatch, err, "the certificate of %s leads to none of the roots", nameOf(leaf)).
		WithHint("is it the right signer? give the root that issued it with --cert-roots")
}

// nameOf names a certificate's owner, with its fingerprint where it has no name.
func nameOf(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return Shown(s)
	}
	for _, list := range [][]string{c.EmailAddresses, c.DNSNames} {
		if len(list) > 0 {
			return Shown(list[0])
		}
	}
	if len(c.URIs) > 0 {
		return c.URIs[0].String()
	}
	return fmt.Sprintf("SHA-256 %.16s…", fingerprint(c))
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
