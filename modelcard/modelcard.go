// Package modelcard writes what a seal has to say into a model card: README.md
// of a checkpoint, Markdown with YAML front matter, which hubs show as the
// model's page. It only adds to what the author wrote, and tells every edit, so
// that all of them can be taken back byte for byte.
package modelcard

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Name is the model card's file name.
const Name = "README.md"

// MaxSize bounds a card that is amended, in bytes.
const MaxSize = 16 << 20

// Additions are what goes into a card.
type Additions struct {
	Seal  []byte // Markdown of the seal's section, as [Section] writes it
	Arena []byte // Markdown of the section of measured resistance; nil leaves the card's own
	Tags  []string
	// BaseModel is the id on the hub of what was sealed, "" if it is not known;
	// Relation is what hubs are to call it.
	BaseModel, Relation string
	Title               string // heading of a card that did not exist
}

// Edit is a change to a card: at Offset of the new card, After stands where the
// old one had Before. Both are valid UTF-8.
type Edit struct {
	Offset        int
	Before, After string
}

// Result is an amended card.
type Result struct {
	Content  []byte
	Edits    []Edit   // in rising order, and apart from each other
	Warnings []string // what was left alone, and why
}

// Amend returns a card with the additions: tags and base model in the front
// matter, where they are not there already, and the sections between marks, in
// place of those of an earlier seal or at the end. A nil card is one that does
// not exist. All other bytes stay. Front matter that is not understood is left
// alone, with a warning. Amending again with the same additions changes nothing.
func Amend(card []byte, add Additions) Result {
	var r Result
	eol := lineEnd(card)
	var edits []change
	f := findFront(card)
	switch {
	case !utf8.Valid(card):
		r.Warnings = append(r.Warnings, "it is not UTF-8 text: its metadata are left alone")
	default:
		var warnings []string
		edits, warnings = f.amend(card, eol, add)
		r.Warnings = append(r.Warnings, warnings...)
	}
	if card == nil && add.Title != "" {
		edits = append(edits, change{text: eol + "# " + add.Title + eol})
	}
	edits = append(edits, sections(card, f.body, eol, add)...)
	slices.SortStableFunc(edits, func(a, b change) int { return a.at - b.at })
	r.Content, r.Edits = apply(card, edits)
	return r
}

// sections lists the edits that put the sections into the card's body.
func sections(card []byte, body int, eol string, add Additions) []change {
	var edits []change
	end := ending{card: card, body: body, eol: eol}
	for _, s := range []struct {
		mark mark
		text []byte
	}{{sealMark, add.Seal}, {arenaMark, add.Arena}} {
		if s.text == nil {
			continue
		}
		text := s.mark.enclose(s.text, eol)
		if from, to, ok := s.mark.find(card, body); ok {
			edits = append(edits, change{from, to, text})
			continue
		}
		edits = append(edits, end.add(text))
	}
	return edits
}

// ending adds sections at a card's end.
type ending struct {
	card  []byte
	body  int
	eol   string
	again bool
}

// add puts an empty line before a section, and ends what would swallow it.
func (e *ending) add(section string) change {
	n := len(e.card)
	before := ""
	if !e.again {
		if n > 0 && e.card[n-1] != '\n' {
			before = e.eol
		}
		if open := leftOpen(e.card[e.body:]); open != "" {
			before += open + e.eol
		}
	}
	e.again = true
	return change{n, n, before + e.eol + section + e.eol}
}

// change replaces bytes of the old card.
type change struct {
	at, end int
	text    string
}

// apply makes changes that are in order and do not overlap; those that touch
// become one edit.
func apply(card []byte, changes []change) ([]byte, []Edit) {
	var out bytes.Buffer
	var edits []Edit
	at := 0
	for _, c := range changes {
		if string(card[c.at:c.end]) == c.text {
			continue
		}
		out.Write(card[at:c.at])
		if k := len(edits) - 1; k >= 0 && edits[k].Offset+len(edits[k].After) == out.Len() && c.at == at {
			edits[k].Before += string(card[c.at:c.end])
			edits[k].After += c.text
		} else {
			edits = append(edits, Edit{Offset: out.Len(), Before: string(card[c.at:c.end]), After: c.text})
		}
		out.WriteString(c.text)
		at = c.end
	}
	out.Write(card[at:])
	return out.Bytes(), edits
}

// lineEnd is how a card ends its lines, by the first.
func lineEnd(card []byte) string {
	if line, _, _ := bytes.Cut(card, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		return "\r\n"
	}
	return "\n"
}
