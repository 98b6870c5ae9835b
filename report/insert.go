package report

import "bytes"

// Markers of the card's section in a model card, each alone on its line.
const (
	cardBegin = "<!-- neuroseal:card -->"
	cardEnd   = "<!-- /neuroseal:card -->"
)

// Insert returns a model card with the section that [CardMarkdown] wrote: in
// the place of the card's own section, or at its end if it has none. All else,
// front matter included, keeps its bytes; the section takes on the card's line
// ends. Inserting the same section again changes nothing.
func Insert(card, section []byte) []byte {
	eol := []byte("\n")
	if line, _, _ := bytes.Cut(card, eol); bytes.HasSuffix(line, []byte("\r")) {
		eol = []byte("\r\n")
	}
	section = marked(section, eol)
	if from, to, ok := findSection(card); ok {
		return bytes.Join([][]byte{card[:from], section, card[to:]}, nil)
	}
	out := bytes.Clone(card)
	if len(out) > 0 {
		if out[len(out)-1] != '\n' {
			out = append(out, eol...)
		}
		out = append(out, eol...)
	}
	return append(append(out, section...), eol...)
}

// marked returns a section's lines between one pair of markers, without the
// last line end.
func marked(section, eol []byte) []byte {
	out := [][]byte{[]byte(cardBegin)}
	body := bytes.Trim(section, "\r\n")
	for line := range bytes.Lines(body) {
		line = bytes.TrimRight(line, "\r\n")
		if !isMarker(line, cardBegin) && !isMarker(line, cardEnd) {
			out = append(out, line)
		}
	}
	return bytes.Join(append(out, []byte(cardEnd)), eol)
}

// findSection finds the first pair of markers with no other beginning between
// them; to is before the line end of the last.
func findSection(card []byte) (from, to int, ok bool) {
	at, open := 0, -1
	for line := range bytes.Lines(card) {
		text := bytes.TrimRight(line, "\r\n")
		switch {
		case isMarker(text, cardBegin):
			open = at
		case isMarker(text, cardEnd) && open >= 0:
			return open, at + len(text), true
		}
		at += len(line)
	}
	return 0, 0, false
}

func isMarker(line []byte, marker string) bool {
	return string(bytes.TrimRight(line, " \t")) == marker
}
