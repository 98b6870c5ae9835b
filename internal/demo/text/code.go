package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// program writes one document of the domain "code": a few lines in a small
// made-up language, where a comment after each "show" says what it prints.
func program(s *source) string {
	return pick(s, []func(*source) string{functionProgram, listProgram, loopProgram, branchProgram})(s)
}

var (
	functionNames = []string{"scale", "blend", "shift", "merge", "score", "total", "weigh", "price", "mix", "step"}
	numberNames   = []string{"a", "b", "x", "y", "n", "m", "width", "size", "left", "right"}
	listNames     = []string{"items", "row", "marks", "bag", "queue", "ages"}
)

// An operator of the language and what it computes.
type operator struct {
	sign  string
	apply func(x, y int) int
}

var operators = []operator{
	{"+", func(x, y int) int { return x + y }},
	{"-", func(x, y int) int { return x - y }},
	{"*", func(x, y int) int { return x * y }},
}

// functionProgram defines a function of two numbers and calls it.
func functionProgram(s *source) string {
	x, y := two(s, numberNames)
	name, inner, outer, k := pick(s, functionNames), pick(s, operators), pick(s, operators), s.between(2, 5)
	var b strings.Builder
	fmt.Fprintf(&b, "fn %s(%s, %s) {\n    let t = %s %s %d;\n    return t %s %s;\n}\n",
		name, x, y, x, inner.sign, k, outer.sign, y)
	for range s.between(1, 3) {
		p, q := s.below(10), s.below(10)
		fmt.Fprintf(&b, "show %s(%d, %d);  # %d\n", name, p, q, outer.apply(inner.apply(p, k), q))
	}
	return b.String()
}

// listProgram asks a list for its properties.
func listProgram(s *source) string {
	list := make([]int, s.between(2, 5))
	sum := 0
	for i := range list {
		list[i] = s.below(10)
		sum += list[i]
	}
	name, at := pick(s, listNames), s.below(len(list))
	questions := []string{
		fmt.Sprintf("show len(%s);  # %d\n", name, len(list)),
		fmt.Sprintf("show max(%s);  # %d\n", name, slices.Max(list)),
		fmt.Sprintf("show min(%s);  # %d\n", name, slices.Min(list)),
		fmt.Sprintf("show sum(%s);  # %d\n", name, sum),
		fmt.Sprintf("show %s[%d];  # %d\n", name, at, list[at]),
		fmt.Sprintf("show sort(%s);  # [%s]\n", name, join(slices.Sorted(slices.Values(list)), ", ")),
	}
	first, second := two(s, questions)
	return fmt.Sprintf("let %s = [%s];\n", name, join(list, ", ")) + first + second
}

// loopProgram shows an expression for each number of a range.
func loopProgram(s *source) string {
	from := s.below(5)
	to, op, k := from+s.between(1, 4), pick(s, operators), s.between(1, 5)
	var values []int
	for i := from; i <= to; i++ {
		values = append(values, op.apply(i, k))
	}
	return fmt.Sprintf("for i in %d..%d {\n    show i %s %d;\n}\n# %s\n", from, to, op.sign, k, join(values, " "))
}

// branchProgram compares two numbers.
func branchProgram(s *source) string {
	x, y := two(s, numberNames)
	p, q := s.below(10), s.below(10)
	answer := "no"
	if p > q {
		answer = "yes"
	}
	return fmt.Sprintf("let %s = %d;\nlet %s = %d;\nif %s > %s {\n    show \"yes\";\n} else {\n    show \"no\";\n}\n# %s\n",
		x, p, y, q, x, y, answer)
}

func join(numbers []int, between string) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, between)
}
