package modelcard

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestRetract: what people write into a sealed model's card stays, and what the
// seal wrote goes.
func TestRetract(t *testing.T) {
	const author = "---\nlicense: mit\ntags:\n- tiny\n---\n# M\n\ntext\n"
	based := add
	based.BaseModel, based.Relation = "org/x-sealed", "finetune"
	both := based
	both.Arena = []byte("held\n")
	old := "# M\n\n" + SealBegin + "\nolder\n" + SealEnd + "\nrest\n"
	swap := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	for _, c := range []struct {
		name, card string
		add        Additions
		edit       func(string) string
		want       string
		warn       string
	}{
		{"text above", author, both, swap("text\n", "text and more\n"), strings.Replace(author, "text\n", "text and more\n", 1), ""},
		{"text below", author, both, func(s string) string { return s + "\nbelow\n" }, author + "\nbelow\n", ""},
		{"a key", author, based, swap("license: mit\n", "license: apache-2.0\n"), strings.Replace(author, "mit", "apache-2.0", 1), ""},
		{"a tag behind", author, based, swap("- sealed\n", "- sealed\n- mine\n"), strings.Replace(author, "- tiny\n", "- tiny\n- mine\n", 1), ""},
		{"a tag between", author, based, swap("- sealed\n", "- mine\n- sealed\n"), strings.Replace(author, "- tiny\n", "- tiny\n- mine\n", 1), ""},
		{"tags written anew", author, add, swap("- tiny\n- neuroseal\n- sealed\n", "  - 'sealed'\n  - tiny\n  - \"neuroseal\"\n"), strings.Replace(author, "- tiny", "  - tiny", 1), ""},
		{"tags in brackets", author, add, swap("\n- tiny\n- neuroseal\n- sealed\n", " [sealed, tiny, neuroseal]\n"), strings.Replace(author, "\n- tiny", " [tiny]", 1), ""},
		{"tags that hide", author, add, swap("\n- tiny\n- neuroseal\n- sealed\n", " [tiny, \"neu\\x72oseal\", sealed]\n"), strings.Replace(author, "\n- tiny", " [tiny, \"neu\\x72oseal\"]", 1), "still holds"},
		{"another base", author, based, swap("base_model: org/x-sealed", "base_model: org/y"), strings.Replace(author, "- tiny\n", "- tiny\nbase_model: org/y\n", 1), ""},
		{"the author's own tag", "---\ntags: [sealed]\n---\na\n", based, swap("a\n", "b\n"), "---\ntags: [sealed]\n---\nb\n", ""},
		{"no front matter before", "# M\n", based, swap("# M", "# N"), "# N\n", ""},
		{"a license where there was no front matter", "# M\n", based, swap("tags:", "license: mit\ntags:"), "---\nlicense: mit\n---\n# M\n", ""},
		{"front matter broken", author, add, swap("license: mit", "license: ["), strings.Replace(strings.Replace(author, "mit", "[", 1), "- tiny", "- tiny\n- neuroseal\n- sealed", 1), "still holds"},
		{"the section", author, both, swap("\nnew\n", "\nnewer\n"), author, "within the seal's section"},
		{"the section taken out", author, both, swap("\n"+sec+"\n", ""), author, ""},
		{"all in Windows lines", author, both, func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }, strings.ReplaceAll(author, "\n", "\r\n"), ""},
		{"a seal before this one", old, both, swap("rest", "others"), strings.Replace(old, "rest", "others", 1), ""},
		{"resistance was the author's", "a\n" + ArenaBegin + "\nold\n" + ArenaEnd + "\n", add, swap("a\n", "b\n"), "b\n" + ArenaBegin + "\nold\n" + ArenaEnd + "\n", ""},
		{"code left open", "~~~\n", add, func(s string) string { return s + "below\n" }, "~~~\nbelow\n", ""},
		{"code left open without a line end", "a\n~~~", add, swap("a\n", "b\n"), "b\n~~~", ""},
		{"a comment left open, the section edited", "<!-- a\n", add, swap("\nnew\n", "\nnewer\n"), "<!-- a\n-->\n", "within the seal's section"},
		{"text at the end of a card without a line end", "a", both, swap("a\n", "a b\n"), "a b", ""},
		{"a card of its own", "", add, func(string) string { return "---\nlicense: mit\n---\n# Mine\n" }, "---\nlicense: mit\n---\n# Mine\n", ""},
	} {
		r := Amend([]byte(c.card), c.add)
		edited := c.edit(string(r.Content))
		if edited == string(r.Content) {
			t.Fatalf("%s: nothing was edited:\n%s", c.name, edited)
		}
		got, warnings := Retract([]byte(edited), r.Edits)
		if string(got) != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
		if all := strings.Join(warnings, "; "); (c.warn == "") != (all == "") || !strings.Contains(all, c.warn) {
			t.Errorf("%s: warnings %q", c.name, all)
		}
	}
}

