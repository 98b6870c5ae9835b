package jobs

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// block is what the wrapped command prints, as specified in raylog.go.
func block(id string, result []byte) string {
	coded := base64.StdEncoding.EncodeToString(result)
	var lines strings.Builder
	for len(coded) > 76 {
		lines.WriteString(coded[:76] + "\n")
		coded = coded[76:]
	}
	lines.WriteString(coded + "\n")
	return fmt.Sprintf("\n-----BEGIN NEUROSEAL RESULT %s %x-----\n%s-----END NEUROSEAL RESULT %s-----\n", id, sha256.Sum256(result), &lines, id)
}

// TestExtract: any result comes back from any log; what is cut off or damaged
// is never taken for a result.
func TestExtract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		result := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "result")
		before, after := rapid.String().Draw(t, "before"), rapid.String().Draw(t, "after")
		b := block("id-1", result)
		got, rest, err := extract(before+b+after, "id-1")
		if err != nil || string(got) != string(result) || rest != before+"\n"+after {
			t.Fatalf("got %q, rest %q, %v", got, rest, err)
		}
		if got, _, _ := extract(before+b[:rapid.IntRange(0, len(b)-2).Draw(t, "cut")], "id-1"); got != nil {
			t.Fatal("a result that is cut off is accepted")
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		flipped := []byte(b)
		flipped[at] ^= 1
		if got, _, _ := extract(string(flipped), "id-1"); got != nil && string(got) != string(result) {
			t.Fatalf("a damaged result is accepted: %q", got)
		}
	})
	if got, _, _ := extract(block("id-2", []byte("x")), "id-1"); got != nil {
		t.Error("another job's result is accepted")
	}
	two := block("id-1", []byte("first")) + block("id-1", []byte("second"))
	if got, _, err := extract(two, "id-1"); err != nil || string(got) != "second" {
		t.Errorf("got %q, %v", got, err)
	}
}

// FuzzExtract: no log makes it fail or hold what was not printed.
func FuzzExtract(f *testing.F) {
	f.Add("", "id")
	f.Add(block("id", []byte("result")), "id")
	f.Add("\n-----BEGIN NEUROSEAL RESULT id ", "id")
	f.Fuzz(func(t *testing.T, text, id string) {
		result, _, err := extract(text, id)
		if result != nil && (err != nil || !strings.Contains(text, fmt.Sprintf("%x", sha256.Sum256(result))) &&
			!strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", sha256.Sum256(result)))) {
			t.Errorf("result %q, error %v", result, err)
		}
	})
}
