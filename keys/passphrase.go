package keys

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// DefaultPasswordEnv is the environment variable read when a [PassphraseSource]
// names no other.
const DefaultPasswordEnv = "NEUROSEAL_PASSWORD"

// maxPassphrase bounds what is read from a file, command or descriptor.
const maxPassphrase = 64 << 10

const passphraseForms = "--password-file, --password-command, --password-fd, --password or the variable " + DefaultPasswordEnv

// PassphraseSource says where a passphrase comes from. File, Command, FD and
// Flag are options that the user gave, nil if not given; at most one may be.
// Without any, the environment variable is taken if it is set, and otherwise
// the terminal is asked.
type PassphraseSource struct {
	File    *string // --password-file: path of a file that holds it
	Command *string // --password-command: a program that prints it; see below
	FD      *int    // --password-fd: number of an open file descriptor
	Flag    *string // --password: the passphrase itself, visible to other users
	Env     string  // name of the variable; empty means DefaultPasswordEnv
}

// Read returns the passphrase. prompt is shown if the terminal is asked; with
// confirm, as for a new passphrase, it is asked for twice. The warning, if not
// empty, is for the user. One newline at the end of a file or of a command's
// output is dropped. An empty passphrase is refused, whatever the source.
//
// A command is split into words as a shell would, with quotes and backslashes
// but no variables, globs or pipes, and run without a shell and without
// standard input; its standard error is the caller's.
func (p PassphraseSource) Read(prompt string, confirm bool) (passphrase, warning string, err error) {
	if given := p.given(); len(given) > 1 {
		return "", "", fault.New(fault.Usage, "%s exclude each other", strings.Join(given, " and ")).
			WithHint("give one of them")
	}
	var what string
	switch {
	case p.File != nil:
		what = "password file " + *p.File
		passphrase, err = passphraseFromFile(*p.File)
	case p.Command != nil:
		what = "the output of the password command"
		passphrase, err = passphraseFromCommand(*p.Command)
	case p.FD != nil:
		what = "file descriptor " + strconv.Itoa(*p.FD)
		passphrase, err = passphraseFromFD(*p.FD)
	case p.Flag != nil:
		what, passphrase = "--password", *p.Flag
		warning = "--password shows the passphrase to every user of this machine, in the list of processes, and to your shell's history; " +
			"--password-file or --password-command does not"
	default:
		return p.readAmbient(prompt, confirm)
	}
	if err == nil && passphrase == "" {
		err = errEmptyPassphrase(what)
	}
	if err != nil {
		return "", "", err
	}
	return passphrase, warning, nil
}

// given names the options that the user gave.
func (p PassphraseSource) given() []string {
	var names []string
	for _, o := range []struct {
		name string
		set  bool
	}{
		{"--password-file", p.File != nil},
		{"--password-command", p.Command != nil},
		{"--password-fd", p.FD != nil},
		{"--password", p.Flag != nil},
	} {
		if o.set {
			names = append(names, o.name)
		}
	}
	return names
}

// readAmbient takes what needs no option: the environment, then the terminal.
func (p PassphraseSource) readAmbient(prompt string, confirm bool) (string, string, error) {
	name := p.Env
	if name == "" {
		name = DefaultPasswordEnv
	}
	if value, ok := os.LookupEnv(name); ok {
		if value == "" {
			return "", "", errEmptyPassphrase("the variable " + name)
		}
		return value, "", nil
	}
	passphrase, err := AskPassphrase(prompt, confirm)
	return passphrase, "", err
}

func errEmptyPassphrase(what string) *fault.Error {
	return fault.New(fault.Usage, "%s is empty", what).WithHint("a passphrase has at least one character")
}

func passphraseFromFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.Wrap(fault.General, err, "opening password file")
	}
	defer f.Close()
	return readPassphrase(f, "password file "+path)
}

func passphraseFromFD(fd int) (string, error) {
	if fd < 0 {
		return "", fault.New(fault.Usage, "--password-fd %d is not a file descriptor", fd)
	}
	f := os.Stdin
	if fd != 0 {
		f = os.NewFile(uintptr(fd), "password-fd")
	}
	if f == nil {
		return "", fault.New(fault.Usage, "--password-fd %d is not open", fd)
	}
	if _, err := f.Stat(); err != nil {
		return "", fault.Wrap(fault.Usage, err, "--password-fd %d is not open", fd).
			WithHint("open it in the shell, as in: neuroseal … --password-fd 3 3< file")
	}
	if fd != 0 {
		defer f.Close()
	}
	return readPassphrase(f, "file descriptor "+strconv.Itoa(fd))
}

func passphraseFromCommand(line string) (string, error) {
	args, err := splitWords(line)
	if err != nil {
		return "", fault.Wrap(fault.Usage, err, "--password-command")
	}
	if len(args) == 0 {
		return "", fault.New(fault.Usage, "--password-command is empty")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", fault.Wrap(fault.General, err, "running the password command")
	}
	passphrase, readErr := readPassphrase(out, "the output of the password command")
	_, _ = io.Copy(io.Discard, out) // let a talkative command end by itself
	if err := cmd.Wait(); err != nil {
		return "", fault.Wrap(fault.General, err, "password command %s", args[0]).
			WithHint("run it by hand to see what it says; it is run without a shell")
	}
	return passphrase, readErr
}

// readPassphrase reads all of r and drops one line end.
func readPassphrase(r io.Reader, what string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPassphrase+1))
	if err != nil {
		return "", fault.Wrap(fault.General, err, "reading %s", what)
	}
	if len(data) > maxPassphrase {
		return "", fault.New(fault.Usage, "%s is longer than %d bytes, so it is no passphrase", what, maxPassphrase)
	}
	if cut, ok := bytes.CutSuffix(data, []byte("\n")); ok {
		data = bytes.TrimSuffix(cut, []byte("\r"))
	}
	return string(data), nil
}

// splitWords splits a command line at blanks. Single quotes keep everything;
// double quotes keep everything but \" and \\; outside quotes a backslash
// protects a blank, a quote or a backslash, and is itself otherwise, so that
// Windows paths survive.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == '\\' && quote != '\'' && i+1 < len(line) && escapable(line[i+1], quote) {
			i++
			word.WriteByte(line[i])
			inWord = true
			continue
		}
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case isBlank(c):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

func escapable(c, quote byte) bool {
	if c == '"' || c == '\\' {
		return true
	}
	return quote == 0 && (c == '\'' || isBlank(c))
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
