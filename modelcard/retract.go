package modelcard

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Retract takes what a seal added out of a card that was edited since then, and
// keeps the rest. edits are those of [Amend]. If they are nil, all of the card was
// the seal's; the content is nil, too, where nothing of anybody else is left. The
// warnings tell what could not be told apart from what people wrote, and what of
// theirs stood within a section and is gone.
func Retract(card []byte, edits []Edit) (content []byte, warnings []string) {
	content = card
	sections := []Edit{{After: sealMark.begin + "\n" + sealMark.end}, {After: arenaMark.begin + "\n" + arenaMark.end}}
	if edits != nil {
		sections = slices.DeleteFunc(slices.Clone(edits), func(e Edit) bool { return !hasMark(e.After) })
	}
	sections = slices.DeleteFunc(sections, func(e Edit) bool {
		at := bytes.Index(content, []byte(e.After))
		if !once(content, e.After) || at > 0 && content[at-1] != '\n' && !endsLine(e.After) {
			return false // not as it was written, or the line end before it is another line's now
		}
		content = bytes.Replace(content, []byte(e.After), []byte(e.Before), 1)
		return true
	})
	for _, m := range []mark{sealMark, arenaMark} {
		var lost bool
		if content, lost = m.retract(content, sections); lost && edits != nil {
			warnings = append(warnings, "what was changed within the seal's section is not kept")
		}
	}
	content, left := retractFront(content, edits)
	if left {
		warnings = append(warnings, "its front matter still holds what the seal added to it: take out the tags "+strings.Join(Tags(), " and "))
	}
	if edits == nil && nobodys(content) {
		return nil, nil
	}
	return append([]byte{}, content...), warnings
}

// once reports whether a text is in a card, in one place only.
func once(card []byte, text string) bool {
	return text != "" && bytes.Count(card, []byte(text)) == 1
}

// endsLine reports whether an edit with a section begins with the end of the card's
// last line, which had none. A section after a line that has one begins with an
// empty line or a mark.
func endsLine(after string) bool {
	rest, ok := strings.CutPrefix(unixLines(after), "\n")
	return ok && !strings.HasPrefix(rest, SealBegin) && !strings.HasPrefix(rest, ArenaBegin)
}

func hasMark(text string) bool {
	return strings.Contains(text, SealBegin) || strings.Contains(text, ArenaBegin)
}

// retract puts back what stood in the place of a section, and reports whether the
// section was no longer what the seal wrote.
func (m mark) retract(card []byte, edits []Edit) (content []byte, lost bool) {
	from, to, ok := m.find(card, findFront(card).body)
	if !ok {
		return card, false
	}
	now, before, written := string(card[from:to]), "", false
	for _, e := range edits {
		if section, ok := m.written(e.After); ok {
			written = true
			lost = unixLines(section) != unixLines(now)
			if a, b, ok := m.find([]byte(e.Before), 0); ok {
				before = e.Before[a:b]
			}
		}
	}
	if !written {
		return card, false // the author's own
	}
	if before == "" { // with the empty line before it and its own line's end
		line := bytes.TrimSuffix(bytes.TrimSuffix(card[:from], []byte("\n")), []byte("\r"))
		if len(line) < from && bytes.HasSuffix(line, []byte("\n")) {
			from = len(line)
		}
		to += len(card[to:]) - len(bytes.TrimPrefix(bytes.TrimPrefix(card[to:], []byte("\r")), []byte("\n")))
	}
	return slices.Concat(card[:from], []byte(before), card[to:]), lost
}

// unixLines is a text without what some editors put at the end of lines.
func unixLines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

// retractFront takes the tags and the base model out of the front matter, and
// reports whether some of them could not be.
func retractFront(card []byte, edits []Edit) (content []byte, left bool) {
	f := findFront(card)
	if !f.found {
		return card, false
	}
	r := &remover{text: string(card[f.from:f.to]), tags: addedTags(edits)}
	var err error
	if r.old, err = readMapping(r.text); err != nil {
		return card, slices.ContainsFunc(r.tags, func(tag string) bool { return strings.Contains(r.text, tag) })
	}
	whole := false
	for _, e := range edits {
		added := addedFront(e)
		if strings.HasPrefix(added, "---") {
			whole = true
		} else if !hasMark(e.After) && once([]byte(r.text), added) {
			r.attempt(strings.Replace(r.text, added, e.Before, 1))
		}
		for line := range strings.Lines(added) {
			if strings.HasPrefix(strings.TrimSpace(line), "base_model") {
				r.drop(func(s string) bool { return s == strings.TrimSpace(line) })
			}
		}
	}
	r.dropTags()
	if whole && len(r.old.keys) == 0 {
		return slices.Concat(card[:f.start], card[f.body:]), false
	}
	return slices.Concat(card[:f.from], []byte(r.text), card[f.to:]), r.has()
}

