package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// spell writes a tokenizer.json over the vocabulary a, b, ab.
func spell(normalizer, pre, model string) string {
	return `{"version":"1.0","added_tokens":[],"normalizer":` + normalizer + `,"pre_tokenizer":` + pre +
		`,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]` + model + `}}`
}

func TestRefused(t *testing.T) {
	split := func(regex string) string {
		q, _ := json.Marshal(regex)
		return `{"type":"Split","pattern":{"Regex":` + string(q) + `},"behavior":"Isolated","invert":false}`
	}
	for _, c := range []struct {
		name, file, want string
		kind             fault.Kind
	}{
		{"not JSON", "{", "JSON", fault.Mismatch},
		{"empty object", "{}", "no model", fault.Mismatch},
		{"model type", `{"model":{"type":"Unigram","vocab":[]}}`, "model Unigram", fault.Unsupported},
		{"model WordPiece", `{"model":{"type":"WordPiece","vocab":{}}}`, "model WordPiece", fault.Unsupported},
		{"no vocabulary", `{"model":{"type":"BPE","vocab":{},"merges":[]}}`, "no vocabulary", fault.Mismatch},
		{"dropout", spell("null", "null", `,"dropout":0.1`), "dropout", fault.Unsupported},
		{"prefix", spell("null", "null", `,"continuing_subword_prefix":"##"`), "continuing_subword_prefix", fault.Unsupported},
		{"suffix", spell("null", "null", `,"end_of_word_suffix":"</w>"`), "end_of_word_suffix", fault.Unsupported},
		{"unknown token", spell("null", "null", `,"unk_token":"<unk>"`), "<unk>", fault.Mismatch},
		{"unknown key", spell("null", "null", `,"magic":true`), "magic", fault.Unsupported},
		{"negative id", `{"model":{"vocab":{"a":-1}}}`, "-1", fault.Mismatch},
		{"merge of strangers", `{"model":{"vocab":{"a":1},"merges":["a a"]}}`, "merge 0", fault.Mismatch},
		{"merge of one", `{"model":{"vocab":{"a":1},"merges":["a"]}}`, "two parts", fault.Unsupported},
		{"normalizer", spell(`{"type":"Precompiled","precompiled_charsmap":"x"}`, "null", ""), "Precompiled", fault.Unsupported},
		{"normalizer in a sequence", spell(`{"type":"Sequence","normalizers":[{"type":"Nmt"}]}`, "null", ""), "Nmt", fault.Unsupported},
		{"pre-tokenizer", spell("null", `{"type":"BertPreTokenizer"}`, ""), "BertPreTokenizer", fault.Unsupported},
		{"behavior", spell("null", `{"type":"Split","pattern":{"String":"a"},"behavior":"Odd","invert":false}`, ""), "Odd", fault.Unsupported},
		{"empty pattern", spell(`{"type":"Replace","pattern":{"String":""},"content":"x"}`, "null", ""), "pattern", fault.Unsupported},
		{"intersection", spell("null", split(`[\p{L}&&[^\p{Han}]]`), ""), "&&", fault.Unsupported},
		{"word class", spell("null", split(`\w+`), ""), `\w`, fault.Unsupported},
		{"unknown property", spell("null", split(`\p{Klingon}`), ""), "Klingon", fault.Unsupported},
		{"group", spell("null", split(`(?<n>a)`), ""), "group", fault.Unsupported},
		{"unclosed class", spell("null", split(`[a`), ""), "without its ]", fault.Unsupported},
		{"unclosed group", spell("null", split(`(a`), ""), "pattern", fault.Unsupported},
		{"scheme", spell("null", `{"type":"Metaspace","replacement":"_","prepend_scheme":"second"}`, ""), "second", fault.Unsupported},
		{"replacement", spell("null", `{"type":"Metaspace","replacement":"__"}`, ""), "one character", fault.Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.file))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			if got := fault.KindOf(err); got != c.kind {
				t.Errorf("kind %d, want %d: %v", got, c.kind, err)
			}
		})
	}
}

