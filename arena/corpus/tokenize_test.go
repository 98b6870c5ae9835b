package corpus

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func fixtureTokenizer(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/tokenizers/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestForModel(t *testing.T) {
	gpt2 := fixtureTokenizer(t, "gpt2")
	for name, c := range map[string]struct {
		files map[string]string
		vocab int
		text  string
		ids   []int32 // nil: ForModel fails
		end   int32
		want  string // in the error
	}{
		"bytes":             {nil, 128, "ab", []int32{97, 98}, -1, ""},
		"bytes and an end":  {map[string]string{"config.json": `{"eos_token_id":[5,257]}`}, 258, "\xff", []int32{255}, 257, ""},
		"end is a byte":     {map[string]string{"config.json": `{"eos_token_id":2}`}, 256, "a", []int32{97}, -1, ""},
		"large vocabulary":  {nil, 32000, "", nil, 0, "32000"},
		"sentencepiece":     {map[string]string{"tokenizer.model": "x"}, 200, "", nil, 0, "tokenizer.model"},
		"old GPT-2":         {map[string]string{"vocab.json": "{}"}, 50257, "", nil, 0, "vocab.json"},
		"file":              {map[string]string{"tokenizer.json": gpt2}, 500, "a", []int32{65}, -1, ""},
		"named end":         {map[string]string{"tokenizer.json": gpt2, "tokenizer_config.json": `{"eos_token":{"content":"<|endoftext|>"}}`}, 500, "a", []int32{65}, 0, ""},
		"plain named end":   {map[string]string{"tokenizer.json": gpt2, "tokenizer_config.json": `{"eos_token":"<|endoftext|>"}`}, 500, "a", []int32{65}, 0, ""},
		"numbered end":      {map[string]string{"tokenizer.json": gpt2, "config.json": `{"eos_token_id":7}`}, 500, "a", []int32{65}, 7, ""},
		"end out of range":  {map[string]string{"tokenizer.json": gpt2, "config.json": `{"eos_token_id":700}`}, 500, "a", []int32{65}, -1, ""},
		"unreadable":        {map[string]string{"tokenizer.json": "{}"}, 500, "", nil, 0, "tokenizer.json"},
		"unreadable config": {map[string]string{"tokenizer.json": gpt2, "config.json": `{`}, 500, "", nil, 0, "config.json"},
		"no vocabulary":     {nil, 0, "", nil, 0, "vocabulary"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for f, content := range c.files {
				put(t, dir, f, content)
			}
			tok, err := ForModel(dir, c.vocab)
			if c.ids == nil {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(dir)) {
					t.Fatalf("error %v does not say %q and the folder", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := tok.Encode([]byte(c.text)); err != nil || !slices.Equal(got, c.ids) {
				t.Errorf("%q is %v (%v), want %v", c.text, got, err, c.ids)
			}
			if got := tok.(interface{ end() int32 }).end(); got != c.end {
				t.Errorf("end %d, want %d", got, c.end)
			}
		})
	}
}

// Ids beyond the embedding would read past it.
func TestBeyondVocabulary(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "tokenizer.json", fixtureTokenizer(t, "gpt2"))
	tok, err := ForModel(dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode([]byte("abc")); err != nil {
		t.Error(err)
	}
	if _, err := tok.Encode([]byte("the river")); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("got %v", err)
	}
	if _, err := Bytes(128).Encode([]byte("ab\u00e9")); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "byte 2") {
		t.Errorf("got %v", err)
	}
}

// TestDocumentsEnd opens a dataset with a tokenizer that has an end token, and
// compares with the reference's ids of each document.
func TestDocumentsEnd(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "tokenizer.json", fixtureTokenizer(t, "mistral"))
	put(t, dir, "tokenizer_config.json", `{"eos_token":"</s>"}`)
	tok, err := ForModel(dir, 600)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Texts []string
		IDs   map[string][][]int32
	}
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	var want []int32
	for i, s := range e.Texts {
		row, err := json.Marshal(map[string]string{"text": s})
		if err != nil {
			t.Fatal(err)
		}
		rows.WriteString(string(row) + "\n")
		if s != "" {
			want = append(append(want, e.IDs["mistral"][i]...), 2)
		}
	}
	c, err := Open(context.Background(), put(t, dir, "rows.jsonl", rows.String()), tok, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := append(slices.Clone(c.Train), c.Heldout...); !slices.Equal(got, want) {
		t.Errorf("%d tokens, want %d, or other ones", len(got), len(want))
	}
}
