package tokenizer

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// A normalizer rewrites a text before it is split.
type normalizer func(string) (string, error)

// maxGrowth is how much longer a rewritten text may be. Unicode's own forms
// reach 11; a file that asks for more is not a tokenizer.
const maxGrowth = 32

func bounded(before, after int) error {
	if after > maxGrowth*before+1024 {
		return fault.New(fault.Unsupported, "the normalizer makes %d bytes of %d: more than %d times as many", after, before, maxGrowth)
	}
	return nil
}

func form(f norm.Form) normalizer {
	return func(s string) (string, error) { return f.String(s), nil }
}

func prepend(prefix string) normalizer {
	return func(s string) (string, error) {
		if s == "" {
			return s, nil
		}
		return prefix + s, bounded(len(s), len(prefix)+len(s))
	}
}

// lower is Rust's to_lowercase of each character alone: no final sigma, and the
// dotted capital I becomes two characters.
func lower(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if b.WriteRune(unicode.ToLower(r)); r == 'İ' {
			b.WriteRune('\u0307')
		}
	}
	return b.String(), nil
}

func replace(f finder, content string) normalizer {
	return func(s string) (string, error) {
		spans, err := f(s)
		if err != nil {
			return "", err
		}
		size := len(s)
		for _, sp := range spans {
			if sp.match {
				size += len(content) - (sp.to - sp.from)
			}
		}
		if err := bounded(len(s), size); err != nil {
			return "", err
		}
		var b strings.Builder
		b.Grow(size)
		for _, sp := range spans {
			if sp.match {
				b.WriteString(content)
			} else {
				b.WriteString(s[sp.from:sp.to])
			}
		}
		return b.String(), nil
	}
}

func inOrder(all []normalizer) normalizer {
	return func(s string) (string, error) {
		before := len(s)
		for _, n := range all {
			var err error
			if s, err = n(s); err != nil {
				return "", err
			}
			if err := bounded(before, len(s)); err != nil {
				return "", err
			}
		}
		return s, nil
	}
}
