package modelcard

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/manifest"
)

var (
	sec  = SealBegin + "\nnew\n" + SealEnd
	tags = "tags:\n- neuroseal\n- sealed\n"
	add  = Additions{Seal: []byte("new\n"), Tags: Tags()}
)

// TestAmend: where everything goes.
func TestAmend(t *testing.T) {
	base := add
	base.BaseModel, base.Relation = "org/name", "finetune"
	both := add
	both.Arena = []byte(ArenaBegin + "\nheld\n" + ArenaEnd + "\n")
	const baseLines = "base_model: org/name\nbase_model_relation: finetune\n"
	arena := ArenaBegin + "\nheld\n" + ArenaEnd
	end := "\n" + sec + "\n"
	body := "---\n# M\n" + end
	for _, c := range []struct {
		name       string
		add        Additions
		card, want string
		warn       string
	}{
		{"empty", add, "", "---\n" + tags + "---\n" + end, ""},
		{"no front matter", add, "# M\n", "---\n" + tags + body, ""},
		{"with base", base, "# M\n", "---\n" + tags + baseLines + body, ""},
		{"resistance too", both, "# M\n", "---\n" + tags + body + "\n" + arena + "\n", ""},
		{"resistance replaced", both, "a\n" + ArenaBegin + "\nold\n" + ArenaEnd + "\nb\n", "---\n" + tags + "---\na\n" + arena + "\nb\n" + end, ""},
		{"resistance kept", add, "a\n" + arena + "\n", "---\n" + tags + "---\na\n" + arena + "\n" + end, ""},
		{"keys", base, "---\nlicense: mit # mine\n---\n# M\n", "---\nlicense: mit # mine\n" + tags + baseLines + body, ""},
		{"author's base", base, "---\nbase_model: a/b\n---\n# M\n", "---\nbase_model: a/b\n" + tags + body, ""},
		{"author's relation", base, "---\nbase_model_relation: merge\n---\n# M\n", "---\nbase_model_relation: merge\n" + tags + "base_model: org/name\n" + body, ""},
		{"tags", add, "---\ntags:\n- a\n  # why\n- b # c\nlicense: mit\n---\n# M\n", "---\ntags:\n- a\n  # why\n- b # c\n- neuroseal\n- sealed\nlicense: mit\n" + body, ""},
		{"indented tags", add, "---\ntags:\n    - a\nlicense: mit\n---\n# M\n", "---\ntags:\n    - a\n    - neuroseal\n    - sealed\nlicense: mit\n" + body, ""},
		{"one tag there", add, "---\ntags:\n- sealed\n---\n# M\n", "---\ntags:\n- sealed\n- neuroseal\n" + body, ""},
		{"tags of several lines", add, "---\ntags:\n- a\n- >-\n  b\n  c\nx: y\n---\n# M\n", "---\ntags:\n- neuroseal\n- sealed\n- a\n- >-\n  b\n  c\nx: y\n" + body, ""},
		{"tags in brackets", add, "---\ntags: [a, 'b]', \"c\"] # d\n---\n# M\n", "---\ntags: [a, 'b]', \"c\", neuroseal, sealed] # d\n" + body, ""},
		{"trailing comma", add, "---\ntags: [a,]\n---\n# M\n", "---\ntags: [neuroseal, sealed, a,]\n" + body, ""},
		{"no tags in brackets", add, "---\ntags: []\n---\n# M\n", "---\ntags: [neuroseal, sealed]\n" + body, ""},
		{"tags over lines", add, "---\ntags: [\n  a,\n  b\n]\n---\n# M\n", "---\ntags: [\n  a,\n  b\n, neuroseal, sealed]\n" + body, ""},
		{"tags of nothing", add, "---\ntags:\nlicense: mit\n---\n# M\n", "---\ntags:\n- neuroseal\n- sealed\nlicense: mit\n" + body, ""},
		{"all keys indented", add, "---\n  license: mit\n---\n# M\n", "---\n  license: mit\n  tags:\n  - neuroseal\n  - sealed\n" + body, ""},
		{"comment only", add, "---\n# nothing yet\n---\n# M\n", "---\n# nothing yet\n" + tags + body, ""},
		{"empty front matter", add, "---\n---\n# M\n", "---\n" + tags + body, ""},
		{"literal at the end", add, "---\nx: |+\n  a\n\n---\n# M\n", "---\nx: |+\n  a\n\n" + tags + body, ""},
		{"windows", add, "---\r\nlicense: mit\r\n---\r\n# M\r\n", strings.ReplaceAll("---\nlicense: mit\n"+tags+body, "\n", "\r\n"), ""},
		{"byte order mark", add, "\ufeff---\nlicense: mit\n---\n# M\n", "\ufeff---\nlicense: mit\n" + tags + body, ""},
		{"no line end", add, "---\nlicense: mit\n---\n# M", "---\nlicense: mit\n" + tags + body, ""},
		{"front matter alone", add, "---\nlicense: mit\n---", "---\nlicense: mit\n" + tags + "---\n" + end, ""},
		{"rule in the body", add, "---\nlicense: mit\n---\na\n\n---\n\n---\nb: c\n---\n", "---\nlicense: mit\n" + tags + "---\na\n\n---\n\n---\nb: c\n---\n" + end, ""},

		{"string of tags", add, "---\ntags: a\n---\n# M\n", "---\ntags: a\n" + body, "not a list"},
		{"alias", add, "---\nx: &x [a]\ntags: *x\n---\n# M\n", "---\nx: &x [a]\ntags: *x\n" + body, "not a list"},
		{"merge key", add, "---\nx: &x {tags: [a]}\n<<: *x\n---\n# M\n", "---\nx: &x {tags: [a]}\n<<: *x\n" + body, "cannot be followed"},
		{"broken", add, "---\nlicense: [\n---\n# M\n", "---\nlicense: [\n" + body, "not valid YAML"},
		{"twice", add, "---\na: 1\na: 2\n---\n# M\n", "---\na: 1\na: 2\n" + body, "left alone"},
		{"a list", add, "---\n- a\n---\n# M\n", "---\n- a\n" + body, "not a list of keys"},
		{"a text", add, "---\nWelcome\n---\n# M\n", "---\nWelcome\n" + body, "not a list of keys"},
		{"braces", add, "---\n{a: b}\n---\n# M\n", "---\n{a: b}\n" + body, "not a list of keys"},
		{"two documents", add, "---\na: b\n--- \nc: d\n---\n# M\n", "---\na: b\n--- \nc: d\n" + body, "more than one"},
		{"no end", add, "---\na: b\n# M\n", "---\na: b\n# M\n" + end, "no end"},
		{"not text", add, "---\na: b\n---\n\xff\n", "---\na: b\n---\n\xff\n" + end, "not UTF-8"},
		{"too long", add, "---\na: " + strings.Repeat("b", maxFront) + "\n---\n", "---\na: " + strings.Repeat("b", maxFront) + "\n---\n" + end, "more than any hub"},
	} {
		r := amend(t, []byte(c.card), c.add)
		if got := string(r.Content); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
		}
		if all := strings.Join(r.Warnings, "; "); (c.warn == "") != (all == "") || !strings.Contains(all, c.warn) {
			t.Errorf("%s: warnings %q", c.name, all)
		}
	}
}

