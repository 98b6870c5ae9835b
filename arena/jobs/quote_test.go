//go:build unix

package jobs

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzQuote: the shell hands on exactly the bytes that were quoted.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a b", "'", `'\''`, "$(id)", "`id`", "\n", "\\", "\xff\xfe", "-n", "%s", "!", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) || len(s) > 10000 {
			t.Skip()
		}
		script := exports(map[string]string{"V": s}) + changeDir("/") + command([]string{"/bin/sh", "-c", `printf '%s\1%s\1' "$V" "$1"`, "sh", s})
		out, err := exec.Command("/bin/sh", "-c", script).Output()
		if want := s + "\x01" + s + "\x01"; err != nil || string(out) != want {
			t.Errorf("got %q, %v; want %q", out, err, want)
		}
	})
}
