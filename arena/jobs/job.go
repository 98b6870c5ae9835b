package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Job is one command and the file in which it leaves its result.
type Job struct {
	Name string   // unique within a run; letters, digits, '.', '_' and '-'
	Argv []string // the command; what it prints (both streams) is the job's log
	Env  map[string]string
	Dir  string // working directory; "": the current one
	// Result is the file that the job writes, atomically, when it has finished:
	// a job is done if and only if this file exists and is not empty. Its folder
	// is made.
	Result string
	CPUs   int           // 0 counts as 1
	GPUs   int           // whole devices
	Memory int64         // bytes; 0: not stated
	Limit  time.Duration // of running time; 0: none
}

// State is what has become of a job.
type State int

// The states. A job that is lost goes back to Queued if it may be retried.
const (
	Queued    State = iota // handed to the cluster, waits for resources
	Running                // started
	Done                   // its result is there
	Failed                 // ended without a result, or cannot be started
	Lost                   // its node died, it was killed or it vanished; it is retried
	Cancelled              // stopped, by the context or by somebody else
)

func (s State) String() string {
	names := []string{"queued", "running", "done", "failed", "lost", "cancelled"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return names[s]
}

// Event is a change of a job's state.
type Event struct {
	Job   string
	State State
	Err   error  // why, for Failed, Lost and Cancelled
	Log   string // path of the job's log; it may not exist yet
}

// Runner runs jobs somewhere.
type Runner interface {
	// Name is "ray" or "slurm".
	Name() string
	// Run runs all jobs and returns when all have ended. Every change of state
	// is reported, one at a time; report may be nil. Jobs whose result exists
	// are not started and reported as Done; jobs that an earlier Run with the
	// same folder started, and that still run, are waited for and not started
	// twice. Lost jobs are retried up to Options.Retries times.
	//
	// If ctx is cancelled, what runs is stopped, on the cluster too, and the
	// error wraps ctx's. If jobs failed, the others still run to their end, and
	// the error says how many failed and why the first did. After any error the
	// same call goes on where it stopped.
	Run(ctx context.Context, jobs []Job, report func(Event)) error
}

// Options are those that all runners share.
type Options struct {
	// Folder is the run's folder: logs/NAME.log, scripts, and the run's identity,
	// by which a later Run finds jobs that still run. It is made if it is
	// missing. On Slurm the nodes must see it under the same path.
	Folder  string
	Retries int           // of a lost job, for each Run; 0: 3, negative: none
	Poll    time.Duration // between two looks at the cluster; 0: 2 s (Slurm: 5 s)
	// Patience is how long the cluster may be out of reach before Run gives up;
	// 0: 10 minutes. Jobs that run are not stopped then.
	Patience time.Duration
	// Settle is how long a file that a node has written may take to be seen here
	// (network file systems cache folders); 0: 30 s.
	Settle time.Duration
}

func (o Options) withDefaults(poll time.Duration) Options {
	switch {
	case o.Retries == 0:
		o.Retries = 3
	case o.Retries < 0:
		o.Retries = 0
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.Poll, poll)
	set(&o.Patience, 10*time.Minute)
	set(&o.Settle, 30*time.Second)
	return o
}

var (
	safeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// task is a job under way.
type task struct {
	Job
	log    string
	digest string // of the job, within its run: what must not run twice
	run    string // the run's identity

	id      string // what the cluster calls it; "" while it is not submitted
	try     int    // the number of the next or present submission (Ray)
	lost    int    // how often
	adopted bool   // submitted by an earlier Run
	last    State  // reported last; -1: none
	over    bool   // Done, Failed or Cancelled
	err     error  // of a job that is over
	refused error  // the cluster does not take it
	read    bool   // its log has been fetched
	started time.Time
	ended   time.Time // when the cluster said so, while its result is awaited
	// hopeless is since when Slurm has said that it may never start.
	hopeless time.Time
}

// prepare checks the jobs and makes the folders that they need.
func prepare(o Options, list []Job) ([]*task, error) {
	if o.Folder == "" {
		return nil, fault.New(fault.Usage, "running jobs: no run folder is given")
	}
	folder, err := filepath.Abs(o.Folder)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "running jobs")
	}
	seen := map[string]string{}
	var tasks []*task
	for _, j := range list {
		j, err := check(j)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{"name " + strings.ToLower(j.Name), "result " + j.Result} {
			if other, twice := seen[key]; twice {
				return nil, fault.New(fault.Usage, "jobs %s and %s have the same %s", other, j.Name, strings.Fields(key)[0])
			}
			seen[key] = j.Name
		}
		tasks = append(tasks, &task{Job: j, log: filepath.Join(folder, "logs", j.Name+".log"), last: -1})
	}
	run, err := identity(folder)
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		t.run, t.digest = run, digest(t.Job)
		if err := os.MkdirAll(filepath.Dir(t.Result), 0o777); err != nil {
			return nil, fault.Wrap(fault.General, err, "job %s: making the folder of its result", t.Name)
		}
	}
	return tasks, nil
}

// check returns the job with absolute paths, or what is wrong with it.
func check(j Job) (Job, error) {
	bad := func(format string, args ...any) (Job, error) {
		return j, fault.New(fault.Usage, "job %q: %s", j.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case !safeName.MatchString(j.Name):
		return bad("its name must be 1 to 128 letters, digits, '.', '_' or '-', and not begin with '.' or '-'")
	case len(j.Argv) == 0 || j.Argv[0] == "":
		return bad("it has no command")
	case j.Result == "":
		return bad("it names no result file")
	case j.CPUs < 0 || j.GPUs < 0 || j.Memory < 0 || j.Limit < 0:
		return bad("a resource is negative")
	}
	for _, s := range append([]string{j.Dir, j.Result}, j.Argv...) {
		if strings.ContainsRune(s, 0) {
			return bad("%q holds a NUL byte, which no command line can carry", s)
		}
	}
	for k, v := range j.Env {
		if !envName.MatchString(k) || strings.ContainsRune(v, 0) {
			return bad("environment variable %q cannot be set", k)
		}
	}
	var err error
	if j.Result, err = filepath.Abs(j.Result); err == nil && j.Dir != "" {
		j.Dir, err = filepath.Abs(j.Dir)
	}
	if err != nil {
		return bad("%v", err)
	}
	j.CPUs = max(1, j.CPUs)
	return j, nil
}

// digest tells jobs of one run apart. It covers all that decides what a job
// does, so that a changed command is never mistaken for the one that runs.
func digest(j Job) string {
	env := slices.Sorted(maps.Keys(j.Env))
	for i, k := range env {
		env[i] = k + "=" + j.Env[k]
	}
	// Marshalling strings and numbers cannot fail.
	b, _ := json.Marshal([]any{j.Name, hexAll(j.Argv), hexAll(env), hexAll([]string{j.Dir, j.Result}), j.CPUs, j.GPUs, j.Memory, j.Limit})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// hexAll keeps bytes that are not UTF-8, which JSON would replace.
func hexAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = hex.EncodeToString([]byte(s))
	}
	return out
}

// finished says whether the job's result is there.
func finished(j Job) bool {
	st, err := os.Stat(j.Result)
	return err == nil && st.Mode().IsRegular() && st.Size() > 0
}