// TestNewCard: a card that did not exist gets a heading.
func TestNewCard(t *testing.T) {
	titled := add
	titled.Title = "Sealed model"
	if got, want := string(amend(t, nil, titled).Content), "---\n"+tags+"---\n\n# Sealed model\n\n"+sec+"\n"; got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
	if got, want := string(amend(t, []byte{}, titled).Content), "---\n"+tags+"---\n\n"+sec+"\n"; got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
}

// TestMarks: which marks count.
func TestMarks(t *testing.T) {
	old := SealBegin + "\nold\n" + SealEnd
	quoted := "```html\n" + old + "\n```\n"
	only := Additions{Seal: []byte("new")}
	for _, c := range []struct{ name, card, want string }{
		{"replaced", "a\n" + old + "\nb\n", "a\n" + sec + "\nb\n"},
		{"last line", "a\n" + old, "a\n" + sec},
		{"white space", "a\n" + SealBegin + " \nold\n" + SealEnd + "\t\nb\n", "a\n" + sec + "\nb\n"},
		{"windows", "a\r\n" + strings.ReplaceAll(old, "\n", "\r\n") + "\r\nb\r\n", "a\r\n" + strings.ReplaceAll(sec, "\n", "\r\n") + "\r\nb\r\n"},
		{"in prose", "write `" + SealBegin + "` here\n", "write `" + SealBegin + "` here\n\n" + sec + "\n"},
		{"in code", quoted, quoted + "\n" + sec + "\n"},
		{"after code", quoted + old + "\nb\n", quoted + sec + "\nb\n"},
		{"open code", "~~~~\n" + old + "\n~~~\n", "~~~~\n" + old + "\n~~~\n~~~~\n\n" + sec + "\n"},
		{"after code in a list", "1. ```sh\n   a\n   ```\n" + old + "\nb\n", "1. ```sh\n   a\n   ```\n" + sec + "\nb\n"},
		{"no code in a list", "- ```sh\n  a\n  ```\nb\n", "- ```sh\n  a\n  ```\nb\n\n" + sec + "\n"},
		{"deep code in a list", "10. a\n\n    ```\n    " + SealBegin + "\n    ```\n", "10. a\n\n    ```\n    " + SealBegin + "\n    ```\n\n" + sec + "\n"},
		{"open code in a list", "- a\n  ```\n  b\n", "- a\n  ```\n  b\n\n" + sec + "\n"},
		{"open HTML", "<pre>\na\n", "<pre>\na\n</pre>\n\n" + sec + "\n"},
		{"open script", "a\n<SCRIPT type=x>\n\nb\n", "a\n<SCRIPT type=x>\n\nb\n</script>\n\n" + sec + "\n"},
		{"open comment", "a\n<!-- to do\n\n## b\n", "a\n<!-- to do\n\n## b\n-->\n\n" + sec + "\n"},
		{"open instruction", "<?php\n", "<?php\n?>\n\n" + sec + "\n"},
		{"open declaration", "<!DOCTYPE x\n\n", "<!DOCTYPE x\n\n>\n\n" + sec + "\n"},
		{"open character data", "<![CDATA[\n>\n", "<![CDATA[\n>\n]]>\n\n" + sec + "\n"},
		{"code in HTML", "<pre>\n```\n</pre>\n", "<pre>\n```\n</pre>\n\n" + sec + "\n"},
		{"HTML in code", "```\n<pre>\n```\n", "```\n<pre>\n```\n\n" + sec + "\n"},
		{"HTML that ends", "<pre>a</pre>\n<!-- b -->\n<!-->\n<!x>\n", "<pre>a</pre>\n<!-- b -->\n<!-->\n<!x>\n\n" + sec + "\n"},
		{"other tags", "<prefix>\n<div>\na <!-- b\n    <pre>\n", "<prefix>\n<div>\na <!-- b\n    <pre>\n\n" + sec + "\n"},
		{"open HTML in a list", "- <pre>\n  a\n", "- <pre>\n  a\n\n" + sec + "\n"},
		{"quoted in HTML", "<pre>\n" + old + "\n</pre>\n", "<pre>\n" + old + "\n</pre>\n\n" + sec + "\n"},
		{"in an open comment", "<!-- a\n" + old + "\nb\n", "<!-- a\n" + sec + "\nb\n"},
		{"rule, not a list", "---\n~~~\n" + old + "\n", "---\n~~~\n" + old + "\n~~~\n\n" + sec + "\n"},
		{"lost end", SealBegin + "\nprecious\n", SealBegin + "\nprecious\n\n" + sec + "\n"},
		{"lost end before a pair", SealBegin + "\nprecious\n" + old + "\n", SealBegin + "\nprecious\n" + sec + "\n"},
		{"lost beginning", "a\n" + SealEnd + "\nb\n", "a\n" + SealEnd + "\nb\n\n" + sec + "\n"},
		{"not text", SealBegin + "\n\xff\n" + SealEnd + "\n", SealBegin + "\n\xff\n" + SealEnd + "\n\n" + sec + "\n"},
		{"of the other kind", ArenaBegin + "\nold\n" + ArenaEnd + "\n", ArenaBegin + "\nold\n" + ArenaEnd + "\n\n" + sec + "\n"},
	} {
		for _, s := range []string{sec, sec + "\n", "new", "\nnew\n", strings.ReplaceAll(sec, "\n", "\r\n")} {
			only.Seal = []byte(s)
			if got := string(amend(t, []byte(c.card), only).Content); got != c.want {
				t.Errorf("%s, section %q:\n%q, want\n%q", c.name, s, got, c.want)
			}
		}
	}
}

