package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// RayOptions say where a Ray cluster is and what its jobs see.
type RayOptions struct {
	Options
	// Address is the cluster's dashboard, http://HOST:8265. If it is empty,
	// RAY_API_SERVER_ADDRESS, RAY_ADDRESS and http://127.0.0.1:8265 are tried.
	Address string
	// Token is sent as "Authorization: Bearer". If it is empty, RAY_AUTH_TOKEN
	// or the file that RAY_AUTH_TOKEN_PATH names is used.
	Token  string
	Header http.Header // further headers, for a proxy in front of the cluster
	// Shared says that the nodes see this machine's files under the same paths.
	// If not, a job's result travels back through its log, and what a job reads
	// must be on the nodes, where the result stays, too.
	Shared   bool
	Parallel int // jobs submitted at the same time; 0: 16
	// RuntimeEnv holds further fields of the jobs' Ray runtime environment, such
	// as pip or image_uri. env_vars come from the jobs.
	RuntimeEnv map[string]any
}

// Ray runs jobs on a running Ray cluster through its Jobs REST API. The cluster
// decides where and when, by the resources that a job states; only how many are
// submitted at once is decided here.
//
// A job's submission id is made of the run's identity, a digest of the job and
// the number of the try: a Run that goes on after a crash finds the job that
// runs, and one that changed its command does not.
func Ray(o RayOptions) (Runner, error) {
	o.Options = o.withDefaults(2 * time.Second)
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if _, set := o.RuntimeEnv["env_vars"]; set {
		return nil, fault.New(fault.Usage, "Ray: env_vars of the runtime environment come from the jobs")
	}
	base, err := rayAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if o.Token, err = rayToken(o.Token); err != nil {
		return nil, err
	}
	return &rayRunner{o: o, base: base}, nil
}

type rayRunner struct {
	o    RayOptions
	base *url.URL
}

func (r *rayRunner) Name() string { return "ray" }

func (r *rayRunner) Run(ctx context.Context, list []Job, report func(Event)) error {
	c := &ray{o: r.o, api: newRayAPI(r.base, r.o.Token, r.o.Header), begun: time.Now(), unread: map[string]int{}}
	return runOn(ctx, c, r.o.Options, list, report)
}