func TestTranslate(t *testing.T) {
	for in, want := range map[string]string{
		`a+b*c?`:                        `a+b*c?`,
		`a+?b`:                          `a+?b`,
		`[^\r\n]?+\p{L}+`:               `(?>[^\r\n]?)\p{L}+`,
		`(?:a|b)++c`:                    `(?>(?:a|b)+)c`,
		` ?[^(\s|[.,!?])]+`:             ` ?[^(\s|.,!?)]+`,
		`(?i:'s)|\p{Han}{1,3}|\s(?!\S)`: `(?i:'s)|\p{Han}{1,3}|\s(?!\S)`,
	} {
		got, err := translate(in)
		if err != nil || got != want {
			t.Errorf("translate(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestNotUTF8(t *testing.T) {
	tok, err := Parse([]byte(spell("null", "null", "")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode([]byte("ab\xffa")); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "byte 2") {
		t.Errorf("error %v does not name byte 2", err)
	}
}

// A text must not grow beyond bounds, however often it is rewritten.
func TestGrowth(t *testing.T) {
	double := `{"type":"Replace","pattern":{"String":"a"},"content":"aa"}`
	all := strings.TrimSuffix(strings.Repeat(double+",", 60), ",")
	tok, err := Parse([]byte(spell(`{"type":"Sequence","normalizers":[`+all+`]}`, "null", "")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode([]byte("aaaaaaaaaaaaaaaa")); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("16 characters were doubled 60 times: %v", err)
	}
}

// A pattern that goes back exponentially often ends in an error.
func TestRunawayPattern(t *testing.T) {
	pre := `{"type":"Split","pattern":{"Regex":"(?:a|aa)+[cd]"},"behavior":"Isolated","invert":false}`
	tok, err := parser{timeout: 50 * time.Millisecond}.file([]byte(spell("null", pre, "")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode([]byte(strings.Repeat("a", 200) + "ec")); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("got %v", err)
	}
}

// TestMergeOrder compares the queue with the definition: as long as there is a
// pair to merge, merge the leftmost of those learned first.
func TestMergeOrder(t *testing.T) {
	tok, err := Parse(read(t, "tokenizers/gpt2.json"))
	if err != nil {
		t.Fatal(err)
	}
	m := tok.model
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("abehilnorstĠ.")), 0, 60, -1).Draw(t, "word")
		want := m.symbols(word)
		for {
			best, at := merge{rank: 1 << 30}, -1
			for i := range len(want) - 1 {
				if to, ok := m.merges[pair{want[i], want[i+1]}]; ok && to.rank < best.rank {
					best, at = to, i
				}
			}
			if at < 0 {
				break
			}
			want = append(append(slices.Clone(want[:at]), best.id), want[at+2:]...)
		}
		if got := m.merge(m.symbols(word)); !slices.Equal(got, want) {
			t.Fatalf("%q: %v, want %v", word, got, want)
		}
	})
}

func TestIDsAndNames(t *testing.T) {
	data := read(t, "tokenizers/qwen2.json")
	tok, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := tok.ID("<|endoftext|>"); !ok || id != 0 {
		t.Errorf("<|endoftext|> is %d, %v", id, ok)
	}
	if _, ok := tok.ID("<|nothing|>"); ok {
		t.Error("<|nothing|> has an id")
	}
	other, err := Parse(append(data, ' '))
	if err != nil {
		t.Fatal(err)
	}
	if tok.Name() == other.Name() || !strings.HasPrefix(tok.Name(), "tokenizer.json sha256:") {
		t.Errorf("names %q and %q", tok.Name(), other.Name())
	}
}

func FuzzParse(f *testing.F) {
	sequence := `{"type":"Sequence","pretokenizers":[{"type":"Punctuation","behavior":"Contiguous"},{"type":"ByteLevel"},{"type":"Digits","individual_digits":true}]}`
	spaces := `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"a"},{"type":"Replace","pattern":{"String":" "},"content":"b"},{"type":"NFKC"}]}`
	regex := `{"type":"Split","pattern":{"Regex":"(?i)[^\\s[a-c]]++|\\p{Lu}"},"behavior":"MergedWithNext","invert":true}`
	meta := `{"type":"Metaspace","replacement":"b","prepend_scheme":"first","split":true}`
	for _, file := range []string{
		spell("null", sequence, `,"ignore_merges":true`), spell(spaces, "null", `,"byte_fallback":true`),
		spell("null", regex, `,"unk_token":"a","fuse_unk":true`), spell(`{"type":"Lowercase"}`, meta, ""),
		strings.Replace(spell("null", meta, ""), `"added_tokens":[]`, `"added_tokens":[{"id":3,"content":"b c","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}]`, 1),
	} {
		f.Add([]byte(file), "ab  ba\r\nB C b c 12é!")
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		tok, err := parser{timeout: 20 * time.Millisecond}.file(data)
		if err != nil {
			return
		}
		ids, err := tok.Encode([]byte(text))
		if err != nil {
			return
		}
		for _, id := range ids {
			if id < 0 || id > tok.MaxID() {
				t.Fatalf("id %d of [0, %d]", id, tok.MaxID())
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok, err := Parse(read(b, "tokenizers/llama3.json"))
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(strings.Repeat("The small river follows the garden. It's 1912 stones, isn't it?\n", 1000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := tok.Encode(text); err != nil {
			b.Fatal(err)
		}
	}
}
