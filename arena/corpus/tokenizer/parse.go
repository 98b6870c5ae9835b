package tokenizer

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// A file's members; those that only decode ids, or put special tokens around
// them, are not read.
type file struct {
	Added        []addedToken    `json:"added_tokens"`
	Normalizer   json.RawMessage `json:"normalizer"`
	PreTokenizer json.RawMessage `json:"pre_tokenizer"`
	Model        json.RawMessage `json:"model"`
}

// A parser builds the parts; timeout is that of one search by a pattern.
type parser struct{ timeout time.Duration }

func parse(data []byte) (*Tokenizer, error) { return parser{matchTimeout}.file(data) }

func (p parser) file(data []byte) (*Tokenizer, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "reading it as JSON")
	}
	t := &Tokenizer{raw: newMatcher(), normal: newMatcher(), added: map[string]int32{}}
	var err error
	if t.model, err = p.model(f.Model); err != nil {
		return nil, err
	}
	if t.normalize, err = p.normalizer(f.Normalizer); err != nil {
		return nil, err
	}
	if t.split, err = p.splitters(f.PreTokenizer); err != nil {
		return nil, err
	}
	for _, id := range t.model.vocab {
		t.max = max(t.max, id)
	}
	return t, t.addTokens(f.Added)
}

// addTokens takes special tokens first: of two with one text, they count.
func (t *Tokenizer) addTokens(tokens []addedToken) error {
	for _, special := range []bool{true, false} {
		for _, a := range tokens {
			if a.Special != special {
				continue
			}
			if a.ID < 0 {
				return fault.New(fault.Mismatch, "added token %q has the id %d", a.Content, a.ID)
			}
			if _, ok := t.added[a.Content]; !ok {
				t.added[a.Content] = a.ID
			}
			t.max = max(t.max, a.ID)
			to, text := t.raw, a.Content
			if a.Normalized {
				to = t.normal
				if t.normalize != nil {
					var err error
					if text, err = t.normalize(text); err != nil {
						return err
					}
				}
			}
			to.add(text, a)
		}
	}
	return nil
}

// kind reads the type of a part.
func kind(raw json.RawMessage, what string) (string, error) {
	var k struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &k); err != nil {
		return "", fault.Wrap(fault.Mismatch, err, "%s", what)
	}
	return k.Type, nil
}

// strict reads a part of which every member is known.
func strict(raw json.RawMessage, what string, to any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fault.Wrap(fault.Unsupported, err, "%s", what)
	}
	return nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// A pattern is {"String": …} or {"Regex": …}.
type pattern struct {
	String *string
	Regex  *string
}

func (p parser) finder(pt pattern, what string) (finder, error) {
	switch {
	case pt.Regex != nil && pt.String == nil:
		return findRegexp(*pt.Regex, p.timeout)
	case pt.String != nil && pt.Regex == nil && *pt.String != "":
		return findLiteral(*pt.String), nil
	}
	return nil, fault.New(fault.Unsupported, "%s: its pattern is neither a string nor a regular expression", what)
}

func (p parser) normalizer(raw json.RawMessage) (normalizer, error) {
	if absent(raw) {
		return nil, nil
	}
	name, err := kind(raw, "normalizer")
	if err != nil {
		return nil, err
	}
	what := "normalizer " + name
	var part struct {
		Type        string            `json:"type"`
		Normalizers []json.RawMessage `json:"normalizers"`
		Prepend     string            `json:"prepend"`
		Pattern     pattern           `json:"pattern"`
		Content     string            `json:"content"`
	}
	if err := strict(raw, what, &part); err != nil {
		return nil, err
	}
	switch name {
	case "NFC":
		return form(norm.NFC), nil
	case "NFD":
		return form(norm.NFD), nil
	case "NFKC":
		return form(norm.NFKC), nil
	case "NFKD":
		return form(norm.NFKD), nil
	case "Lowercase":
		return lower, nil
	case "Prepend":
		return prepend(part.Prepend), nil
	case "Replace":
		f, err := p.finder(part.Pattern, what)
		if err != nil {
			return nil, err
		}
		return replace(f, part.Content), nil
	case "Sequence":
		var all []normalizer
		for _, r := range part.Normalizers {
			n, err := p.normalizer(r)
			if err != nil {
				return nil, err
			}
			if n != nil {
				all = append(all, n)
			}
		}
		return inOrder(all), nil
	}
	return nil, unsupported(what)
}

