package ui

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Clean replaces what could steer a terminal: names of files and tensors come
// from checkpoints that others wrote. Line ends and tabs stay.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Line is Clean on one line: a message that quotes such a name, line ends and
// all, must not look like two.
func Line(s string) string {
	return strings.ReplaceAll(Clean(s), "\n", " ")
}

// The marks that Result's texts use for what holds, what does not, and what
// was not checked. They become plain ASCII where the terminal knows no others.
const (
	Yes  = "✓"
	No   = "✗"
	Open = "·"
)

type colour string

const (
	red   colour = "31"
	green colour = "32"
)

func (t terminal) paint(c colour, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// colourMarks colours the marks, or spells them in ASCII.
func (u *UI) colourMarks(s string) string {
	if !u.out.unicode {
		return strings.NewReplacer(Yes, "ok", No, "FAIL", Open, "-", "…", "...", "×", "x", "−", "-").Replace(s)
	}
	return strings.NewReplacer(Yes, u.out.paint(green, Yes), No, u.out.paint(red, No)).Replace(s)
}

// Table writes rows in aligned columns, each line behind the indent.
func Table(w io.Writer, indent string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, indent+strings.Join(r, "\t"))
	}
	_ = t.Flush() // into memory
}

// Bytes writes a number of bytes for people, in powers of 1024.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[unit])
}

// Duration writes a time span for people.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d h", int(d.Hours()), int(d.Minutes())%60)
}