// addedFront is the part of an edit that may be front matter.
func addedFront(e Edit) string {
	text, _, _ := strings.Cut(e.After, "<!-- neuroseal:")
	return text
}

// addedTags are those tags of the seal that its edits brought in.
func addedTags(edits []Edit) []string {
	if edits == nil {
		return Tags()
	}
	return slices.DeleteFunc(Tags(), func(tag string) bool {
		return !slices.ContainsFunc(edits, func(e Edit) bool {
			for line := range strings.Lines(addedFront(e)) {
				if strings.Contains(line, tag) && !strings.Contains(line, "base_model") {
					return true
				}
			}
			return false
		})
	})
}

// remover edits front matter as text, as editor does: what is tried is read back,
// and kept only if nothing but what the seal added is gone.
type remover struct {
	text string
	old  *mapping // of text
	tags []string
}

func (r *remover) attempt(text string) {
	m, err := readMapping(text)
	if err == nil && text != r.text && shed(r.old, m, r.tags) {
		r.text, r.old = text, m
	}
}

// drop tries to remove the lines that are chosen by their text.
func (r *remover) drop(choose func(line string) bool) {
	var b strings.Builder
	for line := range strings.Lines(r.text) {
		if !choose(strings.TrimSpace(line)) {
			b.WriteString(line)
		}
	}
	r.attempt(b.String())
}

// dropTags tries the ways in which tags are written.
func (r *remover) dropTags() {
	if !r.has() {
		return
	}
	item := func(line string) bool {
		s, ok := strings.CutPrefix(line, "-")
		return ok && slices.Contains(r.tags, strings.Trim(strings.TrimSpace(s), `"'`))
	}
	r.drop(func(line string) bool { return line == "tags:" || item(line) })
	if r.has() {
		r.drop(item)
	}
	for _, tag := range r.tags {
		for _, s := range []string{", " + tag, tag + ", ", "," + tag, tag + ",", tag} {
			if once([]byte(r.text), s) {
				r.attempt(strings.Replace(r.text, s, "", 1))
			}
		}
	}
}

// has reports whether the list still has a tag that was added.
func (r *remover) has() bool {
	list := r.old.get("tags")
	return list != nil && len(missing(list, r.tags)) < len(r.tags)
}

// shed reports whether is holds what was does, in order, but for some of the
// tags and for the base model.
func shed(was, is *mapping, tags []string) bool {
	rest := *is
	for i, k := range was.keys {
		if len(rest.keys) == 0 || rest.keys[0] != k {
			if strings.HasPrefix(k, "base_model") || k == "tags" && equalLists(without(was.values[i], tags), nil) {
				continue
			}
			return false
		}
		v := rest.values[0]
		rest.keys, rest.values = rest.keys[1:], rest.values[1:]
		if canonical(was.values[i]) != canonical(v) && !(k == "tags" && equalLists(without(was.values[i], tags), without(v, tags))) {
			return false
		}
	}
	return len(rest.keys) == 0
}

// without lists the items of a list that are none of tags.
func without(list *yaml.Node, tags []string) []*yaml.Node {
	return slices.DeleteFunc(slices.Clone(list.Content), func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && slices.Contains(tags, n.Value)
	})
}

func equalLists(a, b []*yaml.Node) bool {
	return slices.EqualFunc(a, b, func(x, y *yaml.Node) bool { return canonical(x) == canonical(y) })
}

// nobodys reports whether a card that a seal wrote holds nothing else any more.
func nobodys(card []byte) bool {
	f := findFront(card)
	if f.found {
		m, err := readMapping(string(card[f.from:f.to]))
		if err != nil || slices.ContainsFunc(m.keys, func(k string) bool { return !strings.HasPrefix(k, "base_model") }) {
			return false
		}
	}
	body := strings.TrimSpace(string(card[f.body:]))
	return body == "" || title.MatchString(body)
}

// title is the heading that lock gives a card.
var title = regexp.MustCompile(`^# (?:Sealed model|[^\n]*, sealed)$`)
