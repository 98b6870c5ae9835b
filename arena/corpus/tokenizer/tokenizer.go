// Package tokenizer reads tokenizer.json, the file in which Hugging Face
// checkpoints describe their tokenizer, and turns text into the same token ids
// as the Python package tokenizers does with add_special_tokens=False.
//
// Covered is what causal language models ship: BPE over bytes (GPT-2, Llama 3,
// Qwen, SmolLM, DeepSeek, …) and BPE over characters with byte fallback (Llama
// 2, Mistral, Gemma). Whatever else a file asks for is refused by its name:
// wrong ids would train on something that no other program trains on.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// MaxFile is the largest tokenizer.json that is read, in bytes. The largest
// known is a tenth of it.
const MaxFile = 256 << 20

// Tokenizer encodes text. Its methods may be called from several goroutines.
type Tokenizer struct {
	name      string
	raw       *matcher // added tokens found in the text as it is
	normal    *matcher // added tokens found in the normalized text
	normalize normalizer
	split     []splitter
	model     *bpe
	added     map[string]int32
	max       int32
}

// Parse reads the bytes of a tokenizer.json. Errors are of kind
// fault.Unsupported where the file asks for what this package does not know,
// and name it, and of kind fault.Mismatch where the file is not sound.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > MaxFile {
		return nil, fault.New(fault.Unsupported, "a tokenizer.json of %d bytes: at most %d are read", len(data), MaxFile)
	}
	t, err := parse(data)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	t.name = "tokenizer.json sha256:" + hex.EncodeToString(sum[:])
	return t, nil
}

// Name identifies the tokenizer: files with the same bytes have the same name.
func (t *Tokenizer) Name() string { return t.name }

// ID returns the id of a token, given as the file spells it: "</s>".
func (t *Tokenizer) ID(token string) (int32, bool) {
	if id, ok := t.added[token]; ok {
		return id, true
	}
	id, ok := t.model.vocab[token]
	return id, ok
}

// MaxID is the largest id that Encode can return.
func (t *Tokenizer) MaxID() int32 { return t.max }

// Encode returns the ids of text, which must be UTF-8. Added tokens that stand
// in the text, such as "<|endoftext|>", become that token; none is put before or
// after it. Characters for which the vocabulary has neither token, bytes nor an
// unknown token are dropped, as the Python package drops them.
func (t *Tokenizer) Encode(text []byte) ([]int32, error) {
	if i := invalid(text); i >= 0 {
		return nil, fault.New(fault.Mismatch, "byte %d (0x%02x) of the text is not UTF-8", i, text[i]).
			WithHint("this tokenizer takes text in UTF-8: convert the file, or name one that holds text")
	}
	var ids []int32
	for _, p := range t.raw.cut(piece{text: string(text), first: true}) {
		if p.token {
			ids = append(ids, p.id)
			continue
		}
		var err error
		if ids, err = t.encodeRaw(ids, p); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// encodeRaw encodes what stands between two of the raw added tokens.
func (t *Tokenizer) encodeRaw(ids []int32, p piece) ([]int32, error) {
	if t.normalize != nil {
		var err error
		if p.text, err = t.normalize(p.text); err != nil {
			return nil, err
		}
	}
	for _, p := range t.normal.cut(p) {
		if p.token {
			ids = append(ids, p.id)
			continue
		}
		words := []piece{p}
		for _, s := range t.split {
			var err error
			if words, err = apply(s, words); err != nil {
				return nil, err
			}
		}
		for _, w := range words {
			ids = t.model.encode(ids, w.text)
		}
	}
	return ids, nil
}

// invalid returns the offset of the first byte that is not UTF-8, -1 if none.
func invalid(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}
