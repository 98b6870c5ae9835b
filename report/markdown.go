package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/modelcard"
)

// CardMarkdown writes the card as a Markdown section between the marks that
// [modelcard.Amend] looks for.
func CardMarkdown(w io.Writer, in []Input) error {
	if err := check(in); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(modelcard.ArenaBegin + "\n## Seal resistance, measured\n")
	runs := view(in)
	for i := range runs {
		markdownRun(&b, &runs[i], len(runs) > 1)
	}
	fmt.Fprintf(&b, "\n*Held* means that the attacker's best run over swept learning rates learned less than %s of what the same attack teaches the unsealed model. "+
		"Inconclusive recipes did not teach even the unsealed model anything that counts: they prove nothing and stand in no figure.\n", share(arena.HeldBelow))
	b.WriteString(modelcard.ArenaEnd + "\n")
	return write(w, []byte(b.String()), "the card")
}

func markdownRun(b *strings.Builder, r *run, several bool) {
	s := r.sum
	if several {
		fmt.Fprintf(b, "\n### %s\n", markdown(r.Label))
	}
	// The line begins with our own words: what begins a line may be markup.
	fmt.Fprintf(b, "\nMeasured %s on %s (%s) with recipe table %s, suite %s, engine %s, %s trials.\n\n",
		markdown(day(s.Date)), markdown(r.Name), markdown(r.Seal), markdown(plain(s.TableVersion, nameLimit)),
		markdown(plain(s.Suite, nameLimit)), markdown(plain(s.Engine, nameLimit)), count(int64(s.Trials)))
	b.WriteString("| Attacks | Held / tried | Besides | |\n|---|---|---|---|\n")
	for i := range r.Classes {
		c := &r.Classes[i]
		fmt.Fprintf(b, "| **%s** %s | %d / %d | %s | %s |\n", c.Class, c.Short, c.Held, c.Tried, c.Rest(), c.Means)
	}
	if k := r.Break; k != nil {
		fmt.Fprintf(b, "\nCheapest known break: **%s** (class %s), %s, %s read.\n", markdown(k.Recipe), markdown(string(k.Class)), k.Seconds, k.Bytes)
	} else {
		b.WriteString("\nCheapest known break: none among the recipes tried, which is no proof that there is none.\n")
	}
	if limits := r.limits(); len(limits) > 0 {
		b.WriteString("\n")
		for _, l := range limits {
			fmt.Fprintf(b, "- %s\n", markdown(l))
		}
	}
}

// markdown escapes plain text: no character of it is markup, HTML or a link.
func markdown(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '<':
			out.WriteString("&lt;")
			continue
		case r == '>':
			out.WriteString("&gt;")
			continue
		case r == '&':
			out.WriteString("&amp;")
			continue
		case strings.ContainsRune("\\`*_{}[]()#!|~$", r), r == '@', (r == ':' || r == '.') && beginsLink(out.String()):
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// beginsLink tells whether a colon or dot would make a bare link, as in https:
// and www.
func beginsLink(s string) bool {
	s = strings.ToLower(s[max(0, len(s)-5):])
	return strings.HasSuffix(s, "http") || strings.HasSuffix(s, "https") || strings.HasSuffix(s, "ftp") || strings.HasSuffix(s, "www")
}
