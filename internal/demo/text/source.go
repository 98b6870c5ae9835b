package text

import (
	"math/bits"
	"math/rand/v2"
	"strings"
)

// source makes the choices of a text. It takes only Uint64 from the generator
// and reduces it itself: PCG's output is fixed by its definition, what the
// convenience methods make of it need not be.
type source struct {
	pcg *rand.PCG
}

// below returns an integer in [0, n). The bias of the reduction, at most
// n/2^64, is of no consequence here.
func (s *source) below(n int) int {
	hi, _ := bits.Mul64(s.pcg.Uint64(), uint64(n))
	return int(hi)
}

// between returns an integer in [lo, hi].
func (s *source) between(lo, hi int) int { return lo + s.below(hi-lo+1) }

// oneIn reports true once in n times on average.
func (s *source) oneIn(n int) bool { return s.below(n) == 0 }

// pick returns one of the choices.
func pick[T any](s *source, choices []T) T { return choices[s.below(len(choices))] }

// two returns two different ones of the choices.
func two[T any](s *source, choices []T) (a, b T) {
	i, j := s.below(len(choices)), s.below(len(choices)-1)
	if j >= i {
		j++
	}
	return choices[i], choices[j]
}

// expand writes a template out. "[a|b|c]" is one of the alternatives, chosen
// afresh each time; alternatives do not nest. "{name}" is the value of a slot,
// the same wherever it stands, and "{Name}" is that value with a capital.
func (s *source) expand(template string, slots map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexAny(template, "[{")
		if i < 0 {
			b.WriteString(template)
			return b.String()
		}
		b.WriteString(template[:i])
		if template[i] == '[' {
			inner, rest := cut(template[i+1:], "]")
			template = pick(s, strings.Split(inner, "|")) + rest
			continue
		}
		name, rest := cut(template[i+1:], "}")
		b.WriteString(slot(slots, name))
		template = rest
	}
}

// slot looks a name up, in capitalised form where the name is.
func slot(slots map[string]string, name string) string {
	if v, ok := slots[name]; ok {
		return v
	}
	if v, ok := slots[strings.ToLower(name)]; ok {
		return capital(v)
	}
	panic("text: a template names the slot {" + name + "}, which nothing fills")
}

// cut splits at the closing bracket, which every template of ours has.
func cut(s, closing string) (inner, rest string) {
	inner, rest, ok := strings.Cut(s, closing)
	if !ok {
		panic("text: a template lacks its " + closing + " after: " + s)
	}
	return inner, rest
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// article puts "a" or "an" before a noun phrase.
func article(s string) string {
	if strings.ContainsAny(s[:1], "aeiou") {
		return "an " + s
	}
	return "a " + s
}
