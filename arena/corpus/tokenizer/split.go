package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A splitter is a pre-tokenizer: it cuts a piece into the words that merges do
// not cross, and may rewrite them.
type splitter func(p piece) ([]piece, error)

// apply runs a splitter over all pieces and drops the empty ones.
func apply(s splitter, pieces []piece) ([]piece, error) {
	var out []piece
	for _, p := range pieces {
		parts, err := s(p)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if part.text != "" {
				out = append(out, part)
			}
		}
	}
	return out, nil
}

// A span is a part of a text; the spans of one search cover the text.
type span struct {
	from, to int
	match    bool
}

// A finder divides a text into matches and what is between them.
type finder func(s string) ([]span, error)

// findLiteral finds a string; an empty one nowhere.
func findLiteral(pattern string) finder {
	return func(s string) ([]span, error) {
		var out []span
		at := 0
		for pattern != "" {
			i := strings.Index(s[at:], pattern)
			if i < 0 {
				break
			}
			if i > 0 {
				out = append(out, span{at, at + i, false})
			}
			at += i + len(pattern)
			out = append(out, span{at - len(pattern), at, true})
		}
		if at < len(s) {
			out = append(out, span{at, len(s), false})
		}
		return out, nil
	}
}

// findRune finds single characters.
func findRune(is func(rune) bool) finder {
	return func(s string) ([]span, error) {
		var out []span
		at := 0
		for i, r := range s {
			if !is(r) {
				continue
			}
			if at < i {
				out = append(out, span{at, i, false})
			}
			at = i + utf8.RuneLen(r)
			out = append(out, span{i, at, true})
		}
		if at < len(s) {
			out = append(out, span{at, len(s), false})
		}
		return out, nil
	}
}

// inverted swaps matches and what is between them.
func inverted(f finder) finder {
	return func(s string) ([]span, error) {
		spans, err := f(s)
		for i := range spans {
			spans[i].match = !spans[i].match
		}
		return spans, err
	}
}

// behaviors say what becomes of the matches, under the names of the file.
var behaviors = map[string]func([]span) []span{
	"Removed": func(in []span) []span {
		return slices.DeleteFunc(in, func(s span) bool { return s.match })
	},
	"Isolated": func(in []span) []span { return in },
	"Contiguous": func(in []span) []span {
		out := in[:0]
		for _, s := range in {
			if n := len(out); n > 0 && out[n-1].match == s.match {
				out[n-1].to = s.to
				continue
			}
			out = append(out, s)
		}
		return out
	},
	"MergedWithPrevious": func(in []span) []span {
		out, after := in[:0], false
		for _, s := range in {
			if n := len(out); s.match && !after && n > 0 {
				out[n-1].to = s.to
			} else {
				out = append(out, s)
			}
			after = s.match
		}
		return out
	},
	"MergedWithNext": func(in []span) []span {
		var out []span
		before := false
		for _, s := range slices.Backward(in) {
			if n := len(out); s.match && !before && n > 0 {
				out[n-1].from = s.from
			} else {
				out = append(out, s)
			}
			before = s.match
		}
		slices.Reverse(out)
		return out
	},
}

// cutBy splits at what f finds.
func cutBy(f finder, behavior func([]span) []span) splitter {
	return func(p piece) ([]piece, error) {
		spans, err := f(p.text)
		if err != nil {
			return nil, err
		}
		var out []piece
		for _, s := range behavior(spans) {
			out = append(out, piece{text: p.text[s.from:s.to], first: p.first && s.from == 0})
		}
		return out, nil
	}
}

func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < 0x80 && strings.ContainsRune("$+<=>^`|~", r)
}

// words is how GPT-2 splits text.
const words = `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// byteLevel writes every byte as a character that is visible, as GPT-2 does.
func byteLevel(prefixSpace bool, find finder) splitter {
	return func(p piece) ([]piece, error) {
		if prefixSpace && !strings.HasPrefix(p.text, " ") {
			p.text = " " + p.text
		}
		out := []piece{p}
		if find != nil {
			var err error
			if out, err = cutBy(find, behaviors["Isolated"])(p); err != nil {
				return nil, err
			}
		}
		for i := range out {
			out[i].text = visible(out[i].text)
		}
		return out, nil
	}
}

// byteRunes are GPT-2's characters for the bytes: printable ones of Latin-1
// stand for themselves, the others are U+0100 and up in their order.
var byteRunes = func() (t [256]rune) {
	next := rune(0x100)
	for b := range t {
		switch {
		case '!' <= b && b <= '~', 0xA1 <= b && b <= 0xAC, 0xAE <= b:
			t[b] = rune(b)
		default:
			t[b] = next
			next++
		}
	}
	return t
}()

func visible(s string) string {
	out := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		out = utf8.AppendRune(out, byteRunes[s[i]])
	}
	return string(out)
}

// metaspace writes spaces as the replacement character and puts one in front.
func metaspace(replacement rune, scheme string, split bool) splitter {
	mark := string(replacement)
	cut := cutBy(findLiteral(mark), behaviors["MergedWithNext"])
	return func(p piece) ([]piece, error) {
		p.text = strings.ReplaceAll(p.text, " ", mark)
		if (scheme == "always" || scheme == "first" && p.first) && !strings.HasPrefix(p.text, mark) {
			p.text = mark + p.text
		}
		if !split {
			return []piece{p}, nil
		}
		return cut(p)
	}
}
