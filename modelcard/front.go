package modelcard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFront bounds front matter that is edited, in bytes.
const maxFront = 256 << 10

// front is a card's front matter, as the hub's own library finds it: between
// the first line, after white space, and the next that is nothing but "---".
type front struct {
	start    int // where it begins, or would: after a byte order mark
	from, to int // its text, from is after the first line, to before the last
	body     int // where the rest of the card begins
	found    bool
	unclosed bool // it begins and does not end
}

var bom = []byte("\ufeff")

func findFront(card []byte) front {
	f := front{}
	if bytes.HasPrefix(card, bom) {
		f.start, f.body = len(bom), len(bom)
	}
	text := bytes.TrimLeft(card[f.start:], " \t\r\n\f\v")
	at := len(card) - len(text)
	first, _, ended := bytes.Cut(text, []byte("\n"))
	if !ended || strings.TrimRight(string(first), " \t\r") != "---" {
		return f
	}
	f.from = at + len(first) + 1
	f.unclosed = true
	if strings.TrimRight(string(first), "\r") != "---" {
		return f // the hub's library does not take it for front matter
	}
	at = f.from
	for line := range bytes.Lines(card[f.from:]) {
		if s := string(line); s == "---\n" || s == "---\r\n" || s == "---" || s == "---\r" { // the last two at the end
			f.to, f.body, f.found, f.unclosed = at, at+len(line), true, false
			return f
		}
		at += len(line)
	}
	return f
}

// amend lists the edits that put tags and base model into the front matter, or
// a new front matter into the card.
func (f front) amend(card []byte, eol string, add Additions) (edits []change, warnings []string) {
	leave := func(why string) ([]change, []string) {
		return nil, []string{why + ": its metadata are left alone"}
	}
	switch {
	case len(add.Tags) == 0 && add.BaseModel == "":
		return nil, nil
	case f.unclosed:
		return leave("its front matter has no end, a line of three dashes and nothing else")
	case !f.found:
		text := "---" + eol + tagLines("", eol, add.Tags) + baseLines("", eol, add) + "---" + eol
		return []change{{f.start, f.start, text}}, nil
	case f.to-f.from > maxFront:
		return leave(fmt.Sprintf("its front matter has %d bytes, more than any hub reads", f.to-f.from))
	}
	e := &editor{text: string(card[f.from:f.to]), eol: eol}
	var err error
	if e.old, err = readMapping(e.text); err != nil {
		return leave(err.Error())
	}
	warnings = append(e.addTags(add.Tags), e.addBase(add)...)
	for i := range e.edits {
		e.edits[i].at += f.from
		e.edits[i].end += f.from
	}
	return e.edits, warnings
}

func tagLines(indent, eol string, tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	return indent + "tags:" + eol + itemLines(indent, eol, tags)
}

func itemLines(indent, eol string, items []string) string {
	var b strings.Builder
	for _, s := range items {
		b.WriteString(indent + "- " + s + eol)
	}
	return b.String()
}

func baseLines(indent, eol string, add Additions) string {
	if add.BaseModel == "" {
		return ""
	}
	lines := indent + "base_model: " + add.BaseModel + eol
	if add.Relation != "" {
		lines += indent + "base_model_relation: " + add.Relation + eol
	}
	return lines
}

// mapping is front matter that was read.
type mapping struct {
	keys   []string
	values []*yaml.Node
	indent string // of its keys
}

func (m *mapping) get(key string) *yaml.Node {
	if i := slices.Index(m.keys, key); i >= 0 {
		return m.values[i]
	}
	return nil
}

// readMapping reads front matter, which must be one block mapping.
func readMapping(text string) (*mapping, error) {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return &mapping{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("its front matter is not valid YAML (%s)", firstLine(err))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("its front matter is more than one YAML document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return &mapping{}, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Value == "" && root.Style == 0 && root.Anchor == "" {
		return &mapping{}, nil // comments only
	}
	if root.Kind != yaml.MappingNode || root.Style&yaml.FlowStyle != 0 {
		return nil, errors.New("its front matter is not a list of keys and values, line by line")
	}
	m := &mapping{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k := root.Content[i]
		if k.Kind != yaml.ScalarNode || k.Value == "<<" || slices.Contains(m.keys, k.Value) {
			return nil, fmt.Errorf("its front matter has a key that cannot be followed (line %d)", k.Line)
		}
		m.keys = append(m.keys, k.Value)
		m.values = append(m.values, root.Content[i+1])
	}
	if len(m.keys) > 0 {
		m.indent = strings.Repeat(" ", max(root.Content[0].Column-1, 0))
	}
	return m, nil
}

// firstLine is an error of the parser without its own prefix.
func firstLine(err error) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
	return s
}
