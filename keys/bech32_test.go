package keys

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"
)

// The strings of BIP 173, section "Test vectors".
func TestBech32Standard(t *testing.T) {
	for _, s := range []string{
		"A12UEL5L",
		"a12uel5l",
		"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
		"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
		"11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
		"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
		"?1ezyfcl",
	} {
		if _, _, err := bech32Words(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, want := range map[string]error{
		"\x201nwldj5": errBech32Char,
		"\x7f1axkwrx": errBech32Char,
		"\x801eym55h": errBech32Char,
		"an84characterslonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1569pvx": errBech32Length,
		"pzry9x0s0muk":   errBech32Separator,
		"1pzry9x0s0muk":  errBech32Separator,
		"x1b4n0q5v":      errBech32Char,
		"li1dgmt3":       errBech32Length,
		"de1lg7wt\xff":   errBech32Char,
		"A1G7SGD8":       errBech32Checksum,
		"10a06t8":        errBech32Separator,
		"1qzzfhee":       errBech32Separator,
		"a12UEL5L":       errBech32Case,
		"":               errBech32Separator,
		"A12UEL5L\u212a": errBech32Char, // the Kelvin sign, whose lower case is k
	} {
		if _, _, err := bech32Words(s); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", s, err, want)
		}
	}
}

func TestBech32Padding(t *testing.T) {
	for name, words := range map[string][]byte{
		"a whole word of padding": make([]byte, 3), // 15 bits: one byte and 7 bits
		"stray bits":              {0, 1},          // one byte and 2 bits, not zero
	} {
		if _, err := fromBase32(words); err == nil {
			t.Error(name)
		}
	}
}

// TestBech32RoundTrip also compares with age, which reads only what a correct
// encoder wrote.
func TestBech32RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
		s := bech32Encode("prefix-1", data)
		for _, text := range []string{s, strings.ToUpper(s)} {
			hrp, got, err := bech32Decode(text)
			if err != nil || hrp != "prefix-1" || !bytes.Equal(got, data) {
				t.Fatalf("%q: %q %x %v", text, hrp, got, err)
			}
		}
		scalar := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar")
		want := strings.ToUpper(bech32Encode("age-secret-key-", scalar))
		id, err := age.ParseX25519Identity(want)
		if err != nil || id.String() != want {
			t.Fatalf("age: %v", err)
		}
	})
}

// TestBech32DetectsTypos: up to four wrong characters, or two swapped, are never
// taken for a key.
func TestBech32DetectsTypos(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := SealKey(rapid.SliceOfN(rapid.Byte(), Size, Size).Draw(t, "key"))
		line := []byte(k.encode())
		const charset = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
		first := len(keyPrefix) + 1
		typo := bytes.Clone(line)
		for range rapid.IntRange(1, 4).Draw(t, "errors") {
			at := rapid.IntRange(first, len(line)-1).Draw(t, "at")
			typo[at] = charset[rapid.IntRange(0, 31).Draw(t, "char")]
		}
		if got, err := parseKeyLine(string(typo)); err == nil && !bytes.Equal(typo, line) {
			t.Fatalf("%s was read as %x", typo, got[:])
		}
		swapped := bytes.Clone(line)
		at := rapid.IntRange(first, len(line)-2).Draw(t, "swap")
		swapped[at], swapped[at+1] = swapped[at+1], swapped[at]
		if _, err := parseKeyLine(string(swapped)); err == nil && !bytes.Equal(swapped, line) {
			t.Fatalf("%s was read", swapped)
		}
	})
}

func FuzzBech32(f *testing.F) {
	f.Add("A12UEL5L")
	f.Add(testKey(1).encode())
	f.Add("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw")
	f.Fuzz(func(t *testing.T, s string) {
		hrp, data, err := bech32Decode(s)
		if err != nil {
			return
		}
		if got := bech32Encode(hrp, data); got != strings.ToLower(s) {
			t.Errorf("%q was read, and is written as %q", s, got)
		}
	})
}
