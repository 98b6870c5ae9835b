package oms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"

	"golang.org/x/crypto/scrypt"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Encrypted private keys: PKCS #8 (RFC 5958) with the scheme PBES2 (RFC 8018):
// a key derived by PBKDF2 or scrypt (RFC 7914), and AES in CBC mode. OpenSSL and
// Python's cryptography write nothing else today.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2 struct {
	Derivation, Encryption pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	Length     int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

type scryptParams struct {
	Salt    []byte
	N, R, P int
	Length  int `asn1:"optional"`
}

const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11"
)

// hmacs are PBKDF2's pseudo-random functions; the first is the default.
var hmacs = map[string]func() hash.Hash{
	"":                    sha1.New,
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// ciphers are the key lengths of AES-CBC.
var ciphers = map[string]int{
	"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32,
}

const (
	maxIterations = 10_000_000 // of PBKDF2: some seconds
	maxScrypt     = 1 << 28    // bytes that scrypt may need
)

// openPKCS8 decrypts and parses an encrypted private key.
func openPKCS8(der []byte, pass func() (string, error)) (any, error) {
	var e encryptedKey
	var scheme pbes2
	if err := whole(der, &e); err != nil {
		return nil, err
	}
	if id := e.Algorithm.Algorithm.String(); id != oidPBES2 {
		return nil, unknownScheme("scheme", id)
	}
	if err := whole(e.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, err
	}
	size, ok := ciphers[scheme.Encryption.Algorithm.String()]
	if !ok {
		return nil, unknownScheme("cipher", scheme.Encryption.Algorithm.String())
	}
	var iv []byte
	if err := whole(scheme.Encryption.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(e.Data) == 0 || len(e.Data)%aes.BlockSize != 0 {
		return nil, fault.New(fault.Mismatch, "the encrypted key is damaged")
	}
	derive, err := derivation(scheme.Derivation, size)
	if err != nil {
		return nil, err
	}
	if pass == nil {
		return nil, fault.New(fault.Usage, "the key is encrypted, and nobody gives its passphrase")
	}
	secret, err := pass()
	if err != nil {
		return nil, err
	}
	key, err := derive(secret)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "deriving the key that encrypts the signing key")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, e.Data)
	parsed, err := x509.ParsePKCS8PrivateKey(unpad(plain))
	if err != nil {
		// Padding and content are one question: the passphrase is right or not.
		return nil, fault.New(fault.WrongKey, "the passphrase does not open the signing key")
	}
	return parsed, nil
}

// derivation returns what makes the key of size bytes from a passphrase.
func derivation(a pkix.AlgorithmIdentifier, size int) (func(string) ([]byte, error), error) {
	switch id := a.Algorithm.String(); id {
	case oidPBKDF2:
		var p pbkdf2Params
		if err := whole(a.Parameters.FullBytes, &p); err != nil {
			return nil, err
		}
		prf, ok := hmacs[p.PRF.Algorithm.String()]
		if !ok {
			return nil, unknownScheme("hash", p.PRF.Algorithm.String())
		}
		if p.Iterations < 1 || p.Iterations > maxIterations || p.Length != 0 && p.Length != size {
			return nil, fault.New(fault.Unsupported, "the encrypted key asks for %d iterations and %d bytes", p.Iterations, p.Length)
		}
		return func(pass string) ([]byte, error) { return pbkdf2.Key(prf, pass, p.Salt, p.Iterations, size) }, nil
	case oidScrypt:
		var p scryptParams
		if err := whole(a.Parameters.FullBytes, &p); err != nil {
			return nil, err
		}
		if p.N < 2 || p.R < 1 || p.P < 1 || p.R > 64 || p.P > 64 || p.N > maxScrypt/128/p.R || p.Length != 0 && p.Length != size {
			return nil, fault.New(fault.Unsupported, "the encrypted key asks scrypt for N %d, r %d, p %d", p.N, p.R, p.P)
		}
		return func(pass string) ([]byte, error) { return scrypt.Key([]byte(pass), p.Salt, p.N, p.R, p.P, size) }, nil
	default:
		return nil, unknownScheme("derivation", id)
	}
}

func unknownScheme(what, id string) error {
	return fault.New(fault.Unsupported, "the key is encrypted with a %s that is not supported (%s)", what, id).
		WithHint("convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in key.pem -out new.pem")
}

// whole parses one ASN.1 value with nothing behind it.
func whole(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err != nil {
		return fault.Wrap(fault.Mismatch, err, "the encrypted key is damaged")
	}
	if len(rest) > 0 {
		return fault.New(fault.Mismatch, "the encrypted key is damaged: %d bytes stand behind it", len(rest))
	}
	return nil
}

// unpad takes PKCS #7 padding off; nil if it is none.
func unpad(b []byte) []byte {
	n := int(b[len(b)-1])
	if n == 0 || n > aes.BlockSize {
		return nil
	}
	for _, x := range b[len(b)-n:] {
		if int(x) != n {
			return nil
		}
	}
	return b[:len(b)-n]
}
