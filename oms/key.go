package oms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// maxPEM bounds files of keys and certificates, in bytes.
const maxPEM = 4 << 20

// newKeyHint tells how to make a key that signs.
const newKeyHint = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem, and its public key with: openssl pkey -in key.pem -pubout -out pub.pem"

func readPEM(path, what string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading %s", what)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading %s", what)
	}
	if len(data) > maxPEM {
		return nil, fault.New(fault.Usage, "%s is larger than %d bytes, which no %s is", path, maxPEM, what)
	}
	return data, nil
}

// ReadKey reads the private key of a PEM file: an elliptic-curve key, P-256,
// P-384 or P-521, in PKCS #8 or SEC 1. pass is asked for the passphrase of an
// encrypted one, PKCS #8 with AES; it may be nil. The warning, if not empty,
// says that others may read the file.
func ReadKey(path string, pass func() (string, error)) (s *Signer, warning string, err error) {
	data, err := readPEM(path, "the signing key")
	if err != nil {
		return nil, "", err
	}
	if info, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o044 != 0 {
		warning = fmt.Sprintf("signing key %s can be read by other users (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	key, err := parsePrivate(data, pass)
	if err != nil {
		return nil, "", fault.Wrap(fault.KindOf(err), err, "%s", path)
	}
	return &Signer{key: key}, warning, nil
}

// parsePrivate finds the first private key of a PEM file.
func parsePrivate(data []byte, pass func() (string, error)) (*ecdsa.PrivateKey, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, fault.New(fault.Usage, "no private key in PEM form").WithHint("%s", newKeyHint)
		}
		if block.Headers["DEK-Info"] != "" {
			return nil, fault.New(fault.Unsupported, "the key is encrypted in OpenSSL's old way, which protects it badly").
				WithHint("convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in old.pem -out key.pem")
		}
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS":
			continue // stands before the key in what openssl ecparam writes
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			key, err = openPKCS8(block.Bytes, pass)
		case "OPENSSH PRIVATE KEY":
			return nil, fault.New(fault.Unsupported, "an OpenSSH key; model signing takes PEM").
				WithHint("if it is an ECDSA key, convert a copy: ssh-keygen -p -m PKCS8 -f COPY")
		default:
			return nil, fault.New(fault.Usage, "a private key is needed, and this is a PEM file of: %s", block.Type).WithHint("%s", newKeyHint)
		}
		if err != nil {
			return nil, fault.Wrap(kindOr(err, fault.Mismatch), err, "reading the private key")
		}
		k, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, unsupportedKey(key)
		}
		return k, checkCurve(&k.PublicKey)
	}
}

// kindOr is the kind of an error that has one.
func kindOr(err error, other fault.Kind) fault.Kind {
	if k := fault.KindOf(err); k != fault.General {
		return k
	}
	return other
}

// ReadPublicKey reads the public key of a PEM file, on the same curves.
func ReadPublicKey(path string) (*ecdsa.PublicKey, error) {
	data, err := readPEM(path, "the public key")
	if err != nil {
		return nil, err
	}
	key, err := parsePublic(data)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", path)
	}
	return key, nil
}

func parsePublic(data []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	for block != nil && block.Type == "EC PARAMETERS" {
		block, data = pem.Decode(data)
	}
	if block == nil || block.Type != "PUBLIC KEY" {
		err := fault.New(fault.Usage, "no public key in PEM form")
		switch {
		case block == nil:
			return nil, err
		case block.Type == "CERTIFICATE":
			return nil, err.WithHint("a certificate's issuer is given with --cert-roots")
		}
		return nil, err.WithHint("a private key's public one: openssl pkey -in key.pem -pubout -out pub.pem")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, err, "reading the public key")
	}
	k, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, unsupportedKey(key)
	}
	return k, checkCurve(k)
}

// unsupportedKey refuses what the reference has no signatures for.
func unsupportedKey(key any) error {
	return fault.New(fault.Unsupported, "model signing knows no keys of type %T; it takes elliptic curves P-256, P-384 and P-521", key).
		WithHint("%s", newKeyHint)
}

func checkCurve(k *ecdsa.PublicKey) error {
	switch k.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
		return nil
	}
	return fault.New(fault.Unsupported, "curve %s; model signing takes P-256, P-384 and P-521", k.Params().Name).WithHint("%s", newKeyHint)
}

// hashOf is the hash that goes with a curve.
func hashOf(k *ecdsa.PublicKey) crypto.Hash {
	switch k.Curve {
	case elliptic.P384():
		return crypto.SHA384
	case elliptic.P521():
		return crypto.SHA512
	}
	return crypto.SHA256
}

// KeyID names a public key: the SHA-256 of its PEM form, in hexadecimal.
func KeyID(k *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "" // not on a curve that checkCurve lets pass
	}
	sum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return hex.EncodeToString(sum[:])
}
