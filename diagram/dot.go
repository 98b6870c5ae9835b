package diagram

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// DOT writes the diagram for Graphviz.
func (d *Diagram) DOT(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "digraph %s {\n  rankdir=TB; label=%s; labelloc=t; fontname=\"sans-serif\";\n", quote(d.Title), quote(d.caption()))
	fmt.Fprint(b, "  node [fontname=\"sans-serif\", fontsize=11]; edge [arrowsize=0.6];\n")
	for i, it := range d.items {
		form := map[shape]string{operation: "box, style=rounded", weight: "box, style=filled, fillcolor=\"#f4f4f4\"", move: "plaintext", outside: "ellipse, style=dashed"}[it.shape]
		fmt.Fprintf(b, "  n%d [label=%s, shape=%s%s];\n", i, quote(strings.Join(it.lines, "\n")), form, paint(it.groups, ", color"))
	}
	for _, e := range d.edges {
		fmt.Fprintf(b, "  n%d -> n%d [%s];\n", e.from, e.to, strings.TrimPrefix(paint(e.groups, ", color"), ", "))
	}
	fmt.Fprintln(b, "  subgraph cluster_groups { label=\"groups\"; style=dotted;")
	for i, g := range d.Groups {
		fmt.Fprintf(b, "    g%d [label=%s, shape=box, style=filled, fillcolor=\"%s\", fontcolor=white];\n", i, quote(fmt.Sprintf("%s (%d)", g.ID, g.Classes)), color(i))
	}
	fmt.Fprintln(b, "  }\n}")
	return b.Flush()
}

// paint is the colour attribute of what moves with some groups, as parallel
// lines; grey for what does not move.
func paint(groups []int, key string) string {
	if len(groups) == 0 {
		return key + "=\"#999999\""
	}
	var cs []string
	for _, g := range groups[:min(len(groups), 4)] {
		cs = append(cs, color(g))
	}
	return key + "=\"" + strings.Join(cs, ":") + "\", penwidth=2"
}

func (d *Diagram) caption() string {
	if d.Note == "" {
		return d.Title
	}
	return d.Title + " (" + d.Note + ")"
}

// quote makes a DOT string.
func quote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "")
	return `"` + r.Replace(s) + `"`
}
