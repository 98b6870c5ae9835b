package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type reference struct {
	Texts []string             `json:"texts"`
	IDs   map[string][][]int32 `json:"ids"`
}

func expected(t testing.TB) reference {
	t.Helper()
	var e reference
	if err := json.Unmarshal(read(t, "expected.json"), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestReference compares with what the Python package makes of texts that are
// hard on a tokenizer.
func TestReference(t *testing.T) {
	e := expected(t)
	for name, ids := range e.IDs {
		t.Run(name, func(t *testing.T) {
			tok, err := Parse(read(t, "tokenizers/"+name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range e.Texts {
				for range 2 { // the second time from the cache
					got, err := tok.Encode([]byte(text))
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(got, ids[i]) {
						t.Errorf("%.100q:\n got %v\nwant %v", text, got, ids[i])
						break
					}
				}
			}
		})
	}
}
