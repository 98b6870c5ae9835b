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

// fence follows fenced code blocks, line by line, as CommonMark has them.
type fence struct {
	char byte
	n    int // characters that opened it; 0: none is open
}

// read takes the next line and reports whether it belongs to a code block.
func (f *fence) read(line []byte) bool {
	text := bytes.TrimLeft(line, " ")
	indent := len(line) - len(text)
	n := 0
	for n < len(text) && (text[0] == '`' || text[0] == '~') && text[n] == text[0] {
		n++
	}
	rest := text[n:]
	switch {
	case f.n > 0:
		if indent < 4 && n >= f.n && text[0] == f.char && len(bytes.TrimRight(rest, " \t\r")) == 0 {
			f.n = 0
		}
		return true
	case indent < 4 && n >= 3 && (text[0] == '~' || bytes.IndexByte(rest, '`') < 0):
		f.char, f.n = text[0], n
		return true
	}
	return false
}

// openFence returns the line that ends the code block that a text leaves open,
// "" if there is none.
func openFence(text []byte) string {
	var f fence
	for line := range bytes.Lines(text) {
		f.read(bytes.TrimRight(line, "\r\n"))
	}
	return strings.Repeat(string(f.char), f.n)
}
