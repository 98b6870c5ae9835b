package text

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The hashes are those of the text that the shipped model and the published
// figures come from: a change here is a change of both.
func TestGolden(t *testing.T) {
	golden := map[string]string{
		"code":  "64ed9015045ae61bc8693d11707d63136321c34bbfc2b1ce94bfef91c4b6c27f",
		"logs":  "331ddcde7a183090d1ffbf08352fc7d8f488a1777d89efaeb744e3be3b7321f4",
		"tales": "4d45489d3ad118c5f56bcdf59d93e2dc69dd434aac9ddf2bd6bf98a1de534202",
	}
	for _, domain := range Domains() {
		sum := sha256.Sum256(Generate(domain, 1, 100_000))
		if got := hex.EncodeToString(sum[:]); got != golden[domain] {
			t.Errorf("%s: SHA-256 of the first 100,000 bytes of seed 1 is %s, want %s", domain, got, golden[domain])
		}
	}
}

func TestDomains(t *testing.T) {
	if got, want := Domains(), []string{"code", "logs", "tales"}; !slices.Equal(got, want) {
		t.Errorf("Domains() = %q, want %q", got, want)
	}
}

func TestLengthAndPrefix(t *testing.T) {
	for _, domain := range Domains() {
		long := Generate(domain, 7, 5000)
		for _, n := range []int{0, 1, 2, 255, 256, 4999, 5000} {
			got := Generate(domain, 7, n)
			if len(got) != n {
				t.Errorf("%s: %d bytes, want %d", domain, len(got), n)
			}
			if !bytes.HasPrefix(long, got) {
				t.Errorf("%s: the text of %d bytes is no prefix of the one of 5000", domain, n)
			}
		}
	}
}

func TestSeedsAndDomainsDiffer(t *testing.T) {
	texts := map[string]string{}
	for _, domain := range Domains() {
		for seed := range uint64(3) {
			name := domain + "/" + strconv.FormatUint(seed, 10)
			text := string(Generate(domain, seed, 1000))
			if other, ok := texts[text]; ok {
				t.Errorf("%s and %s are the same text", name, other)
			}
			texts[text] = name
		}
	}
}

func TestOnlyPrintable(t *testing.T) {
	for _, domain := range Domains() {
		for i, c := range Generate(domain, 3, 200_000) {
			if c != '\n' && (c < ' ' || c > '~') {
				t.Fatalf("%s: byte %d is %#02x", domain, i, c)
			}
		}
	}
}

// Every domain can be a training target, so each document must fit into what
// the model sees, and none may hold the empty line that ends it, or leave a
// template's brackets behind.
func TestDocuments(t *testing.T) {
	for _, domain := range Domains() {
		s := newSource(domain, 5)
		for range 3000 {
			doc := domains[domain](s)
			switch {
			case len(doc) > window:
				t.Fatalf("%s: a document of %d bytes, more than %d:\n%s", domain, len(doc), window, doc)
			case !strings.HasSuffix(doc, "\n") || strings.Contains(doc, "\n\n"):
				t.Fatalf("%s: not a sequence of lines: %q", domain, doc)
			case domain == "tales" && strings.ContainsAny(doc, "[]{}|"):
				t.Fatalf("tales: a template was not written out:\n%s", doc)
			}
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, c := range []struct {
		domain string
		n      int
		want   string
	}{
		{"poems", 10, `text: unknown domain "poems" (have code, logs, tales)`},
		{"", 10, `text: unknown domain "" (have code, logs, tales)`},
		{"tales", -1, "text: cannot write -1 bytes"},
	} {
		func() {
			defer func() {
				if got := recover(); got != c.want {
					t.Errorf("Generate(%q, 1, %d) panics with %v, want %v", c.domain, c.n, got, c.want)
				}
			}()
			Generate(c.domain, 1, c.n)
		}()
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
