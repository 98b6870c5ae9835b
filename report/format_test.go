package report

import (
	"math"
	"testing"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/arena"
)

func TestFormats(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range [][2]string{
		{loss(5.5452), "5.545"}, {loss(nan), "diverged"}, {loss(-inf), "diverged"}, {lossOf(nil), "–"},
		{percent(0), "0%"}, {percent(1e-12), "<0.1%"}, {percent(0.0499), "5.0%"}, {percent(0.62), "62%"}, {percent(1.013), "101%"}, {percent(inf), "diverged"},
		{share(0.05), "5%"}, {share(0.1), "10%"},
		{times(1), "1×"}, {times(2.46), "2.5×"}, {times(12.3), "12×"}, {times(nan), "diverged"},
		{seconds(0), "0 s"}, {seconds(0.01), "<0.1 s"}, {seconds(9.5), "9.5 s"}, {seconds(61), "61 s"}, {seconds(600), "10 min"},
		{seconds(7200), "2 h"}, {seconds(86400 * 30), "30 days"}, {seconds(nan), "–"},
		{size(0), "0 B"}, {size(999), "999 B"}, {size(1000), "1.0 kB"}, {size(4_071_936), "4.1 MB"}, {size(999_950), "1.0 MB"}, {size(26_300_000_000), "26 GB"},
		{count(1017984), "1\u202f017\u202f984"}, {count(999), "999"}, {count(-1234), "-1\u202f234"},
		{day("2026-11-23T23:30:00-02:00"), "2026-11-24"}, {day(""), "no date"}, {day("soon"), "soon"},
		{short(0.00012345678, 4), "0.0001235"}, {short(7.63206, 4), "7.632"}, {short(1e-9, 4), "1e-09"}, {short(math.MaxFloat64, 2), "1.7976931348623157e+308"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestCost(t *testing.T) {
	x := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		s    arena.Score
		want string
	}{
		{arena.Score{CostCensoredAt: 4}, "–"},
		{arena.Score{BestLoss: x(7), LearnedFraction: x(0), CostCensoredAt: 4}, ">4×"},
		{arena.Score{BestLoss: x(7), DropFraction: x(0)}, ">1×"},
		{arena.Score{BestLoss: x(7), CostCensoredAt: 4}, "–"}, // the unsealed model came nowhere
		{arena.Score{BestLoss: x(3), CostMultiplier: x(2.5), CostCensoredAt: 4}, "2.5×"},
		{arena.Score{BestLoss: x(3), CostMultiplier: x(math.Inf(1))}, "diverged"},
	} {
		if got := costOf(&c.s); got != c.want {
			t.Errorf("%+v: %s, want %s", c.s, got, c.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\u202egnp.exe": "agnp.exe", " a \n\t b ": "a b", "\x00\x1b[31m": "\uFFFD\uFFFD[31m", "\xff": "\uFFFD", "שלום": "שלום",
		"می\u200cخواهم": "می\u200cخواهم", "\u2028x\u2029y": "x y", "\ufeff": "", "123456789": "12345678…",
	} {
		if got := plain(in, 8); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "name", "a\u202eb", "\xff\x00", "# <b>", "www.x.y https://z"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(1, min(limit, 1<<16))
		got := plain(s, limit)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > limit+1 || plain(got, limit+1) != got {
			t.Errorf("%q: %q", s, got)
		}
		for _, r := range markdown(got) {
			if r == '<' || r == '>' || r == '\n' {
				t.Errorf("%q: %q", got, markdown(got))
			}
		}
	})
}
