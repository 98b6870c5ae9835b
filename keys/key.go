// Package keys holds the secret of a seal: the seal key, the keyed streams of
// numbers derived from it (specified in spec/derivation.md), the files that it
// is kept in, and the keyslots that wrap it for its readers with age.
package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Size is the length of a seal key in bytes.
const Size = 32

// The HKDF info strings. Those of groups continue with a zero byte and the
// group id, so that no group can collide with the other two.
const (
	labelGroup = "neuroseal/v1"
	labelCheck = "neuroseal/check/v1"
	labelMAC   = "neuroseal/mac/v1"
)

// checkMessage is what [SealKey.Check] authenticates: any constant would do.
const checkMessage = "neuroseal key check"

// SealKey is the secret from which every factor of a seal is derived. Whoever
// has it can undo the seal. No verb of fmt and no encoder prints its bytes.
type SealKey [Size]byte

// NewSealKey returns a fresh key from the operating system's generator.
func NewSealKey() SealKey {
	var k SealKey
	rand.Read(k[:]) // never fails: crypto/rand ends the program instead
	return k
}

const redacted = "SealKey(redacted)"

// String returns a placeholder, never the key. [WriteKeyFile] writes the key.
func (SealKey) String() string { return redacted }

// Format prints the placeholder for every verb, because %x and %d would
// otherwise print the bytes of the array.
func (SealKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText refuses, so that no JSON or log encoder can write the key out.
func (SealKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a seal key is not written in clear")
}

// Check returns the public key check of the manifest: 64 hexadecimal digits
// that tell whether a key is the right one and reveal nothing else about it.
func (k SealKey) Check() string { return k.hmacHex(labelCheck, []byte(checkMessage)) }

// VerifyCheck reports, in constant time, whether check is this key's.
func (k SealKey) VerifyCheck(check string) bool { return equal(k.Check(), check) }

// MAC authenticates msg with a key that is used for nothing else: HMAC-SHA256,
// 64 hexadecimal digits.
func (k SealKey) MAC(msg []byte) string { return k.hmacHex(labelMAC, msg) }

// VerifyMAC reports, in constant time, whether mac is this key's MAC of msg.
func (k SealKey) VerifyMAC(msg []byte, mac string) bool { return equal(k.MAC(msg), mac) }

func (k SealKey) hmacHex(label string, msg []byte) string {
	m := hmac.New(sha256.New, k.subkey(label))
	m.Write(msg)
	return hex.EncodeToString(m.Sum(nil))
}

// subkey is HKDF-SHA256 with an empty salt and the given info, 32 bytes.
func (k SealKey) subkey(info string) []byte {
	sub, err := hkdf.Key(sha256.New, k[:], nil, info, sha256.Size)
	if err != nil {
		panic("keys: HKDF refused 32 bytes: " + err.Error()) // only above 255 blocks
	}
	return sub
}

func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
