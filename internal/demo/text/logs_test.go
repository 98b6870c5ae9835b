package text

import (
	"regexp"
	"strings"
	"testing"
)

func TestLogTimesAddUp(t *testing.T) {
	stamp := regexp.MustCompile(`^(\d\d):(\d\d):(\d\d)\.(\d{3}) `)
	total := regexp.MustCompile(`ms=(\d+)\n$`)
	s := newSource("logs", 6)
	for range 500 {
		doc := logLines(s)
		var times []int
		for line := range strings.Lines(doc) {
			m := stamp.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("no time: %q", line)
			}
			at := ((number(t, m[1])*60+number(t, m[2]))*60+number(t, m[3]))*1000 + number(t, m[4])
			times = append(times, at)
		}
		const day = 24 * 60 * 60 * 1000
		took := (times[len(times)-1] - times[0] + day) % day
		if m := total.FindStringSubmatch(doc); m == nil || number(t, m[1]) != took {
			t.Errorf("the first and last line are %d ms apart:\n%s", took, doc)
		}
	}
}
