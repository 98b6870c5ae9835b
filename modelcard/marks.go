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
// line end. Marks in it are dropped, and code or HTML that it leaves open is ended.
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
	if open := leftOpen([]byte(strings.Join(lines, "\n"))); open != "" {
		lines = append(lines, open)
	}
	return strings.Join(append(lines, m.end), eol)
}

// find finds the first pair of marks in a card's body with no other beginning
// between them. Marks in fenced code and in raw HTML are the author's text, and so
// is what is not UTF-8. to is before the line end of the last.
func (m mark) find(card []byte, body int) (from, to int, ok bool) {
	at, open := body, -1
	var b block
	for line := range bytes.Lines(card[body:]) {
		text := bytes.TrimRight(line, "\r\n")
		switch inside := b.read(text); {
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

// written finds the section in what an edit wrote. What stands before it there may
// end code or HTML that the card left open, and opens none.
func (m mark) written(after string) (section string, ok bool) {
	at := 0
	for line := range strings.Lines(after) {
		if isMark([]byte(line), m.begin) {
			from, to, ok := m.find([]byte(after), at)
			return after[from:to], ok
		}
		at += len(line)
	}
	return "", false
}
