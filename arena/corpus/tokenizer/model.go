package tokenizer

import (
	"encoding/json"
	"strings"
	"unicode"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func isNumber(r rune) bool { return unicode.IsNumber(r) }
func isSpace(r rune) bool  { return unicode.IsSpace(r) }

// modelPart is the model as the file spells it.
type modelPart struct {
	Type         string           `json:"type"`
	Dropout      *float64         `json:"dropout"`
	Unknown      *string          `json:"unk_token"`
	Prefix       *string          `json:"continuing_subword_prefix"`
	Suffix       *string          `json:"end_of_word_suffix"`
	FuseUnknown  bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
	Vocab        map[string]int32 `json:"vocab"`
	Merges       []mergePart      `json:"merges"`
}

// mergePart is ["left","right"], or "left right" in older files.
type mergePart [2]string

func (m *mergePart) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		var parts []string
		if err := json.Unmarshal(data, &parts); err != nil {
			return err
		}
		if len(parts) != 2 {
			return fault.New(fault.Mismatch, "the merge %.80s does not have two parts", data)
		}
		*m = mergePart(parts)
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	left, right, ok := strings.Cut(s, " ")
	if !ok || strings.Contains(right, " ") {
		return fault.New(fault.Mismatch, "the merge %.80q does not have two parts", s)
	}
	*m = mergePart{left, right}
	return nil
}

func (p parser) model(raw json.RawMessage) (*bpe, error) {
	if absent(raw) {
		return nil, fault.New(fault.Mismatch, "it holds no model")
	}
	name, err := kind(raw, "model")
	if err != nil {
		return nil, err
	}
	if name != "BPE" && name != "" { // older files leave the type out
		return nil, unsupported("model " + name)
	}
	var part modelPart
	if err := strict(raw, "model BPE", &part); err != nil {
		return nil, err
	}
	switch {
	case len(part.Vocab) == 0:
		return nil, fault.New(fault.Mismatch, "its model has no vocabulary")
	case part.Dropout != nil && *part.Dropout != 0:
		return nil, unsupported("model BPE with dropout")
	case part.Prefix != nil && *part.Prefix != "":
		return nil, unsupported("model BPE with a continuing_subword_prefix")
	case part.Suffix != nil && *part.Suffix != "":
		return nil, unsupported("model BPE with an end_of_word_suffix")
	}
	for token, id := range part.Vocab {
		if id < 0 {
			return nil, fault.New(fault.Mismatch, "token %q has the id %d", token, id)
		}
	}
	return build(&part)
}

func build(part *modelPart) (*bpe, error) {
	m := &bpe{vocab: part.Vocab, merges: make(map[pair]merge, len(part.Merges)), unknown: -1,
		fuseUnknown: part.FuseUnknown, ignoreMerges: part.IgnoreMerges}
	if part.Unknown != nil {
		id, ok := m.vocab[*part.Unknown]
		if !ok {
			return nil, fault.New(fault.Mismatch, "the unknown token %q is not in the vocabulary", *part.Unknown)
		}
		m.unknown = id
	}
	for rank, mp := range part.Merges {
		left, okLeft := m.vocab[mp[0]]
		right, okRight := m.vocab[mp[1]]
		id, ok := m.vocab[mp[0]+mp[1]]
		if !okLeft || !okRight || !ok {
			return nil, fault.New(fault.Mismatch, "merge %d of %.80q and %.80q: the parts and what they make are not all in the vocabulary",
				rank, mp[0], mp[1])
		}
		m.merges[pair{left, right}] = merge{int32(rank), id}
	}
	if part.ByteFallback {
		m.bytes = new([256]int32)
		for b := range m.bytes {
			id, ok := m.vocab[byteToken(b)]
			if !ok {
				id = -1
			}
			m.bytes[b] = id
		}
	}
	return m, nil
}
