package keys

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestMain lets the test binary stand in for a password command, and for a
// process that asks its terminal.
func TestMain(m *testing.M) {
	switch os.Getenv("KEYS_TEST_ROLE") {
	case "print":
		os.Stdout.WriteString(strings.Join(os.Args[1:], "|") + "\n")
		os.Exit(0)
	case "fail":
		os.Stdout.WriteString("half a passphrase\n")
		os.Exit(3)
	case "flood":
		for range 100 {
			os.Stdout.Write(make([]byte, 10_000))
		}
		os.Exit(0)
	case "fd3":
		pass, _, err := PassphraseSource{FD: new(3)}.Read("p", false)
		report(pass, err)
	case "ask":
		pass, _, err := PassphraseSource{Env: "KEYS_TEST_UNSET"}.Read("Secret\a", os.Getenv("KEYS_TEST_CONFIRM") != "")
		report(pass, err)
	}
	os.Exit(m.Run())
}

func report(pass string, err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n" + fault.HintOf(err))
		os.Exit(int(fault.KindOf(err)))
	}
	os.Stdout.WriteString("got " + pass)
	os.Exit(0)
}

func TestPassphraseSources(t *testing.T) {
	file := func(text string) PassphraseSource {
		path := tempFile(t, "pw", text)
		return PassphraseSource{File: &path}
	}
	flag := func(s string) PassphraseSource { return PassphraseSource{Flag: &s} }
	for name, c := range map[string]struct {
		src  PassphraseSource
		want string
		kind fault.Kind
	}{
		"file":                 {file("secret\n"), "secret", 0},
		"file, no newline":     {file("secret"), "secret", 0},
		"file, Windows":        {file("secret\r\n"), "secret", 0},
		"file, blanks kept":    {file(" se cret \n\n"), " se cret \n", 0},
		"file, empty":          {file(""), "", fault.Usage},
		"file, only a newline": {file("\n"), "", fault.Usage},
		"file, too long":       {file(strings.Repeat("x", maxPassphrase+1)), "", fault.Usage},
		"file, missing":        {PassphraseSource{File: new("/no/such/file")}, "", fault.General},
		"flag":                 {flag("secret"), "secret", 0},
		"flag, empty":          {flag(""), "", fault.Usage},
		"fd, negative":         {PassphraseSource{FD: new(-1)}, "", fault.Usage},
		"fd, closed":           {PassphraseSource{FD: new(987)}, "", fault.Usage},
		"file and flag":        {PassphraseSource{File: new("f"), Flag: new("p")}, "", fault.Usage},
		"fd and command":       {PassphraseSource{FD: new(0), Command: new("c")}, "", fault.Usage},
		"command, empty":       {PassphraseSource{Command: new(" ")}, "", fault.Usage},
		"command, open quote":  {PassphraseSource{Command: new("pass 'x")}, "", fault.Usage},
		"command, missing":     {PassphraseSource{Command: new("/no/such/command")}, "", fault.General},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(DefaultPasswordEnv, "ambient") // an option wins
			got, warning, err := c.src.Read("p", false)
			if got != c.want || fault.KindOf(err) != c.kind {
				t.Errorf("%q, kind %v: %v", got, fault.KindOf(err), err)
			}
			if (warning != "") != (c.src.Flag != nil && err == nil) {
				t.Errorf("warning %q", warning)
			}
		})
	}
}

func TestPassphraseExclusive(t *testing.T) {
	_, _, err := PassphraseSource{File: new("f"), Command: new("c"), Flag: new("hunter2")}.Read("p", false)
	if err == nil || err.Error() != "--password-file and --password-command and --password exclude each other" {
		t.Error(err)
	}
}

func TestPassphraseFromEnvironment(t *testing.T) {
	t.Setenv(DefaultPasswordEnv, " kept as it is\n")
	if got, _, err := (PassphraseSource{}).Read("p", true); err != nil || got != " kept as it is\n" {
		t.Errorf("%q %v", got, err)
	}
	t.Setenv("OTHER_PASSWORD", "other")
	if got, _, err := (PassphraseSource{Env: "OTHER_PASSWORD"}).Read("p", true); err != nil || got != "other" {
		t.Errorf("%q %v", got, err)
	}
	t.Setenv(DefaultPasswordEnv, "")
	if _, _, err := (PassphraseSource{}).Read("p", true); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), DefaultPasswordEnv) {
		t.Errorf("empty variable: %v", err)
	}
}

func TestPassphraseCommand(t *testing.T) {
	line := "'" + os.Args[0] + "'" + ` "a  b" c\ d '"' ''`
	for role, c := range map[string]struct {
		want string
		kind fault.Kind
	}{
		"print": {`a  b|c d|"|`, 0},
		"fail":  {"", fault.General},
		"flood": {"", fault.Usage},
	} {
		t.Setenv("KEYS_TEST_ROLE", role)
		got, _, err := PassphraseSource{Command: &line}.Read("p", false)
		if got != c.want || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %q %v", role, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "half") {
			t.Errorf("%v tells the passphrase", err)
		}
	}
}

func TestPassphraseFromFD(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("descriptors are not inherited by number")
	}
	in, err := os.Open(tempFile(t, "pw", "through descriptor 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "KEYS_TEST_ROLE=fd3")
	child.ExtraFiles = []*os.File{in}
	if out, err := child.CombinedOutput(); err != nil || string(out) != "got through descriptor 3" {
		t.Errorf("%q %v", out, err)
	}

	stdin := os.Stdin
	defer func() { os.Stdin = stdin }()
	if os.Stdin, err = os.Open(tempFile(t, "in", "from stdin\n")); err != nil {
		t.Fatal(err)
	}
	if got, _, err := (PassphraseSource{FD: new(0)}).Read("p", false); err != nil || got != "from stdin" {
		t.Errorf("%q %v", got, err)
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                         nil,
		"  \t\n":                   nil,
		"pass show key":            {"pass", "show", "key"},
		`a "b c" 'd e' f\ g`:       {"a", "b c", "d e", "f g"},
		`"a""b"'c'd`:               {"abcd"},
		`'' "" x`:                  {"", "", "x"},
		`"say \"hi\" \\ \n"`:       {`say "hi" \ \n`},
		`'a\'b`:                    {`a\b`},
		`\'a \"b \\c`:              {"'a", `"b`, `\c`},
		`C:\bin\pass.exe "D:\a b"`: {`C:\bin\pass.exe`, `D:\a b`},
		`end\`:                     {`end\`},
		`$HOME *.txt | cat; "é 层"`: {"$HOME", "*.txt", "|", "cat;", "é 层"},
	} {
		if got, err := splitWords(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`"`, `'a`, `a"b c`, `"a\"`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`a "b c" 'd e' f\ g`)
	f.Add(filepath.Join("a", "b") + ` \`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			if strings.Contains(w, "'") {
				return
			}
			quoted = append(quoted, "'"+w+"'")
		}
		if again, err := splitWords(strings.Join(quoted, " ")); err != nil || !slices.Equal(again, words) {
			t.Errorf("%q: %q, quoted and split again %q %v", line, words, again, err)
		}
	})
}