func unsupported(what string) error {
	return fault.New(fault.Unsupported, "%s is not supported", what).
		WithHint("give the training data as tokens of a checkpoint whose tokenizer is BPE over bytes, or BPE with byte fallback")
}

func (p parser) splitters(raw json.RawMessage) ([]splitter, error) {
	if absent(raw) {
		return nil, nil
	}
	name, err := kind(raw, "pre_tokenizer")
	if err != nil {
		return nil, err
	}
	if name == "Sequence" {
		var part struct {
			Type string            `json:"type"`
			All  []json.RawMessage `json:"pretokenizers"`
		}
		if err := strict(raw, "pre_tokenizer Sequence", &part); err != nil {
			return nil, err
		}
		var all []splitter
		for _, r := range part.All {
			s, err := p.splitters(r)
			if err != nil {
				return nil, err
			}
			all = append(all, s...)
		}
		return all, nil
	}
	s, err := p.splitter(raw, name)
	if err != nil {
		return nil, err
	}
	return []splitter{s}, nil
}

func (p parser) splitter(raw json.RawMessage, name string) (splitter, error) {
	what := "pre_tokenizer " + name
	part := struct {
		Type             string  `json:"type"`
		AddPrefixSpace   *bool   `json:"add_prefix_space"`
		TrimOffsets      bool    `json:"trim_offsets"`
		UseRegex         bool    `json:"use_regex"`
		Pattern          pattern `json:"pattern"`
		Behavior         string  `json:"behavior"`
		Invert           bool    `json:"invert"`
		IndividualDigits bool    `json:"individual_digits"`
		Replacement      string  `json:"replacement"`
		StrRep           string  `json:"str_rep"`
		PrependScheme    string  `json:"prepend_scheme"`
		Split            bool    `json:"split"`
	}{UseRegex: true, Split: true}
	if err := strict(raw, what, &part); err != nil {
		return nil, err
	}
	behavior := behaviors[part.Behavior]
	if behavior == nil && (name == "Split" || name == "Punctuation") {
		return nil, unsupported(what + " with the behavior " + part.Behavior)
	}
	switch name {
	case "ByteLevel":
		var find finder
		if part.UseRegex {
			var err error
			if find, err = findRegexp(words, p.timeout); err != nil {
				return nil, err
			}
		}
		return byteLevel(part.AddPrefixSpace == nil || *part.AddPrefixSpace, find), nil
	case "Split":
		f, err := p.finder(part.Pattern, what)
		if err != nil {
			return nil, err
		}
		if part.Invert {
			f = inverted(f)
		}
		return cutBy(f, behavior), nil
	case "Digits":
		if part.IndividualDigits {
			return cutBy(findRune(isNumber), behaviors["Isolated"]), nil
		}
		return cutBy(findRune(isNumber), behaviors["Contiguous"]), nil
	case "Punctuation":
		return cutBy(findRune(isPunctuation), behavior), nil
	case "WhitespaceSplit":
		return cutBy(findRune(isSpace), behaviors["Removed"]), nil
	case "Metaspace":
		return parseMetaspace(what, part.Replacement, part.PrependScheme, part.AddPrefixSpace, part.Split)
	}
	return nil, unsupported(what)
}

func parseMetaspace(what, replacement, scheme string, prefix *bool, split bool) (splitter, error) {
	r, n := utf8.DecodeRuneInString(replacement)
	if n == 0 || n != len(replacement) {
		return nil, fault.New(fault.Unsupported, "%s: the replacement %q is not one character", what, replacement)
	}
	switch {
	case scheme == "" && prefix != nil && !*prefix:
		scheme = "never"
	case scheme == "":
		scheme = "always"
	case scheme != "always" && scheme != "first" && scheme != "never":
		return nil, unsupported(what + " with the prepend_scheme " + scheme)
	}
	return metaspace(r, scheme, split), nil
}
