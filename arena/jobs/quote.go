package jobs

import (
	"maps"
	"slices"
	"strings"
)

// quote writes s so that a POSIX shell reads it as one word with exactly these
// bytes: within single quotes nothing but a single quote is special. s holds no
// NUL.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// command is a shell command that becomes argv.
func command(argv []string) string {
	words := []string{"exec"}
	for _, a := range argv {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// exports are shell commands that set the variables of env. Names were checked.
func exports(env map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		b.WriteString("export " + k + "=" + quote(env[k]) + "\n")
	}
	return b.String()
}

// changeDir is a shell command that goes to dir, or ends the shell.
func changeDir(dir string) string {
	if dir == "" {
		return ""
	}
	if !strings.HasPrefix(dir, "/") {
		dir = "./" + dir // not an option
	}
	return "cd " + quote(dir) + " || exit 71\n"
}