// TestRetractNew: a card that a seal wrote goes, unless people wrote into it.
func TestRetractNew(t *testing.T) {
	add := add
	add.Arena, add.BaseModel, add.Relation = []byte("held\n"), "org/name", "finetune"
	for _, title := range []string{"Sealed model", "org/name, sealed"} {
		add.Title = title
		r := Amend(nil, add)
		if got, _ := Retract(r.Content, nil); got != nil {
			t.Errorf("left: %q", got)
		}
		got, _ := Retract([]byte(strings.Replace(string(r.Content), "\nnew\n", "\nnewer\n", 1)), nil)
		if got != nil {
			t.Errorf("left: %q", got)
		}
		got, warnings := Retract(append(slices.Clone(r.Content), "precious\n"...), nil)
		if s := string(got); !strings.HasSuffix(s, "precious\n") || strings.Contains(s, "new") || strings.Contains(s, "tags") || len(warnings) > 0 {
			t.Errorf("%q, %q", s, warnings)
		}
	}
}

// TestRetractProperties: no line of the author's or of a later editor is lost,
// and nothing of the section stays.
func TestRetractProperties(t *testing.T) {
	line := rapid.SampledFrom([]string{"", "# Model", "---", "text", "```", "- a", "  b", "<pre>", "</pre>", "<!-- open", "-->", "tags:", "tags: [a, sealed]", "base_model: a/b", "license: mit", "- neuroseal", "x: |", "é"})
	text := func(name string) *rapid.Generator[string] {
		return rapid.Map(rapid.SliceOfN(line, 0, 8), func(l []string) string { return strings.Join(l, "\n") + "\n" })
	}
	rapid.Check(t, func(t *rapid.T) {
		card := text("card").Draw(t, "card")
		if rapid.Bool().Draw(t, "front matter") {
			card = "---\nlicense: mit\n---\n" + card
		}
		a := Additions{Seal: []byte("the section\n"), Tags: Tags(), BaseModel: "org/name", Relation: "finetune"}
		r := Amend([]byte(card), a)
		lines := strings.SplitAfter(string(r.Content), "\n")
		at := rapid.IntRange(0, len(lines)).Draw(t, "at")
		edited := strings.Join(slices.Insert(slices.Clone(lines), at, "precious\n"), "")
		got, warnings := Retract([]byte(edited), r.Edits)
		inside := false // of the section
		if from, to, ok := sealMark.find([]byte(edited), findFront([]byte(edited)).body); ok {
			inside = strings.Contains(edited[from:to], "precious")
		}
		if !bytes.Contains(got, []byte("precious\n")) && !(inside && len(warnings) > 0) {
			t.Fatalf("the edit is gone:\n%q from\n%q", got, edited)
		}
		for l := range strings.Lines(card) {
			if strings.Count(string(got), l) < strings.Count(card, l) {
				t.Fatalf("%q is gone:\n%q from\n%q", l, got, edited)
			}
		}
	})
}

// FuzzRetract: whatever became of a card, something comes back, and of a card that
// nobody edited no section stays.
func FuzzRetract(f *testing.F) {
	f.Add([]byte("# M\n"), []byte("---\ntags: [sealed\n"), true)
	f.Add([]byte("---\ntags:\n- a\n---\n<pre>\n"), []byte(sec+"\n"+sec), false)
	f.Add([]byte("\ufeff---\r\n---\r\n"), []byte("---\n<!-- \n"+SealEnd), true)
	f.Add([]byte("~~~"), []byte("- ~~~"), false)
	f.Add([]byte("<pre>"), []byte("~~~\n"), true)
	f.Fuzz(func(t *testing.T, card, edited []byte, base bool) {
		a := Additions{Seal: []byte("the section\n"), Tags: Tags()}
		if base {
			a.BaseModel, a.Relation = "org/name", "finetune"
		}
		r := Amend(card, a)
		for _, edits := range [][]Edit{r.Edits, nil, {}} {
			Retract(edited, edits)
			Retract(append(bytes.Clone(r.Content), edited...), edits)
		}
		got, _ := Retract(r.Content, r.Edits)
		if n := bytes.Count(card, []byte(SealBegin)); bytes.Count(got, []byte(SealBegin)) > n {
			t.Fatalf("the section stays:\n%q from\n%q", got, r.Content)
		}
	})
}
