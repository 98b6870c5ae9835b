package tokenizer

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// The files' patterns are written for Oniguruma's Ruby syntax; the engine here
// has .NET's. Most constructs mean the same in both. translate rewrites those
// that do not but can be expressed (nested character classes, possessive
// quantifiers), and refuses the rest.

// matchTimeout bounds one search: a pattern that goes back over the text
// exponentially often ends in an error.
const matchTimeout = 20 * time.Second

// findRegexp compiles a pattern to a finder.
func findRegexp(pattern string, timeout time.Duration) (finder, error) {
	translated, err := translate(pattern)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(translated, regexp2.Multiline)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "pattern %q", pattern)
	}
	re.MatchTimeout = timeout
	return func(s string) ([]span, error) {
		out, err := findAll(re, s)
		if err != nil {
			return nil, fault.Wrap(fault.Unsupported, err, "pattern %q on a text of %d bytes", pattern, len(s))
		}
		return out, nil
	}, nil
}

func findAll(re *regexp2.Regexp, s string) ([]span, error) {
	var (
		out         []span
		at, runesAt int // the same place, in bytes and in characters
		done        int
	)
	advance := func(runes int) int {
		for ; runesAt < runes; runesAt++ {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
		}
		return at
	}
	m, err := re.FindStringMatch(s)
	for m != nil && err == nil {
		from := advance(m.RuneIndex)
		to := advance(m.RuneIndex + m.RuneLength)
		if done < from {
			out = append(out, span{done, from, false})
		}
		out = append(out, span{from, to, true})
		done = to
		m, err = re.FindNextMatch(m)
	}
	if done < len(s) {
		out = append(out, span{done, len(s), false})
	}
	return out, err
}

// translator rewrites one pattern.
type translator struct {
	in, all string
	out     strings.Builder
	atom    int   // where in out the last atom begins, -1: none
	groups  []int // where in out the open groups begin
}

func translate(pattern string) (string, error) {
	t := &translator{in: pattern, all: pattern, atom: -1}
	if rest, ok := strings.CutPrefix(t.in, "(?i)"); ok {
		t.in = rest
		t.out.WriteString("(?i)")
	}
	for t.in != "" {
		if err := t.step(); err != nil {
			return "", err
		}
	}
	return t.out.String(), nil
}

func (t *translator) refuse(what string) error {
	return fault.New(fault.Unsupported, "pattern %q: %s is not supported", t.all, what)
}

// take moves n bytes over.
func (t *translator) take(n int) {
	t.out.WriteString(t.in[:n])
	t.in = t.in[n:]
}

func (t *translator) step() error {
	at := t.out.Len()
	switch c := t.in[0]; c {
	case '\\':
		t.atom = at
		return t.escape()
	case '[':
		t.atom = at
		return t.class(false)
	case '(':
		t.groups = append(t.groups, at)
		t.atom = -1
		return t.group()
	case ')':
		if len(t.groups) == 0 {
			return t.refuse("an unmatched )")
		}
		t.atom = t.groups[len(t.groups)-1]
		t.groups = t.groups[:len(t.groups)-1]
		t.take(1)
	case '*', '+', '?':
		t.quantifier(1)
	case '{':
		n := strings.IndexByte(t.in, '}')
		if n < 2 || t.in[1] < '0' || t.in[1] > '9' || strings.Trim(t.in[1:n], "0123456789,") != "" {
			return t.refuse("this use of {")
		}
		t.take(n + 1)
	case '|', '^', '$':
		t.atom = -1
		t.take(1)
	default:
		t.atom = at
		_, n := utf8.DecodeRuneInString(t.in)
		t.take(n)
	}
	return nil
}

// quantifier moves *, + or ? over; a possessive one becomes an atomic group.
func (t *translator) quantifier(n int) {
	if t.atom < 0 || len(t.in) <= n || t.in[n] != '+' {
		t.take(n)
		if t.in != "" && t.in[0] == '?' {
			t.take(1) // as few as possible
		}
		return
	}
	whole := t.out.String()
	t.out.Reset()
	t.out.WriteString(whole[:t.atom] + "(?>" + whole[t.atom:] + t.in[:n] + ")")
	t.in = t.in[n+1:]
}

func (t *translator) group() error {
	for _, opening := range []string{"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"} {
		if strings.HasPrefix(t.in, opening) {
			t.take(len(opening))
			return nil
		}
	}
	if strings.HasPrefix(t.in, "(?") {
		return t.refuse("the group " + t.in[:min(len(t.in), 4)])
	}
	t.take(1)
	return nil
}

// escape moves what begins with a backslash over.
func (t *translator) escape() error {
	if len(t.in) < 2 {
		return t.refuse(`a \ at the end`)
	}
	switch c := t.in[1]; {
	case c == 'p' || c == 'P':
		end := strings.IndexByte(t.in, '}')
		if end < 3 || t.in[2] != '{' {
			return t.refuse(t.in[:2] + " without braces")
		}
		name := t.in[3:end]
		if unicode.Categories[name] == nil && unicode.Scripts[name] == nil {
			return t.refuse(t.in[:end+1])
		}
		t.take(end + 1)
	case c == 'u' && len(t.in) >= 6 && strings.Trim(t.in[2:6], "0123456789abcdefABCDEF") == "":
		t.take(6)
	case strings.IndexByte("sSdDrnt", c) >= 0, c < 0x80 && !isWordByte(c):
		t.take(2)
	default:
		return t.refuse(t.in[:2])
	}
	return nil
}

func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// class moves a character class over. A class within a class adds its members.
func (t *translator) class(nested bool) error {
	t.in = t.in[1:]
	if !nested {
		t.out.WriteByte('[')
	}
	if strings.HasPrefix(t.in, "^") {
		if nested {
			return t.refuse("a negated class within a class")
		}
		t.take(1)
	}
	for empty := true; t.in != ""; empty = false {
		switch {
		case t.in[0] == ']':
			if empty {
				return t.refuse("an empty class")
			}
			if t.in = t.in[1:]; !nested {
				t.out.WriteByte(']')
			}
			return nil
		case strings.HasPrefix(t.in, "&&"):
			return t.refuse("&& in a class")
		case strings.HasPrefix(t.in, "[:"):
			return t.refuse("a [: class")
		case t.in[0] == '[':
			if nested || strings.HasSuffix(t.out.String(), "-") {
				return t.refuse("this nesting of classes")
			}
			if err := t.class(true); err != nil {
				return err
			}
			if strings.HasPrefix(t.in, "-") {
				return t.refuse("this nesting of classes")
			}
		case t.in[0] == '\\':
			if err := t.escape(); err != nil {
				return err
			}
		default:
			_, n := utf8.DecodeRuneInString(t.in)
			t.take(n)
		}
	}
	return t.refuse("a class without its ]")
}
