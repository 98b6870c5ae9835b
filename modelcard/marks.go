package modelcard

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// Marks of the sections, each alone on its line.
const (
	SealBegin  = "<!-- neuroseal:seal -->"
	SealEnd    = "<!-- /neuroseal:seal -->"
	ArenaBegin = "<!-- neuroseal:card -->"
	ArenaEnd   = "<!-- /neuroseal:card -->"
)

// mark is a pair of marks.
type mark struct{ begin, end string }

var (
	sealMark  = mark{SealBegin, SealEnd}
	arenaMark = mark{ArenaBegin, ArenaEnd}
)

// isMark reports whether a line is one of the given marks.
func isMark(line []byte, marks ...string) bool {
	return slices.Contains(marks, string(bytes.TrimRight(line, " \t\r\n")))
}

// enclose returns a section's lines between one pair of marks, without the last
// line end. Marks in it are dropped, and code that it leaves open is ended.
func (m mark) enclose(section []byte, eol string) string {
	lines := []string{m.begin}
	for line := range bytes.Lines(bytes.Trim(bytes.ToValidUTF8(section, []byte("\ufffd")), "\r\n")) {
		text := string(bytes.TrimRight(line, "\r\n"))
		switch {
		case isMark(line, SealBegin, SealEnd, ArenaBegin, ArenaEnd):
			continue
		case text == "---":
			text = " ---" // the same Markdown, but never the end of front matter
		}
		lines = append(lines, text)
	}
	if open := openFence([]byte(strings.Join(lines, "\n"))); open != "" {
		lines = append(lines, open)
	}
	return strings.Join(append(lines, m.end), eol)
}

// find finds the first pair of marks in a card's body with no other beginning
// between them. Marks in fenced code are the author's text, and so is what is
// not UTF-8. to is before the line end of the last.
func (m mark) find(card []byte, body int) (from, to int, ok bool) {
	at, open := body, -1
	var f fence
	for line := range bytes.Lines(card[body:]) {
		text := bytes.TrimRight(line, "\r\n")
		switch inside := f.read(text); {
		case inside:
		case isMark(text, m.begin):
			open = at
		case isMark(text, m.end) && open >= 0:
			if to := at + len(text); utf8.Valid(card[open:to]) {
				return open, to, true
			}
			open = -1
		}
		at += len(line)
	}
	return 0, 0, false
}

// fence follows fenced code blocks, line by line, as CommonMark has them, at the
// top and in the items of lists.
type fence struct {
	char byte
	n    int // characters that opened it; 0: none is open
	in   int // column at which the text of the list item around it begins; 0: no list
}

// read takes the next line and reports whether it belongs to a code block.
func (f *fence) read(line []byte) bool {
	column, text := indent(line, 0)
	if len(text) == 0 {
		return f.n > 0
	}
	if column < f.in { // the item ends, and what is open in it
		f.n, f.in = 0, 0
	}
	for f.n == 0 && column-f.in < 4 {
		k := listMarker(text)
		if k == 0 {
			break
		}
		from := column + k
		column, text = indent(text[k:], from)
		if len(text) == 0 || column-from > 4 {
			f.in = from + 1 // an item that begins with an empty line, or with code by indentation
			return false
		}
		f.in = column
	}
	n := 0
	for n < len(text) && (text[0] == '`' || text[0] == '~') && text[n] == text[0] {
		n++
	}
	rest := text[n:]
	near := column-f.in < 4
	switch {
	case f.n > 0:
		if near && n >= f.n && text[0] == f.char && len(bytes.TrimRight(rest, " \t\r")) == 0 {
			f.n = 0
		}
		return true
	case near && n >= 3 && (text[0] == '~' || bytes.IndexByte(rest, '`') < 0):
		f.char, f.n = text[0], n
		return true
	}
	return false
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

// openFence returns the line that ends the code block that a text leaves open,
// "" if there is none.
func openFence(text []byte) string {
	var f fence
	for line := range bytes.Lines(text) {
		f.read(bytes.TrimRight(line, "\r\n"))
	}
	if f.in > 0 {
		return "" // it ends with the list, before the next line that is not indented
	}
	return strings.Repeat(string(f.char), f.n)
}
