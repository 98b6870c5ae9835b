package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/arena/corpus/tokenizer"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Tokenizer turns text into token ids. Name identifies it: two with one name
// make the same ids of the same text.
type Tokenizer interface {
	Name() string
	Encode(text []byte) ([]int32, error)
}

// maxByteVocab is the largest vocabulary that is taken for bytes and a few
// special tokens behind them.
const maxByteVocab = 256 + 16

// ForModel finds the tokenizer of a checkpoint folder whose embedding has vocab
// rows: its tokenizer.json, or, where it has no tokenizer at all and vocab is at
// most 272, its bytes: token b is the byte b. No other tokenizer is guessed: the
// error says what was found.
func ForModel(dir string, vocab int) (Tokenizer, error) {
	if vocab < 2 {
		return nil, fault.New(fault.Usage, "%s: a vocabulary of %d", dir, vocab)
	}
	path := filepath.Join(dir, "tokenizer.json")
	data, err := readSmall(path, tokenizer.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return withoutFile(dir, vocab)
	}
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Parse(data)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", path)
	}
	end, err := endToken(dir, t, vocab)
	if err != nil {
		return nil, err
	}
	return &jsonTokenizer{t, vocab, end}, nil
}

// Bytes returns the tokenizer that takes bytes for tokens, for a vocabulary of
// the given size.
func Bytes(vocab int) Tokenizer { return byteTokenizer{min(vocab, 256), -1} }

// withoutFile is for folders without a tokenizer.json.
func withoutFile(dir string, vocab int) (Tokenizer, error) {
	for _, other := range []string{"tokenizer.model", "vocab.json", "spiece.model", "tekken.json", "vocab.txt"} {
		if _, err := os.Stat(filepath.Join(dir, other)); err == nil {
			return nil, fault.New(fault.Unsupported, "%s: its tokenizer is %s, and only tokenizer.json is read", dir, other).
				WithHint("write a tokenizer.json into the folder: transformers.AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)")
		}
	}
	if vocab > maxByteVocab {
		return nil, fault.New(fault.Unsupported, "%s has no tokenizer.json, and a vocabulary of %d is not one of bytes", dir, vocab).
			WithHint("copy the model's tokenizer.json into the folder")
	}
	ids, err := endIDs(dir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if id >= 256 && id < int64(vocab) {
			return byteTokenizer{256, int32(id)}, nil
		}
	}
	return Bytes(vocab), nil
}

// byteTokenizer takes bytes below size for tokens.
type byteTokenizer struct {
	size int
	last int32 // the end token, -1: none
}

func (b byteTokenizer) Name() string {
	if b.last >= 0 {
		return fmt.Sprintf("bytes end:%d", b.last)
	}
	return "bytes"
}
func (b byteTokenizer) end() int32 { return b.last }

func (b byteTokenizer) Encode(text []byte) ([]int32, error) {
	out := make([]int32, len(text))
	for i, c := range text {
		if int(c) >= b.size {
			return nil, fault.New(fault.Mismatch, "byte %d of the text is 0x%02x, and the model knows bytes below 0x%02x", i, c, b.size).
				WithHint("give it text in plain ASCII")
		}
		out[i] = int32(c)
	}
	return out, nil
}

// jsonTokenizer is a tokenizer.json together with what the folder says of it.
type jsonTokenizer struct {
	t     *tokenizer.Tokenizer
	vocab int
	last  int32
}

func (j *jsonTokenizer) Name() string {
	if j.last >= 0 {
		return fmt.Sprintf("%s end:%d", j.t.Name(), j.last)
	}
	return j.t.Name()
}
func (j *jsonTokenizer) end() int32 { return j.last }

// Encode refuses ids beyond the embedding, which a file may have for tokens that
// the text part of a model does not know.
func (j *jsonTokenizer) Encode(text []byte) ([]int32, error) {
	ids, err := j.t.Encode(text)
	if err != nil || int(j.t.MaxID()) < j.vocab {
		return ids, err
	}
	for i, id := range ids {
		if int(id) >= j.vocab {
			return nil, fault.New(fault.Mismatch, "token %d of the text is %d, and the model's vocabulary has %d", i, id, j.vocab).
				WithHint("the tokenizer.json is another model's, or the text holds a token that this model does not know")
		}
	}
	return ids, nil
}

// endToken returns the id of the token behind a document: tokenizer_config.json
// names it, else config.json numbers it. -1 where neither does.
func endToken(dir string, t *tokenizer.Tokenizer, vocab int) (int32, error) {
	var config struct {
		End json.RawMessage `json:"eos_token"`
	}
	if err := readJSON(dir, "tokenizer_config.json", &config); err != nil {
		return 0, err
	}
	var name string
	if json.Unmarshal(config.End, &name) != nil {
		var token struct{ Content string }
		if json.Unmarshal(config.End, &token) == nil {
			name = token.Content
		}
	}
	if id, ok := t.ID(name); ok && name != "" && int(id) < vocab {
		return id, nil
	}
	ids, err := endIDs(dir)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if id >= 0 && id < int64(vocab) {
			return int32(id), nil
		}
	}
	return -1, nil
}

// endIDs returns config.json's eos_token_id, a number or a list of them.
func endIDs(dir string) ([]int64, error) {
	var config struct {
		End json.RawMessage `json:"eos_token_id"`
	}
	if err := readJSON(dir, "config.json", &config); err != nil {
		return nil, err
	}
	var ids []int64
	if json.Unmarshal(config.End, &ids) == nil {
		return ids, nil
	}
	var id int64
	if len(config.End) > 0 && string(config.End) != "null" && json.Unmarshal(config.End, &id) == nil {
		return []int64{id}, nil
	}
	return nil, nil
}

// readJSON reads a file of the folder; one that is not there is empty.
func readJSON(dir, name string, to any) error {
	path := filepath.Join(dir, name)
	data, err := readSmall(path, 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fault.Wrap(fault.Mismatch, err, "%s", path)
	}
	return nil
}

// readSmall reads a whole file of at most the given size.
func readSmall(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "looking for the tokenizer")
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fault.New(fault.Unsupported, "%s is not a file of at most %d bytes", path, most)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the tokenizer")
	}
	return data, nil
}