// amend amends and holds what every amendment must.
func amend(t rapid.TB, card []byte, add Additions) Result {
	t.Helper()
	r := Amend(bytes.Clone(card), add)
	if back := revert(t, r); !bytes.Equal(back, card) {
		t.Fatalf("taken back:\n%q, was\n%q", back, card)
	}
	if again := Amend(r.Content, add); !bytes.Equal(again.Content, r.Content) || len(again.Edits) > 0 {
		t.Fatalf("amended twice:\n%q, once\n%q", again.Content, r.Content)
	}
	other := add
	other.Seal = []byte("## Other\n\n```yaml\na: b\n```\n")
	over := Amend(r.Content, other)
	if direct := Amend(card, other); card != nil && !bytes.Equal(over.Content, direct.Content) {
		t.Fatalf("amended over another:\n%q, directly\n%q", over.Content, direct.Content)
	}
	revert(t, over)
	return r
}

// revert takes the edits back as a manifest does.
func revert(t rapid.TB, r Result) []byte {
	t.Helper()
	var m manifest.Manifest
	for _, e := range r.Edits {
		m.Patches = append(m.Patches, manifest.Patch{Path: Name, Offset: e.Offset, Before: e.Before, After: e.After})
	}
	back, ok := m.Revert(Name, r.Content)
	if !ok {
		t.Fatalf("edits %+v do not fit\n%q", r.Edits, r.Content)
	}
	return back
}

