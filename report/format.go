package report

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Words for what has no figure.
const (
	wordDiverged = "diverged" // a number that is not finite
	wordNone     = "–"        // nothing was measured
)

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// known is the value of x if there is a finite one.
func known(x *float64) (float64, bool) {
	if x == nil || !finite(*x) {
		return math.NaN(), false
	}
	return *x, true
}

// loss formats nats per token with three decimals.
func loss(x float64) string {
	if !finite(x) {
		return wordDiverged
	}
	return strconv.FormatFloat(x, 'f', 3, 64)
}

func lossOf(x *float64) string {
	if x == nil {
		return wordNone
	}
	return loss(*x)
}

// percent formats a fraction. What is above zero never reads as zero.
func percent(x float64) string {
	p := 100 * x
	switch {
	case !finite(x):
		return wordDiverged
	case p == 0:
		return "0%"
	case p > 0 && p < 0.1:
		return "<0.1%"
	case math.Abs(p) < 9.95:
		return strconv.FormatFloat(p, 'f', 1, 64) + "%"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + "%"
}

// share formats a fraction that is exact, as a criterion is.
func share(x float64) string { return strconv.FormatFloat(100*x, 'g', 4, 64) + "%" }

func percentOf(x *float64) string {
	if x == nil {
		return wordNone
	}
	return percent(*x)
}

// times formats a factor to two digits, whole numbers from ten on.
func times(x float64) string {
	switch {
	case !finite(x):
		return wordDiverged
	case x >= 9.95:
		return strconv.FormatFloat(x, 'f', 0, 64) + "×"
	}
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0") + "×"
}

// seconds formats a duration in the largest unit that keeps it above one.
func seconds(x float64) string {
	trim := func(x float64, unit string) string {
		digits := 0
		if x < 9.95 {
			digits = 1
		}
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', digits, 64), ".0") + " " + unit
	}
	switch {
	case !finite(x) || x < 0:
		return wordNone
	case x == 0:
		return "0 s"
	case x < 0.05:
		return "<0.1 s"
	case x < 100:
		return trim(x, "s")
	case x < 100*60:
		return trim(x/60, "min")
	case x < 100*3600:
		return trim(x/3600, "h")
	}
	return trim(x/86400, "days")
}

// size formats bytes with decimal prefixes, as disks are sold.
func size(n int64) string {
	if n < 0 {
		return wordNone
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	x, unit := float64(n), 0
	for x >= 999.5 && unit < len("kMGTPE") {
		x, unit = x/1000, unit+1
	}
	digits := 0
	if x < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + "kMGTPE"[unit-1:unit] + "B"
}

// count formats a number with thin spaces between thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// day is the date of an RFC 3339 time; what is none is shown as it is.
func day(s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC().Format("2006-01-02")
	}
	if s == "" {
		return "no date"
	}
	return plain(s, nameLimit)
}

// Runes of foreign text that are shown.
const (
	nameLimit = 120
	textLimit = 2000
)

// plain makes foreign text fit to be shown: one line, nothing invisible that
// reorders or hides its neighbours, at most limit runes. It is not markup's
// escape; every output has its own.
func plain(s string, limit int) string {
	var out strings.Builder
	n, space := 0, false
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
			space = out.Len() > 0
			continue
		case unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d':
			continue // bidirectional controls and the like; joiners are letters' own
		case !unicode.IsGraphic(r) && r != '\u200c' && r != '\u200d':
			r = '\uFFFD'
		}
		if space {
			n++
		}
		if n++; n > limit {
			return out.String() + "…"
		}
		if space {
			out.WriteByte(' ')
			space = false
		}
		out.WriteRune(r)
	}
	return out.String()
}
