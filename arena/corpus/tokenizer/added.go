package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// A piece of text on its way to ids.
type piece struct {
	text  string
	first bool // begins where the encoded text begins
	token bool // is an added token, of this id
	id    int32
}

type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// matcher finds added tokens: of those that begin first, the longest.
type matcher struct {
	tokens []addedToken
	nodes  []trieNode
	begins [256]bool
}

type trieNode struct {
	next  map[byte]int32
	token int32 // index into tokens; -1: none ends here
}

func newMatcher() *matcher { return &matcher{nodes: []trieNode{{token: -1}}} }

// add makes the matcher find text and report t. Of two tokens with one text the
// first counts.
func (m *matcher) add(text string, t addedToken) {
	if text == "" {
		return
	}
	m.begins[text[0]] = true
	at := int32(0)
	for i := range len(text) {
		next, ok := m.nodes[at].next[text[i]]
		if !ok {
			next = int32(len(m.nodes))
			m.nodes = append(m.nodes, trieNode{token: -1})
			if m.nodes[at].next == nil {
				m.nodes[at].next = make(map[byte]int32, 1)
			}
			m.nodes[at].next[text[i]] = next
		}
		at = next
	}
	if m.nodes[at].token < 0 {
		m.nodes[at].token = int32(len(m.tokens))
		m.tokens = append(m.tokens, t)
	}
}

// find returns the longest token that begins at the start of s.
func (m *matcher) find(s string) (t *addedToken, length int) {
	at := int32(0)
	for i := range len(s) {
		next, ok := m.nodes[at].next[s[i]]
		if !ok {
			break
		}
		if at = next; m.nodes[at].token >= 0 {
			t, length = &m.tokens[m.nodes[at].token], i+1
		}
	}
	return t, length
}

// cut separates added tokens from the text between them. A token that strips
// takes the white space beside it along, even where another match begins in it.
func (m *matcher) cut(p piece) []piece {
	var out []piece
	s, done := p.text, 0
	for i := 0; i < len(s); {
		if !m.begins[s[i]] {
			i++
			continue
		}
		t, n := m.find(s[i:])
		if t == nil {
			i++
			continue
		}
		start, end := i, i+n
		i = end
		if t.SingleWord && !(alone(s[:start], s[end:])) {
			continue
		}
		if t.LStrip {
			start = max(trimRight(s[:start]), done)
		}
		if t.RStrip {
			end += leadingSpace(s[end:])
		}
		if done < start {
			out = append(out, piece{text: s[done:start], first: p.first && done == 0})
		}
		out = append(out, piece{token: true, id: t.ID})
		done = end
	}
	if done < len(s) {
		out = append(out, piece{text: s[done:], first: p.first && done == 0})
	}
	return out
}

// alone reports that neither neighbour is part of a word.
func alone(before, after string) bool {
	l, _ := utf8.DecodeLastRuneInString(before)
	r, _ := utf8.DecodeRuneInString(after)
	return (before == "" || !wordRune(l)) && (after == "" || !wordRune(r))
}

// wordRune is \w as Rust's regular expressions have it.
func wordRune(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

// trimRight returns the length of s without the white space at its end.
func trimRight(s string) int {
	for s != "" {
		r, n := utf8.DecodeLastRuneInString(s)
		if !unicode.IsSpace(r) {
			break
		}
		s = s[:len(s)-n]
	}
	return len(s)
}

// leadingSpace returns how many bytes of white space s begins with.
func leadingSpace(s string) int {
	for i, r := range s {
		if !unicode.IsSpace(r) {
			return i
		}
	}
	return len(s)
}
