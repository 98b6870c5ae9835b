package text

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whatever a question's answer names stands in the story too.
func TestAnswersAreInTheStory(t *testing.T) {
	s := newSource("tales", 11)
	for range 2000 {
		doc := story(s)
		text, questions, ok := strings.Cut(doc, "\nQ: ")
		if !ok {
			t.Fatalf("a story without a question:\n%s", doc)
		}
		for _, place := range slices.Concat(places, colours, days) {
			word := regexp.MustCompile(`\b` + place + `\b`)
			if word.MatchString(questions) && !word.MatchString(text) {
				t.Fatalf("%q is only in the questions:\n%s", place, doc)
			}
		}
		for _, p := range people {
			if strings.Contains(questions, p.name) && !strings.Contains(text, p.name) {
				t.Fatalf("%s is only in the questions:\n%s", p.name, doc)
			}
		}
	}
}

func TestSums(t *testing.T) {
	line := regexp.MustCompile(`(?m)^(\d+) (plus|minus) (\d+) is (\d+)\.$`)
	s := newSource("tales", 2)
	for range 500 {
		doc := sums(s)
		found := line.FindAllStringSubmatch(doc, -1)
		if len(found) != strings.Count(doc, "\n") {
			t.Fatalf("not all lines are sums:\n%s", doc)
		}
		for _, m := range found {
			a, b, c := number(t, m[1]), number(t, m[3]), number(t, m[4])
			if m[2] == "minus" {
				b = -b
			}
			if a+b != c {
				t.Errorf("wrong sum: %s", m[0])
			}
		}
	}
}

func TestCountingStories(t *testing.T) {
	line := regexp.MustCompile(`had (\d+) (\w+)\. \w+ gave (?:him|her) (\d+) more\. Now \w+ had (\d+) (\w+)\.\n(?s:.*)had (\d+) (\w+)\.\n$`)
	s := newSource("tales", 4)
	for range 500 {
		doc := countingStory(s)
		m := line.FindStringSubmatch(doc)
		if m == nil {
			t.Fatalf("unexpected form:\n%s", doc)
		}
		if number(t, m[1])+number(t, m[3]) != number(t, m[4]) || m[4] != m[6] || m[2] != m[5] || m[5] != m[7] {
			t.Errorf("wrong count:\n%s", doc)
		}
	}
}

func TestCalendar(t *testing.T) {
	follows := map[string]string{}
	for _, names := range [][]string{days, months} {
		for i, name := range names {
			follows[name] = names[(i+1)%len(names)]
		}
	}
	patterns := []struct {
		re   *regexp.Regexp
		a, b int // the group b names what follows the group a
	}{
		{re: regexp.MustCompile(`^After (\w+) comes (\w+)\.$`), a: 1, b: 2},
		{re: regexp.MustCompile(`^Before (\w+) comes (\w+)\.$`), a: 2, b: 1},
		{re: regexp.MustCompile(`^The \w+ between (\w+) and \w+ is (\w+)\.$`), a: 1, b: 2},
		{re: regexp.MustCompile(`^The \w+ between \w+ and (\w+) is (\w+)\.$`), a: 2, b: 1},
	}
	s := newSource("tales", 8)
	for range 500 {
		for sentence := range strings.Lines(calendar(s)) {
			matched := false
			for _, p := range patterns {
				m := p.re.FindStringSubmatch(strings.TrimSuffix(sentence, "\n"))
				if m == nil {
					continue
				}
				matched = true
				if follows[m[p.a]] != m[p.b] {
					t.Errorf("wrong order: %s", sentence)
				}
			}
			if !matched {
				t.Fatalf("unexpected form: %s", sentence)
			}
		}
	}
}
