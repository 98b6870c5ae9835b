package text

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests of this file compute anew, from the program's text alone, what its
// comments claim.

func TestFunctionPrograms(t *testing.T) {
	head := regexp.MustCompile(`^fn \w+\((\w+), (\w+)\) {\n    let t = (\w+) ([-+*]) (\d);\n    return t ([-+*]) (\w+);\n}\n`)
	call := regexp.MustCompile(`show \w+\((\d), (\d)\);  # (-?\d+)\n`)
	s := newSource("code", 1)
	for range 500 {
		doc := functionProgram(s)
		m := head.FindStringSubmatch(doc)
		if m == nil || m[1] != m[3] || m[2] != m[7] || m[1] == m[2] {
			t.Fatalf("unexpected form:\n%s", doc)
		}
		calls := call.FindAllStringSubmatch(doc, -1)
		if len(calls) == 0 {
			t.Fatalf("no call:\n%s", doc)
		}
		for _, c := range calls {
			inner := compute(t, number(t, c[1]), m[4], number(t, m[5]))
			if compute(t, inner, m[6], number(t, c[2])) != number(t, c[3]) {
				t.Errorf("wrong result in %q:\n%s", c[0], doc)
			}
		}
	}
}

func TestListPrograms(t *testing.T) {
	head := regexp.MustCompile(`^let (\w+) = \[([\d, ]+)\];\n`)
	show := regexp.MustCompile(`show (\w+)[\[(](\w+)[\])];  # (.+)\n`)
	s := newSource("code", 2)
	for range 500 {
		doc := listProgram(s)
		m := head.FindStringSubmatch(doc)
		shows := show.FindAllStringSubmatch(doc, -1)
		if m == nil || len(shows) != 2 {
			t.Fatalf("unexpected form:\n%s", doc)
		}
		var list []int
		for word := range strings.SplitSeq(m[2], ", ") {
			list = append(list, number(t, word))
		}
		for _, q := range shows {
			if want := ask(t, list, m[1], q[1], q[2]); q[3] != want {
				t.Errorf("%q should be %s:\n%s", q[0], want, doc)
			}
		}
	}
}

// ask answers "word(name)", or "name[at]" where word is the list's name.
func ask(t *testing.T, list []int, name, word, inner string) string {
	t.Helper()
	sum := 0
	for _, n := range list {
		sum += n
	}
	sorted := slices.Sorted(slices.Values(list))
	switch word {
	case name:
		return fmt.Sprint(list[number(t, inner)])
	case "len":
		return fmt.Sprint(len(list))
	case "max":
		return fmt.Sprint(sorted[len(sorted)-1])
	case "min":
		return fmt.Sprint(sorted[0])
	case "sum":
		return fmt.Sprint(sum)
	case "sort":
		return strings.ReplaceAll(fmt.Sprint(sorted), " ", ", ")
	}
	t.Fatalf("unknown question %s", word)
	return ""
}

func TestLoopPrograms(t *testing.T) {
	form := regexp.MustCompile(`^for i in (\d)\.\.(\d) {\n    show i ([-+*]) (\d);\n}\n# (.+)\n$`)
	s := newSource("code", 3)
	for range 500 {
		doc := loopProgram(s)
		m := form.FindStringSubmatch(doc)
		if m == nil {
			t.Fatalf("unexpected form:\n%s", doc)
		}
		var want []string
		for i := number(t, m[1]); i <= number(t, m[2]); i++ {
			want = append(want, fmt.Sprint(compute(t, i, m[3], number(t, m[4]))))
		}
		if m[5] != strings.Join(want, " ") {
			t.Errorf("should show %v:\n%s", want, doc)
		}
	}
}

func TestBranchPrograms(t *testing.T) {
	form := regexp.MustCompile(`(?s)^let (\w+) = (\d);\nlet (\w+) = (\d);\nif (\w+) > (\w+) {.*}\n# (yes|no)\n$`)
	s := newSource("code", 4)
	for range 500 {
		doc := branchProgram(s)
		m := form.FindStringSubmatch(doc)
		if m == nil || m[1] != m[5] || m[3] != m[6] || m[1] == m[3] {
			t.Fatalf("unexpected form:\n%s", doc)
		}
		if larger := number(t, m[2]) > number(t, m[4]); larger != (m[7] == "yes") {
			t.Errorf("wrong branch:\n%s", doc)
		}
	}
}

func compute(t *testing.T, x int, sign string, y int) int {
	t.Helper()
	switch sign {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	}
	t.Fatalf("unknown operator %q", sign)
	return 0
}
