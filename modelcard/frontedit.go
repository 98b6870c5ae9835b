package modelcard

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// editor edits front matter as text. YAML has too many ways to write a value
// for a place in the text to be certain: every edit is read back, and kept only
// if it changed what it was to change.
type editor struct {
	text  string
	eol   string
	old   *mapping // of text
	edits []change // of text
}

// attempt keeps an edit if the front matter then reads as before, plus the
// items of the list tags and the keys in added.
func (e *editor) attempt(c change, tags []string, added map[string]string) bool {
	edits := append(slices.Clone(e.edits), c)
	slices.SortStableFunc(edits, func(a, b change) int { return a.at - b.at })
	before, _ := apply([]byte(e.text), e.edits)
	after, _ := apply([]byte(e.text), edits)
	was, err1 := readMapping(string(before))
	is, err2 := readMapping(string(after))
	if err1 != nil || err2 != nil || !grown(was, is, tags, added) {
		return false
	}
	e.edits = edits
	return true
}

// grown reports whether is holds what was does, in order, and exactly the
// given tags and keys in addition.
func grown(was, is *mapping, tags []string, added map[string]string) bool {
	if len(is.keys) < len(was.keys) {
		return false
	}
	for i, k := range was.keys {
		same := canonical(was.values[i]) == canonical(is.values[i])
		if is.keys[i] != k || !same && !(k == "tags" && longer(was.values[i], is.values[i], tags)) {
			return false
		}
	}
	for i, k := range is.keys[len(was.keys):] {
		v := is.values[len(was.keys)+i]
		want, ok := added[k]
		if k == "tags" && !ok {
			if !longer(nil, v, tags) {
				return false
			}
			continue
		}
		if !ok || v.Kind != yaml.ScalarNode || v.Value != want || v.ShortTag() != "!!str" {
			return false
		}
		delete(added, k)
	}
	t := is.get("tags")
	return len(added) == 0 && (len(tags) == 0 || t != nil && len(missing(t, tags)) == 0)
}

// longer reports whether a list is another with tags before or behind.
func longer(was, is *yaml.Node, tags []string) bool {
	if is.Kind != yaml.SequenceNode {
		return false
	}
	var old []*yaml.Node
	if was != nil && was.Kind == yaml.SequenceNode {
		if was.Anchor != is.Anchor {
			return false
		}
		old = was.Content
	}
	n := len(is.Content) - len(tags)
	if n != len(old) {
		return false
	}
	equal := func(items, others []*yaml.Node) bool {
		return slices.EqualFunc(items, others, func(a, b *yaml.Node) bool { return canonical(a) == canonical(b) })
	}
	ours := func(items []*yaml.Node) bool {
		return slices.EqualFunc(items, tags, func(a *yaml.Node, s string) bool { return a.Value == s && a.ShortTag() == "!!str" })
	}
	return equal(is.Content[:n], old) && ours(is.Content[n:]) || ours(is.Content[:len(tags)]) && equal(is.Content[len(tags):], old)
}

// canonical writes a value so that equal values give equal text. Aliases stand
// for their names.
func canonical(n *yaml.Node) string {
	var b strings.Builder
	var write func(*yaml.Node)
	write = func(n *yaml.Node) {
		fmt.Fprintf(&b, "(%d %q %q %q", n.Kind, n.ShortTag(), n.Anchor, n.Value)
		for _, c := range n.Content {
			write(c)
		}
		b.WriteByte(')')
	}
	write(n)
	return b.String()
}

// missing lists the tags that a list lacks.
func missing(list *yaml.Node, tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(s string) bool {
		return slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == s })
	})
}

// addTags adds what the list of tags lacks.
func (e *editor) addTags(tags []string) []string {
	if len(tags) == 0 {
		return nil
	}
	list := e.old.get("tags")
	var tries []change
	switch {
	case list == nil:
		tries = append(tries, e.atEnd(tagLines(e.old.indent, e.eol, tags)))
	case list.Kind == yaml.ScalarNode && list.Value == "" && list.ShortTag() == "!!null":
		tries = append(tries, e.atLine(list.Line+1, itemLines(e.old.indent, e.eol, tags)))
	case list.Kind != yaml.SequenceNode:
		return []string{"the tags in its front matter are not a list: none is added"}
	default:
		if tags = missing(list, tags); len(tags) == 0 {
			return nil
		}
		tries = e.listPlaces(list, tags)
	}
	for _, c := range tries {
		if c.at >= 0 && e.attempt(c, tags, nil) {
			return nil
		}
	}
	return []string{"the tags in its front matter are written in a way that cannot be added to: none is added"}
}

// listPlaces lists where items may be added to a list, the best first.
func (e *editor) listPlaces(list *yaml.Node, tags []string) []change {
	last := list
	if n := len(list.Content); n > 0 {
		last = list.Content[n-1]
	}
	if list.Style&yaml.FlowStyle == 0 {
		lines := itemLines(strings.Repeat(" ", max(list.Column-1, 0)), e.eol, tags)
		return []change{e.atLine(last.Line+1, lines), e.atLine(list.Line, lines)}
	}
	text := strings.Join(tags, ", ")
	if last == list {
		return e.behind(list, '[', text, "")
	}
	return append(e.behind(last, ']', "", ", "+text), e.behind(list, '[', text+", ", "")...)
}

// behind inserts after the next brackets of a kind that follow a node, or
// before them; which of them is the list's own shows when it is read back.
func (e *editor) behind(n *yaml.Node, bracket byte, after, before string) []change {
	const most = 4
	var out []change
	at := e.lineStart(n.Line)
	for at >= 0 && len(out) < most {
		i := strings.IndexByte(e.text[at:], bracket)
		if i < 0 {
			break
		}
		at += i
		place := at
		if after != "" {
			place++
		}
		out = append(out, change{place, place, before + after})
		at++
	}
	return out
}

// addBase adds the base model where the author names none.
func (e *editor) addBase(add Additions) []string {
	if add.BaseModel == "" || e.old.get("base_model") != nil {
		return nil
	}
	if e.old.get("base_model_relation") != nil {
		add.Relation = ""
	}
	added := map[string]string{"base_model": add.BaseModel}
	if add.Relation != "" {
		added["base_model_relation"] = add.Relation
	}
	if e.attempt(e.atEnd(baseLines(e.old.indent, e.eol, add)), nil, added) {
		return nil
	}
	return []string{"its front matter is written in a way that cannot be added to: it gets no base_model"}
}

func (e *editor) atEnd(lines string) change { return change{len(e.text), len(e.text), lines} }

// atLine inserts lines before the line of that number, counted from 1.
func (e *editor) atLine(n int, lines string) change {
	at := e.lineStart(n)
	return change{at, at, lines}
}

// lineStart is where a line begins, -1 if there is no such line.
func (e *editor) lineStart(n int) int {
	at := 0
	for range n - 1 {
		i := strings.IndexByte(e.text[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
	}
	return at
}
