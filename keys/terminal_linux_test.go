package keys

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// openPTY returns both ends of a new pseudo-terminal.
func openPTY(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { outside.Close() })
	fd := int(outside.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	inside, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Close() })
	return outside, inside
}

// asker is a process that asks its terminal for a passphrase, while its
// standard input carries something else.
type asker struct {
	*exec.Cmd
	terminal       *os.File // what a person would see and type into
	inside         *os.File
	stdout, stderr bytes.Buffer
}

func startAsker(t *testing.T, env ...string) *asker {
	t.Helper()
	outside, inside := openPTY(t)
	a := &asker{Cmd: exec.Command(os.Args[0]), terminal: outside, inside: inside}
	a.Env = append(append(os.Environ(), "KEYS_TEST_ROLE=ask"), env...)
	a.Stdin = strings.NewReader("data on standard input\n")
	a.Stdout, a.Stderr = &a.stdout, &a.stderr
	a.ExtraFiles = []*os.File{inside}
	a.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

// expect reads the terminal until text appears, and returns all that came.
func (a *asker) expect(t *testing.T, text string) string {
	t.Helper()
	var seen []byte
	for b := make([]byte, 1); !bytes.Contains(seen, []byte(text)); {
		if _, err := a.terminal.Read(b); err != nil {
			t.Fatalf("waiting for %q, saw %q: %v", text, seen, err)
		}
		seen = append(seen, b[0])
	}
	return string(seen)
}

func (a *asker) echoes(t *testing.T) bool {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(a.inside.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}

// awaitHidden waits until the echo is off, as it must be before one types.
func (a *asker) awaitHidden(t *testing.T) {
	t.Helper()
	for a.echoes(t) {
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

func TestTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		env   string
		typed []string
		out   string
		kind  fault.Kind
	}{
		"once":         {"", []string{"geheim\n"}, "got geheim", 0},
		"twice":        {"KEYS_TEST_CONFIRM=1", []string{"geheim\n", "geheim\n"}, "got geheim", 0},
		"twice unlike": {"KEYS_TEST_CONFIRM=1", []string{"geheim\n", "gehiem\n"}, "", fault.Usage},
		"empty":        {"", []string{"\n"}, "", fault.Usage},
		"interrupted":  {"", []string{"gehe\x03"}, "", fault.Interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			a := startAsker(t, c.env)
			seen := ""
			for i, line := range c.typed {
				seen += a.expect(t, []string{"Secret\uFFFD: ", "The same again: "}[i])
				a.awaitHidden(t)
				if _, err := a.terminal.WriteString(line); err != nil {
					t.Fatal(err)
				}
			}
			_ = a.Wait()
			if code := a.ProcessState.ExitCode(); code != int(c.kind) || a.stdout.String() != c.out {
				t.Errorf("exit %d, %q, %q", code, &a.stdout, &a.stderr)
			}
			if strings.Contains(seen+a.stderr.String(), "geh") {
				t.Errorf("the passphrase was shown: %q %q", seen, &a.stderr)
			}
			if !a.echoes(t) {
				t.Error("the terminal was left without echo")
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KEYS_TEST_ROLE=ask")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != int(fault.Usage) {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
	for _, option := range []string{"--password-file", "--password-command", "--password-fd", DefaultPasswordEnv} {
		if !strings.Contains(string(out), option) {
			t.Errorf("%q does not name %s", out, option)
		}
	}
}
