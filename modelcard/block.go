package modelcard

import (
	"bytes"
	"strings"
)

// block follows, line by line, the parts of a Markdown text that only a line of
// their own ends, as CommonMark has them: fenced code and raw HTML, at the top and
// in the items of lists. What such a part leaves open swallows all that follows.
type block struct {
	char byte  // of the fence
	n    int   // characters that opened the fence; 0: none is open
	html *html // what is open; nil: nothing
	in   int   // column at which the text of the list item around it begins; 0: no list
}

// html is a kind of raw HTML that goes on over empty lines.
type html struct {
	begin string   // in small letters
	ends  []string // any of which ends it, in small letters
	end   string   // the line that ends one that was left open
	tag   bool     // begin is a tag's name: a letter behind it makes it another one
}

var (
	rawEnds = []string{"</pre>", "</script>", "</style>", "</textarea>"}
	htmls   = []html{
		{"<pre", rawEnds, "</pre>", true}, {"<script", rawEnds, "</script>", true},
		{"<style", rawEnds, "</style>", true}, {"<textarea", rawEnds, "</textarea>", true},
		{begin: "<!--", ends: []string{"-->"}, end: "-->"},
		{begin: "<?", ends: []string{"?>"}, end: "?>"},
		{begin: "<![cdata[", ends: []string{"]]>"}, end: "]]>"},
	}
	declaration = html{begin: "<!", ends: []string{">"}, end: ">"} // and a letter
)

// read takes the next line and reports whether it belongs to code or raw HTML. A
// mark in a comment that was left open does not: it ends the comment.
func (b *block) read(line []byte) bool {
	column, text := indent(line, 0)
	if len(text) == 0 {
		return b.n > 0 || b.html != nil
	}
	if column < b.in { // the item ends, and what is open in it
		*b = block{}
	}
	if b.html != nil {
		h := b.html
		if h.endsIn(text) {
			b.html = nil
		}
		return h.begin != "<!--" || !isMark(line, SealBegin, SealEnd, ArenaBegin, ArenaEnd)
	}
	for b.n == 0 && column-b.in < 4 {
		k := listMarker(text)
		if k == 0 {
			break
		}
		from := column + k
		column, text = indent(text[k:], from)
		if len(text) == 0 || column-from > 4 {
			b.in = from + 1 // an item that begins with an empty line, or with code by indentation
			return false
		}
		b.in = column
	}
	if b.n == 0 && column-b.in < 4 {
		if b.html = opened(text); b.html != nil {
			return true
		}
	}
	return b.fence(column, text)
}

// fence reads a line for what opens or closes fenced code.
func (b *block) fence(column int, text []byte) bool {
	n := 0
	for n < len(text) && (text[0] == '`' || text[0] == '~') && text[n] == text[0] {
		n++
	}
	rest := text[n:]
	near := column-b.in < 4
	switch {
	case b.n > 0:
		if near && n >= b.n && text[0] == b.char && len(bytes.TrimRight(rest, " \t\r")) == 0 {
			b.n = 0
		}
		return true
	case near && n >= 3 && (text[0] == '~' || bytes.IndexByte(rest, '`') < 0):
		b.char, b.n = text[0], n
		return true
	}
	return false
}

// opened returns the raw HTML that a line begins and does not end, nil if there is
// none.
func opened(text []byte) *html {
	if text[0] != '<' {
		return nil
	}
	for i := range htmls {
		if h := &htmls[i]; h.beginsIn(text) {
			if h.endsIn(text) {
				return nil
			}
			return h
		}
	}
	if len(text) > 2 && text[1] == '!' && isLetter(text[2]) && !declaration.endsIn(text) {
		return &declaration
	}
	return nil
}

func (h *html) beginsIn(text []byte) bool {
	n := len(h.begin)
	if len(text) < n || !strings.EqualFold(string(text[:n]), h.begin) {
		return false
	}
	return !h.tag || len(text) == n || bytes.IndexByte([]byte(" \t>"), text[n]) >= 0
}

func (h *html) endsIn(text []byte) bool {
	low := strings.ToLower(string(text))
	for _, e := range h.ends {
		if strings.Contains(low, e) {
			return true
		}
	}
	return false
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// leftOpen returns the line that ends what a text leaves open, "" if that is
// nothing.
func leftOpen(text []byte) string {
	var b block
	for line := range bytes.Lines(text) {
		b.read(bytes.TrimRight(line, "\r\n"))
	}
	switch {
	case b.in > 0:
		return "" // it ends with the list, before the next line that is not indented
	case b.html != nil:
		return b.html.end
	}
	return strings.Repeat(string(b.char), b.n)
}

// indent skips white space, which begins at a column, and returns the column
// behind it and the rest without what ends the line.
func indent(line []byte, column int) (int, []byte) {
	for i, c := range line {
		switch c {
		case ' ':
			column++
		case '\t':
			column += 4 - column%4
		default:
			return column, bytes.TrimRight(line[i:], "\r\n")
		}
	}
	return column, nil
}

// listMarker is the length of the marker that begins an item of a list, 0 if
// there is none.
func listMarker(text []byte) int {
	n := 0
	for n < min(len(text), 9) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	if n == len(text) || n > 0 && text[n] != '.' && text[n] != ')' || n == 0 && text[0] != '-' && text[0] != '*' && text[0] != '+' {
		return 0
	}
	if n++; n < len(text) && text[n] != ' ' && text[n] != '\t' {
		return 0
	}
	return n
}