// rayAddress finds the dashboard's address.
func rayAddress(given string) (*url.URL, error) {
	from := "the address"
	for _, env := range []string{"RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"} {
		if given == "" {
			given, from = os.Getenv(env), env
		}
	}
	if given == "" {
		given = "http://127.0.0.1:8265"
	}
	full := given
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || given == "auto" {
		if err == nil {
			given = u.Redacted()
		}
		return nil, fault.New(fault.Usage, "Ray: %s %q is not the address of a dashboard", from, given).
			WithHint("give the address under which the cluster's Jobs API answers, such as http://HOST:8265")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// rayToken finds the token as Ray's own tools do.
func rayToken(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if t := os.Getenv("RAY_AUTH_TOKEN"); t != "" {
		return strings.TrimSpace(t), nil
	}
	path := os.Getenv("RAY_AUTH_TOKEN_PATH")
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fault.Wrap(fault.General, err, "Ray: reading the token that RAY_AUTH_TOKEN_PATH names")
	}
	return strings.TrimSpace(string(b)), nil
}

// ray is a Ray cluster during one Run.
type ray struct {
	o      RayOptions
	api    *rayAPI
	begun  time.Time
	met    bool           // it has answered
	unread map[string]int // failed tries to read a log
}

const (
	firstContact = 20 * time.Second // a wrong address is told soon
	logTries     = 5
)

func (c *ray) slots() int { return c.o.Parallel }

// prefix begins the submission ids of all tries of a job.
func (t *task) prefix() string { return "neuroseal-" + t.run + "-" + t.digest + "-" }

// adopt finds the jobs of this run by their submission ids.
func (c *ray) adopt(ctx context.Context, tasks []*task) error {
	all, err := c.api.list(ctx)
	if err != nil {
		var out outage
		if !c.met && errors.As(err, &out) && time.Since(c.begun) > min(firstContact, c.o.Patience) {
			return fault.Wrap(fault.General, out.err, "no Ray cluster answers").
				WithHint("check the address (%s) and that the cluster runs; the Jobs API is that of its dashboard", c.api.base.Redacted())
		}
		return err
	}
	c.met = true
	known := map[string]*task{}
	for _, t := range tasks {
		known[t.prefix()] = t
	}
	for _, j := range all {
		cut := strings.LastIndexByte(j.SubmissionID, '-') + 1
		try, err := strconv.Atoi(j.SubmissionID[cut:])
		t := known[j.SubmissionID[:cut]]
		if err != nil || t == nil || try < t.try {
			continue
		}
		t.try, t.id = try+1, ""
		if j.Status == "PENDING" || j.Status == "RUNNING" || j.Status == "SUCCEEDED" && !c.o.Shared {
			t.id = j.SubmissionID
		}
	}
	return nil
}

// submit submits the tasks one by one.
func (c *ray) submit(ctx context.Context, tasks []*task) error {
	for _, t := range tasks {
		id := t.prefix() + strconv.Itoa(t.try)
		req, err := c.request(t, id)
		if err != nil {
			t.refused = err
			continue
		}
		err = c.api.submit(ctx, req)
		var out outage
		if errors.As(err, &out) || errors.As(err, new(badRequest)) {
			// The answer may have been lost, or this be a repetition.
			if _, there := c.api.get(ctx, id); there == nil {
				err = nil
			}
		}
		switch {
		case errors.As(err, new(badRequest)):
			t.refused = fault.Wrap(fault.General, err, "Ray refused the job")
		case err != nil:
			return err
		default:
			t.id = id
			t.try++
		}
	}
	return nil
}

// request describes a job to Ray.
func (c *ray) request(t *task, id string) (*rayRequest, error) {
	for _, s := range append([]string{t.Dir, t.Result}, t.Argv...) {
		if !utf8.ValidString(s) {
			return nil, fault.New(fault.Usage, "%q is not UTF-8, and Ray's API carries nothing else", s)
		}
	}
	// Ray replaces $NAME in env_vars; such values are set by the command.
	plain, dollar := map[string]string{}, map[string]string{}
	for k, v := range t.Env {
		switch {
		case !utf8.ValidString(v):
			return nil, fault.New(fault.Usage, "environment variable %s is not UTF-8, and Ray's API carries nothing else", k)
		case strings.ContainsRune(v, '$'):
			dollar[k] = v
		default:
			plain[k] = v
		}
	}
	env := map[string]any{}
	for k, v := range c.o.RuntimeEnv {
		env[k] = v
	}
	env["env_vars"] = plain
	req := &rayRequest{
		SubmissionID: id,
		RuntimeEnv:   env,
		Metadata:     map[string]string{"job_name": t.Name, "neuroseal_run": t.run, "neuroseal_job": t.Name},
		CPUs:         t.CPUs, GPUs: t.GPUs, Memory: t.Memory,
	}
	if c.o.Shared {
		dir := t.Dir
		if dir == "" {
			var err error
			if dir, err = os.Getwd(); err != nil {
				return nil, err
			}
		}
		req.Entrypoint = exports(dollar) + changeDir(dir) + command(t.Argv)
	} else {
		req.Entrypoint = exports(dollar) + carrying(t, id)
	}
	return req, nil
}

// poll asks about every task.
func (c *ray) poll(ctx context.Context, tasks []*task) ([]status, error) {
	states := make([]status, len(tasks))
	for i, t := range tasks {
		j, err := c.api.get(ctx, t.id)
		switch {
		case errors.Is(err, errNoJob):
			states[i] = status{gone, errors.New("the cluster knows nothing of it any more; was its head started anew?")}
		case err != nil:
			return nil, err
		default:
			states[i] = j.status()
		}
	}
	return states, nil
}

// status translates what Ray says of a job.
func (j *rayJob) status() status {
	switch j.Status {
	case "PENDING":
		return status{phase: waiting}
	case "RUNNING":
		return status{phase: running}
	case "SUCCEEDED":
		return status{phase: succeeded}
	case "STOPPED":
		return status{stoppedBy, errors.New("somebody stopped it on the cluster")}
	case "FAILED":
		return j.failure()
	}
	return status{gone, fmt.Errorf("its state is %q", j.Status)}
}

// failure tells the job's own failures from the cluster's: Ray records an exit
// code only if the command ended by itself.
func (j *rayJob) failure() status {
	line, _, _ := strings.Cut(strings.TrimSpace(j.Message), "\n")
	line = short(line)
	switch {
	case j.ExitCode != nil && killedByCode(*j.ExitCode):
		return status{gone, fmt.Errorf("its process was killed (status %d), perhaps for want of memory", *j.ExitCode)}
	case j.ExitCode != nil:
		return status{failed, fmt.Errorf("exit status %d", *j.ExitCode)}
	case j.ErrorType == "JOB_ENTRYPOINT_COMMAND_ERROR", j.ErrorType == "JOB_ENTRYPOINT_COMMAND_START_ERROR",
		strings.HasPrefix(line, "Job entrypoint command failed"):
		return status{failed, errors.New(line)}
	case j.ErrorType == "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", strings.Contains(line, "failed to start within"):
		return status{starved, errors.New(line)}
	}
	return status{gone, errors.New(line)}
}

// collect fetches the log and, unless files are shared, the result in it.
func (c *ray) collect(ctx context.Context, t *task) error {
	if t.read {
		return nil
	}
	text, err := c.api.logs(ctx, t.id)
	if err != nil {
		return c.unreadable(ctx, t, err)
	}
	t.read = true
	if c.o.Shared {
		return appendLog(t.log, text)
	}
	result, rest, err := extract(text, t.id)
	err = errors.Join(err, appendLog(t.log, rest))
	if err == nil && result != nil {
		err = atomicdir.WriteFile(t.Result, result, 0o666, true)
	}
	return err
}

// unreadable decides what a log that cannot be read means: it may be out of
// reach for now, lost with its node, or not be text.
func (c *ray) unreadable(ctx context.Context, t *task, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var out outage
	notText := strings.Contains(err.Error(), "UnicodeDecodeError")
	if errors.As(err, &out) && !notText {
		if c.unread[t.id]++; c.unread[t.id] < logTries {
			return err
		}
	}
	t.read = true
	note := fmt.Errorf("Ray cannot show the job's log: %v", err) // no outage any more
	if notText {
		note = errors.New("Ray cannot show the job's log, since it is not UTF-8 text")
	}
	_ = appendLog(t.log, note.Error()+"\n")
	switch {
	case c.o.Shared:
		return nil
	case notText:
		return note
	}
	return goneError{note}
}

// stop stops the tasks. One that has ended, or is not known, is stopped.
func (c *ray) stop(ctx context.Context, tasks []*task) error {
	for _, t := range tasks {
		if err := c.api.stop(ctx, t.id); err != nil && !errors.Is(err, errNoJob) {
			return err
		}
	}
	return nil
}
