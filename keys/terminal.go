package keys

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// AskPassphrase asks the terminal device, not standard input, so that that can
// carry data. With confirm the passphrase must be typed twice alike. Without a
// terminal the error names the options that do without.
func AskPassphrase(prompt string, confirm bool) (string, error) {
	in, out, closeTerm, err := openTerminal()
	if err != nil {
		return "", fault.Wrap(fault.Usage, err, "a passphrase is needed, and there is no terminal to ask").
			WithHint("give it with %s", passphraseForms)
	}
	defer closeTerm()
	first, err := readHidden(in, out, prompt)
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", errEmptyPassphrase("the passphrase")
	}
	if !confirm {
		return first, nil
	}
	again, err := readHidden(in, out, "The same again")
	if err != nil {
		return "", err
	}
	if again != first {
		return "", fault.New(fault.Usage, "the two passphrases differ").WithHint("try again")
	}
	return first, nil
}

// openTerminal opens the controlling terminal for reading and writing.
func openTerminal() (in, out *os.File, closeTerm func(), err error) {
	if runtime.GOOS != "windows" {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return nil, nil, nil, err
		}
		return tty, tty, func() { tty.Close() }, nil
	}
	if in, err = os.OpenFile("CONIN$", os.O_RDWR, 0); err != nil {
		return nil, nil, nil, err
	}
	if out, err = os.OpenFile("CONOUT$", os.O_WRONLY, 0); err != nil {
		in.Close()
		return nil, nil, nil, err
	}
	return in, out, func() { in.Close(); out.Close() }, nil
}

// readHidden reads a line without echo. If the user interrupts it, the echo is
// switched on again first: the terminal outlives this program.
func readHidden(in, out *os.File, prompt string) (string, error) {
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fault.Wrap(fault.General, err, "preparing the terminal")
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)

	fmt.Fprintf(out, "%s: ", withoutControls(prompt))
	defer fmt.Fprint(out, "\r\n") // the user's own line end is not echoed
	type answer struct {
		line []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		done <- answer{line, err}
	}()
	select {
	case <-interrupted:
		_ = term.Restore(fd, before)
		return "", fault.New(fault.Interrupted, "interrupted while asking for a passphrase")
	case a := <-done:
		if a.err != nil {
			return "", fault.Wrap(fault.General, a.err, "reading the passphrase from the terminal")
		}
		return string(a.line), nil
	}
}

// withoutControls keeps file names in prompts from steering the terminal.
func withoutControls(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