// TestAmendProperties: amending is idempotent and can be taken back, whatever
// the card; front matter that is valid stays so, and keeps what it said.
func TestAmendProperties(t *testing.T) {
	line := rapid.SampledFrom([]string{"", "# Model", "---", "--- ", "...", "text " + SealBegin, SealBegin, SealEnd, ArenaBegin + " ", ArenaEnd, " " + SealEnd,
		"```", "```yaml", "~~~~", "<pre>", "</pre>", "<!-- a", "-->", "- <style>", "<?x", "<!A", "<![CDATA[", ">", "]]>", "   ```", "1. ```sh", "-", "\t- ~~~", "| a |", "é\r", "\xc3", "\ufeff", "tags:", "tags: [a, b]", "tags: []", "- a", "  - b # c", "base_model: a/b", "license: mit",
		"x: |", "  y", "x: &a [c]", "tags: *a", "# comment", "'tags': [", "]", "\u2028", "a: \u0085b", "? k", ": v", "!!set", "%YAML 1.1", "\t"})
	text := rapid.Custom(func(t *rapid.T) []byte {
		eol := rapid.SampledFrom([]string{"\n", "\n", "\r\n", "\r"}).Draw(t, "eol")
		s := strings.Join(rapid.SliceOfN(line, 0, 12).Draw(t, "lines"), eol)
		if rapid.Bool().Draw(t, "front matter") {
			s = "---" + eol + s
		}
		if rapid.Bool().Draw(t, "ends") {
			s += eol
		}
		return []byte(s)
	})
	rapid.Check(t, func(t *rapid.T) {
		card := text.Draw(t, "card")
		a := Additions{Seal: text.Draw(t, "seal"), Tags: Tags(), Title: "t"}
		if rapid.Bool().Draw(t, "resistance") {
			a.Arena = text.Draw(t, "resistance")
		}
		if rapid.Bool().Draw(t, "base") {
			a.BaseModel, a.Relation = "org/name", "finetune"
		}
		r := amend(t, card, a)
		keeps(t, card, r)
	})
}

// keeps demands that front matter still says what it said.
func keeps(t rapid.TB, card []byte, r Result) {
	t.Helper()
	was, is := metadata(card), metadata(r.Content)
	if was == nil {
		return
	}
	for k, v := range was {
		old, list := v.([]any)
		got, _ := is[k].([]any)
		switch {
		case k == "tags" && list:
			rest := slices.DeleteFunc(slices.Clone(got), func(x any) bool {
				return (x == "neuroseal" || x == "sealed") && !slices.Contains(old, x)
			})
			if len(rest) != len(old) || len(old) > 0 && !reflect.DeepEqual(rest, old) {
				t.Fatalf("tags %v became %v", old, got)
			}
		case k == "tags" && v == nil && got != nil:
		case fmt.Sprint(is[k]) != fmt.Sprint(v):
			t.Fatalf("%s: %v became %v", k, v, is[k])
		}
	}
}

func metadata(card []byte) map[string]any {
	f := findFront(card)
	var m map[string]any
	if !f.found || yaml.Unmarshal(card[f.from:f.to], &m) != nil {
		return nil
	}
	return m
}

// FuzzAmend holds the same of any bytes.
func FuzzAmend(f *testing.F) {
	for _, s := range []string{"", "---\n---\n", "---\ntags: [a]\nx: |\n  ---\n---\n# M", "\ufeff---\r\ntags:\r\n- a\r\n---\r\n", sec, "```\n" + sec + "\n",
		"---\n&a tags: &b\n- !!str c\n---\n", "---\n\"tags\": {}\n---\n", "---\ntags:\n-\n- - x\n---\n"} {
		f.Add([]byte(s), []byte("s"), true)
	}
	f.Fuzz(func(t *testing.T, card, section []byte, base bool) {
		if !bytes.Equal([]byte(string([]rune(string(section)))), section) {
			section = nil
		}
		a := Additions{Seal: append([]byte{}, section...), Tags: Tags()}
		if base {
			a.BaseModel, a.Relation = "org/name", "quantized"
		}
		keeps(t, card, amend(t, append([]byte{}, card...), a))
	})
}
