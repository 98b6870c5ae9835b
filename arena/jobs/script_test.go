//go:build linux

package jobs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Jobs of tests are shell scripts that leave traces in a folder.

// hostile are arguments that a shell would not leave alone.
var hostile = []string{"", " ", "plain", "a b", `'`, `"`, `it's "quoted"`, "$(touch pwned)", "`touch pwned`", "$HOME ${PATH}",
	"two\nlines", "trailing\n", "; touch pwned", "&& touch pwned", "*", "~", `back\slash\`, "-n", "--", "%s%n%A", "é漢🦭", "\t\r\x01"}

// write is a job that writes its arguments, variables and folder to its result.
func write(dir, name string, args ...string) Job {
	j := script(dir, name, `echo started $NAME; printf '%s\0' "$PWD" "$VALUE" "$@" >"$R.part" && chmod 600 "$R.part" && mv "$R.part" "$R"`, args...)
	j.Env["VALUE"] = "it's $(touch pwned) ${HOME} \"$PATH\"\n"
	return j
}

// script is a job that runs a shell script. It counts its starts.
func script(dir, name, text string, args ...string) Job {
	result := filepath.Join(dir, "results", name+".json")
	return Job{
		Name:   name,
		Argv:   append([]string{"/bin/sh", "-c", `echo $$ >>"$STARTS"; ` + text, "sh"}, args...),
		Env:    map[string]string{"R": result, "NAME": name, "STARTS": filepath.Join(dir, name+".starts"), "GO": filepath.Join(dir, "go")},
		Dir:    dir,
		Result: result,
		CPUs:   1,
	}
}

// starts returns the process ids under which a job was started.
func starts(dir, name string) []int {
	b, _ := os.ReadFile(filepath.Join(dir, name+".starts"))
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		pid, _ := strconv.Atoi(f)
		pids = append(pids, pid)
	}
	return pids
}

// journal keeps events, and calls a function when a state is first reached.
type journal struct {
	t      *testing.T
	mu     sync.Mutex
	events []Event
	when   map[State]func(Event)
}

func (j *journal) report(e Event) {
	j.t.Logf("%s: %v %v", e.Job, e.State, e.Err)
	j.mu.Lock()
	j.events = append(j.events, e)
	f := j.when[e.State]
	delete(j.when, e.State)
	j.mu.Unlock()
	if f != nil {
		f(e)
	}
}

func (j *journal) states(name string) []State {
	var s []State
	for _, e := range j.events {
		if e.Job == name {
			s = append(s, e.State)
		}
	}
	return s
}

func (j *journal) has(name string, s State) bool { return slices.Contains(j.states(name), s) }

func wantResumable(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(fault.HintOf(err), "the run can be resumed") {
		t.Errorf("error is %v, hint %q; want one that says that the run can be resumed", err, fault.HintOf(err))
	}
}
