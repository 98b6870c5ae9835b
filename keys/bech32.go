package keys

import (
	"errors"
	"strings"
)

// The Bech32 encoding of BIP 173, which age uses for its keys: a prefix, the
// digit 1, the data in 5-bit characters, and a checksum of six characters that
// detects any four wrong characters within 90.

const bech32Charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32MaxLen is the length up to which the checksum keeps its promise.
const bech32MaxLen = 90

var (
	errBech32Checksum  = errors.New("the checksum does not match, so a character is wrong")
	errBech32Case      = errors.New("upper and lower case are mixed")
	errBech32Length    = errors.New("the length is not that of a key")
	errBech32Separator = errors.New("the separator '1' is missing")
	errBech32Char      = errors.New("a character does not belong there")
	errBech32Padding   = errors.New("the last character carries stray bits")
)

// bech32Encode encodes data under a prefix, in lower case.
func bech32Encode(hrp string, data []byte) string {
	words := toBase32(data)
	sum := bech32Polymod(hrp, append(words, 0, 0, 0, 0, 0, 0)) ^ 1
	var b strings.Builder
	b.WriteString(hrp)
	b.WriteByte('1')
	for _, w := range words {
		b.WriteByte(bech32Charset[w])
	}
	for i := range 6 {
		b.WriteByte(bech32Charset[sum>>(5*(5-i))&31])
	}
	return b.String()
}

// bech32Decode returns the prefix, in lower case, and the data. Its errors
// never contain the text, which may be a secret.
func bech32Decode(s string) (hrp string, data []byte, err error) {
	hrp, words, err := bech32Words(s)
	if err != nil {
		return "", nil, err
	}
	data, err = fromBase32(words)
	return hrp, data, err
}

// bech32Words checks s and returns its 5-bit characters without the checksum.
func bech32Words(s string) (hrp string, words []byte, err error) {
	if len(s) > bech32MaxLen {
		return "", nil, errBech32Length
	}
	for i := range len(s) { // before any case folding, which knows more than ASCII
		if s[i] < 33 || s[i] > 126 {
			return "", nil, errBech32Char
		}
	}
	lower := strings.ToLower(s)
	if s != lower && s != strings.ToUpper(s) {
		return "", nil, errBech32Case
	}
	sep := strings.LastIndexByte(lower, '1')
	if sep < 1 {
		return "", nil, errBech32Separator
	}
	hrp, rest := lower[:sep], lower[sep+1:]
	if len(rest) < 6 {
		return "", nil, errBech32Length
	}
	words = make([]byte, len(rest))
	for i := range len(rest) {
		v := strings.IndexByte(bech32Charset, rest[i])
		if v < 0 {
			return "", nil, errBech32Char
		}
		words[i] = byte(v)
	}
	if bech32Polymod(hrp, words) != 1 {
		return "", nil, errBech32Checksum
	}
	return hrp, words[:len(words)-6], nil
}

// bech32Polymod is the BCH checksum of BIP 173 over the expanded prefix and the
// words; a valid string, its checksum included, gives 1.
func bech32Polymod(hrp string, words []byte) uint32 {
	sum := uint32(1)
	for i := range len(hrp) {
		sum = bech32Step(sum, hrp[i]>>5)
	}
	sum = bech32Step(sum, 0)
	for i := range len(hrp) {
		sum = bech32Step(sum, hrp[i]&31)
	}
	for _, w := range words {
		sum = bech32Step(sum, w)
	}
	return sum
}

func bech32Step(sum uint32, v byte) uint32 {
	top := sum >> 25
	sum = (sum&0x1ffffff)<<5 ^ uint32(v)
	for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}

// toBase32 regroups bytes into 5-bit words, padded with zero bits.
func toBase32(data []byte) []byte {
	words := make([]byte, 0, (len(data)*8+4)/5+6)
	acc, bits := uint32(0), 0
	for _, b := range data {
		acc, bits = acc<<8|uint32(b), bits+8
		for bits >= 5 {
			bits -= 5
			words = append(words, byte(acc>>bits&31))
		}
	}
	if bits > 0 {
		words = append(words, byte(acc<<(5-bits)&31))
	}
	return words
}

// fromBase32 undoes toBase32; padding must be shorter than a word and zero.
func fromBase32(words []byte) ([]byte, error) {
	data := make([]byte, 0, len(words)*5/8)
	acc, bits := uint32(0), 0
	for _, w := range words {
		acc, bits = acc<<5|uint32(w), bits+5
		if bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
		}
	}
	if bits >= 5 || acc&(1<<bits-1) != 0 {
		return nil, errBech32Padding
	}
	return data, nil
}
