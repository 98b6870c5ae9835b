package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// fakeRay answers as a Ray 2.60 dashboard does. Jobs do not run: the function
// live says what a job looks like when it is asked for the n-th time.
type fakeRay struct {
	*httptest.Server
	mu       sync.Mutex
	jobs     map[string]*fakeJob
	requests []rayRequest
	stops    []string
	headers  http.Header // of the last request
	answer   func(n int, r *http.Request) (code int, body string)
	live     func(f *fakeJob, n int) rayJob
	n        int
}

type fakeJob struct {
	rayRequest
	asked   int
	stopped bool
	log     string
}

func newFakeRay(t *testing.T, live func(*fakeJob, int) rayJob) *fakeRay {
	f := &fakeRay{jobs: map[string]*fakeJob{}, live: live}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRay) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.headers = r.Header.Clone()
	if f.answer != nil {
		if code, body := f.answer(f.n, r); code != 0 {
			w.Header().Set("Retry-After", "0")
			w.Header().Set("Location", "http://elsewhere/")
			http.Error(w, body, code)
			return
		}
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/api/jobs/")
	id, what, _ := strings.Cut(path, "/")
	j := f.jobs[id]
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodPost && id == "":
		f.post(w, r)
	case id == "":
		all := []rayJob{{Status: "RUNNING"}} // a driver without a submission id
		for _, j := range f.jobs {
			all = append(all, f.state(j))
		}
		reply(w, all)
	case j == nil:
		http.Error(w, "Job "+id+" does not exist", http.StatusNotFound)
	case what == "stop":
		j.stopped = true
		f.stops = append(f.stops, id)
		reply(w, map[string]bool{"stopped": true})
	case what == "logs":
		reply(w, map[string]string{"logs": j.log})
	default:
		j.asked++
		reply(w, f.state(j))
	}
}

func (f *fakeRay) state(j *fakeJob) rayJob {
	s := f.live(j, j.asked)
	s.SubmissionID = j.SubmissionID
	if j.stopped {
		s = rayJob{SubmissionID: j.SubmissionID, Status: "STOPPED"}
	}
	return s
}

func (f *fakeRay) post(w http.ResponseWriter, r *http.Request) {
	var req rayRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.jobs[req.SubmissionID] != nil {
		http.Error(w, "Traceback\nValueError: Job with submission_id "+req.SubmissionID+" already exists.", http.StatusBadRequest)
		return
	}
	f.jobs[req.SubmissionID] = &fakeJob{rayRequest: req, log: "the log\n"}
	f.requests = append(f.requests, req)
	reply(w, map[string]string{"submission_id": req.SubmissionID})
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// writes is a job that runs for two looks and leaves its result.
func writes(dir string) func(*fakeJob, int) rayJob {
	return func(j *fakeJob, n int) rayJob {
		switch {
		case n < 2:
			return rayJob{Status: "PENDING"}
		case n < 4:
			return rayJob{Status: "RUNNING"}
		}
		_ = os.WriteFile(filepath.Join(dir, j.Metadata["neuroseal_job"]), []byte("result"), 0o666)
		return rayJob{Status: "SUCCEEDED"}
	}
}

// fails is a job that ends as given.
func fails(s rayJob) func(*fakeJob, int) rayJob {
	return func(*fakeJob, int) rayJob { s.Status = "FAILED"; return s }
}

func code(n int) *int { return &n }

// events collects states, "a: queued" and so on.
type events struct {
	list []string
	errs []error
}

func (e *events) add(v Event) {
	e.list = append(e.list, v.State.String())
	e.errs = append(e.errs, v.Err)
}

func rayJobs(dir string, names ...string) []Job {
	var list []Job
	for _, n := range names {
		list = append(list, Job{Name: n, Argv: []string{"train", "it's"}, Env: map[string]string{"PLAIN": "1", "DOLLAR": "$HOME"},
			Dir: "/work dir", Result: filepath.Join(dir, n), CPUs: 2, GPUs: 1, Memory: 1 << 30})
	}
	return list
}

func (f *fakeRay) run(t *testing.T, dir string, change func(*RayOptions), names ...string) (*events, error) {
	t.Helper()
	o := RayOptions{Address: f.URL, Shared: true, Token: "secret", Options: Options{Folder: filepath.Join(dir, "run"),
		Poll: time.Millisecond, Settle: 5 * time.Millisecond, Patience: 30 * time.Second, Retries: 2}}
	if change != nil {
		change(&o)
	}
	r, err := Ray(o)
	if err != nil {
		t.Fatal(err)
	}
	var e events
	return &e, r.Run(t.Context(), rayJobs(dir, names...), e.add)
}

func TestRayRequest(t *testing.T) {
	dir := t.TempDir()
	f := newFakeRay(t, writes(dir))
	e, err := f.run(t, dir, func(o *RayOptions) {
		o.Header = http.Header{"X-Proxy": {"p"}}
		o.RuntimeEnv = map[string]any{"pip": []string{"x"}}
	}, "a")
	if err != nil || fmt.Sprint(e.list) != "[queued running done]" {
		t.Fatalf("%v, %v", e.list, err)
	}
	r := f.requests[0]
	if r.CPUs != 2 || r.GPUs != 1 || r.Memory != 1<<30 || r.Metadata["neuroseal_job"] != "a" || r.Metadata["job_name"] != "a" {
		t.Errorf("request is %+v", r)
	}
	if want := "export DOLLAR='$HOME'\ncd '/work dir' || exit 71\nexec 'train' 'it'\\''s'"; r.Entrypoint != want {
		t.Errorf("entrypoint %q, want %q", r.Entrypoint, want)
	}
	if got, _ := json.Marshal(r.RuntimeEnv); string(got) != `{"env_vars":{"PLAIN":"1"},"pip":["x"]}` {
		t.Errorf("runtime environment %s", got)
	}
	if f.headers.Get("Authorization") != "Bearer secret" || f.headers.Get("X-Proxy") != "p" {
		t.Errorf("headers %v", f.headers)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "run", "logs", "a.log")); string(b) != "the log\n" {
		t.Errorf("log %q", b)
	}
	if e, err := f.run(t, dir, nil, "a"); err != nil || fmt.Sprint(e.list) != "[done]" || len(f.requests) != 1 {
		t.Errorf("a second run: %v, %v", e.list, err)
	}
}

// TestRayTrouble: what passes is waited for, and nothing is submitted twice.
func TestRayTrouble(t *testing.T) {
	for name, answer := range map[string]func(n int, r *http.Request) (int, string){
		"busy":         func(n int, _ *http.Request) (int, string) { return pick(n%5 == 2 || n%7 == 3, 429), "slow down" },
		"errors":       func(n int, _ *http.Request) (int, string) { return pick(n%5 == 2 || n%7 == 3, 500+n%4), "oops" },
		"routes later": func(n int, _ *http.Request) (int, string) { return pick(n < 6, 404), "404: Not Found" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := newFakeRay(t, writes(dir))
			f.answer = answer
			e, err := f.run(t, dir, nil, "a", "b", "c")
			if err != nil || len(f.requests) != 3 {
				t.Errorf("%v, %v, %d submissions", e.list, err, len(f.requests))
			}
		})
	}
}

func pick(yes bool, code int) int {
	if yes {
		return code
	}
	return 0
}

// TestRayAnswerLost: the cluster took the job, but its answer did not arrive.
func TestRayAnswerLost(t *testing.T) {
	dir := t.TempDir()
	f := newFakeRay(t, writes(dir))
	lost := false
	f.answer = func(_ int, r *http.Request) (int, string) {
		if r.Method == http.MethodPost && !lost {
			lost = true
			w := httptest.NewRecorder()
			f.post(w, r)
			return 502, "bad gateway"
		}
		return 0, ""
	}
	e, err := f.run(t, dir, nil, "a")
	if err != nil || len(f.requests) != 1 || fmt.Sprint(e.list) != "[queued running done]" {
		t.Errorf("%v, %v, %d submissions", e.list, err, len(f.requests))
	}
}

// TestRayFailures: the job's own failures are told from the cluster's.
func TestRayFailures(t *testing.T) {
	lost := "[queued lost queued lost queued failed]" // 2 retries
	for _, c := range []struct {
		name string
		live func(*fakeJob, int) rayJob
		want string
	}{
		{"exit status", fails(rayJob{ExitCode: code(3), ErrorType: "JOB_ENTRYPOINT_COMMAND_ERROR", Message: "Job entrypoint command failed"}), "[queued failed]"},
		{"old Ray", fails(rayJob{Message: "Job entrypoint command failed with exit code 1"}), "[queued failed]"},
		{"killed", fails(rayJob{ExitCode: code(-9)}), lost},
		{"killed in a shell", fails(rayJob{ExitCode: code(137)}), lost},
		{"node", fails(rayJob{ErrorType: "JOB_SUPERVISOR_ACTOR_DIED", Message: "Job supervisor actor died: x"}), lost},
		{"no room", fails(rayJob{ErrorType: "JOB_SUPERVISOR_ACTOR_START_TIMEOUT", Message: "failed to start within 900 seconds"}), lost},
		{"environment", fails(rayJob{ErrorType: "RUNTIME_ENV_SETUP_FAILURE", Message: "no pip"}), lost},
		{"no result", func(*fakeJob, int) rayJob { return rayJob{Status: "SUCCEEDED"} }, "[queued failed]"},
		{"stopped", func(*fakeJob, int) rayJob { return rayJob{Status: "STOPPED"} }, "[queued cancelled]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			e, err := newFakeRay(t, c.live).run(t, dir, nil, "a")
			if err == nil || fmt.Sprint(e.list) != c.want {
				t.Errorf("%v, want %v; %v", e.list, c.want, err)
			}
		})
	}
}

// TestRayHeadRestarts: the head loses all jobs; they are submitted again.
func TestRayHeadRestarts(t *testing.T) {
	dir := t.TempDir()
	f := newFakeRay(t, writes(dir))
	gone := false
	f.answer = func(int, *http.Request) (int, string) {
		if j := slices.Collect(mapValues(f.jobs)); !gone && len(j) > 0 && j[0].asked == 3 {
			gone = true
			f.jobs = map[string]*fakeJob{}
		}
		return 0, ""
	}
	e, err := f.run(t, dir, nil, "a")
	if err != nil || fmt.Sprint(e.list) != "[queued running lost queued running done]" || len(f.requests) != 2 {
		t.Errorf("%v, %v", e.list, err)
	}
}

func mapValues(m map[string]*fakeJob) func(func(*fakeJob) bool) {
	return func(yield func(*fakeJob) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestRayGone: a head that does not come back ends the run, which says that it
// can be resumed; so does a wrong address, sooner.
func TestRayGone(t *testing.T) {
	dir := t.TempDir()
	f := newFakeRay(t, func(*fakeJob, int) rayJob { return rayJob{Status: "RUNNING"} })
	f.answer = func(n int, _ *http.Request) (int, string) { return pick(n > 6, 503), "gone" }
	_, err := f.run(t, dir, func(o *RayOptions) { o.Patience = 5 * time.Millisecond }, "a")
	if err == nil || !strings.Contains(fault.HintOf(err), "the run can be resumed") {
		t.Errorf("error %v, hint %q", err, fault.HintOf(err))
	}
	f.answer = nil
	f.live = writes(dir)
	if e, err := f.run(t, dir, nil, "a"); err != nil || len(f.requests) != 1 {
		t.Errorf("the job that ran was not found: %v, %v, %d submissions", e.list, err, len(f.requests))
	}
	f.Close()
	_, err = f.run(t, t.TempDir(), func(o *RayOptions) { o.Patience = 5 * time.Millisecond }, "b")
	if err == nil || !strings.Contains(err.Error(), "no Ray cluster answers") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

// TestRayRefusals: what will not pass ends the run at once.
func TestRayRefusals(t *testing.T) {
	for c, want := range map[int]string{401: "RAY_AUTH_TOKEN", 403: "RAY_AUTH_TOKEN", 302: "http://elsewhere/"} {
		f := newFakeRay(t, nil)
		f.answer = func(int, *http.Request) (int, string) { return c, "no" }
		_, err := f.run(t, t.TempDir(), nil, "a")
		if err == nil || !strings.Contains(fault.HintOf(err), want) || f.n != 1 {
			t.Errorf("%d: %v, hint %q, %d requests", c, err, fault.HintOf(err), f.n)
		}
	}
	// A job that Ray refuses does not end the others.
	dir := t.TempDir()
	f := newFakeRay(t, writes(dir))
	f.answer = func(_ int, r *http.Request) (int, string) {
		return pick(r.Method == http.MethodPost && len(f.jobs) == 0 && f.n < 4, 400), "Traceback\nTypeError: bad"
	}
	e, err := f.run(t, dir, nil, "a", "b")
	if err == nil || !strings.Contains(err.Error(), "TypeError: bad") || !slices.Contains(e.list, "done") {
		t.Errorf("%v, %v", e.list, err)
	}
}

// TestRayUnshared: the result comes through the log, once and whole.
func TestRayUnshared(t *testing.T) {
	unshared := func(o *RayOptions) { o.Shared = false }
	for name, log := range map[string]func(id string) (string, string){
		"whole": func(id string) (string, string) {
			return "out\n" + block(id, []byte("result")), "[queued running done]"
		},
		"cut off": func(id string) (string, string) {
			b := block(id, []byte("result"))
			return b[:len(b)-9], "[queued running failed]"
		},
		"missing": func(string) (string, string) { return "out\n", "[queued running failed]" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var want string
			f := newFakeRay(t, func(j *fakeJob, n int) rayJob {
				j.log, want = log(j.SubmissionID)
				if n < 2 {
					return rayJob{Status: "RUNNING"}
				}
				return rayJob{Status: "SUCCEEDED"}
			})
			e, err := f.run(t, dir, unshared, "a")
			if got := strings.Replace(want, "queued ", "", 1); fmt.Sprint(e.list) != want && strings.Replace(fmt.Sprint(e.list), "queued ", "", 1) != got {
				t.Errorf("%v, want %v; %v", e.list, want, err)
			}
			b, _ := os.ReadFile(filepath.Join(dir, "a"))
			if (name == "whole") != (string(b) == "result") {
				t.Errorf("result %q", b)
			}
		})
	}
}

// TestRayLogUnreadable: a log that Ray cannot serve costs the result where files
// are not shared: for good if it is not text, else the job is lost with its node.
func TestRayLogUnreadable(t *testing.T) {
	for body, want := range map[string]string{
		"Traceback\nUnicodeDecodeError: 'utf-8' codec can't decode byte 0xff\n.":    "[queued failed]",
		"Traceback\nClientConnectorError: Cannot connect to host 10.0.0.1:52365 \n": "[queued lost queued lost queued failed]",
	} {
		dir := t.TempDir()
		f := newFakeRay(t, func(*fakeJob, int) rayJob { return rayJob{Status: "SUCCEEDED"} })
		f.answer = func(_ int, r *http.Request) (int, string) {
			return pick(strings.HasSuffix(r.URL.Path, "/logs"), 500), body
		}
		e, err := f.run(t, dir, func(o *RayOptions) { o.Shared = false }, "a")
		if err == nil || fmt.Sprint(e.list) != want {
			t.Errorf("%v, want %s; %v", e.list, want, err)
		}
	}
}

// TestRayLimitAndCancel: what runs too long, or is not wanted any more, is
// stopped on the cluster.
func TestRayLimitAndCancel(t *testing.T) {
	running := func(*fakeJob, int) rayJob { return rayJob{Status: "RUNNING"} }
	dir := t.TempDir()
	f := newFakeRay(t, running)
	r, err := Ray(RayOptions{Address: f.URL, Shared: true, Options: Options{Folder: dir, Poll: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	list := rayJobs(dir, "a")
	list[0].Limit = time.Millisecond
	if err := r.Run(t.Context(), list, nil); err == nil || !strings.Contains(err.Error(), "longer than its limit") || len(f.stops) != 1 {
		t.Errorf("%v, stops %v", err, f.stops)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var e events
	err = r.Run(ctx, rayJobs(dir, "b", "c"), func(v Event) {
		e.add(v)
		if v.State == Running {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(f.stops) != 3 || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v, stops %v, events %v", err, f.stops, e.list)
	}
}

// TestRayParallel: no more jobs are on the cluster than was asked for.
func TestRayParallel(t *testing.T) {
	dir := t.TempDir()
	most := 0
	f := newFakeRay(t, writes(dir))
	f.answer = func(int, *http.Request) (int, string) {
		n := 0
		for _, j := range f.jobs {
			if j.asked < 4 {
				n++
			}
		}
		most = max(most, n)
		return 0, ""
	}
	_, err := f.run(t, dir, func(o *RayOptions) { o.Parallel = 2 }, "a", "b", "c", "d", "e")
	if err != nil || most != 2 || len(f.requests) != 5 {
		t.Errorf("%v, at most %d at a time, %d in all", err, most, len(f.requests))
	}
}

func TestRayAddress(t *testing.T) {
	for given, want := range map[string]string{
		"":                     "http://127.0.0.1:8265",
		"http://head:8265/":    "http://head:8265",
		"https://h/proxy/ray/": "https://h/proxy/ray",
		"head:8265":            "http://head:8265",
		"ray://head:10001":     "!",
		"auto":                 "!",
		"http://u:secret@h:1":  "http://u:secret@h:1",
		"ftp://u:secret@h:1":   "!",
		"http://%zz":           "!",
	} {
		t.Setenv("RAY_ADDRESS", "")
		t.Setenv("RAY_API_SERVER_ADDRESS", "")
		u, err := rayAddress(given)
		switch {
		case want == "!" && (err == nil || strings.Contains(err.Error(), "secret")):
			t.Errorf("%q: %v, %v", given, u, err)
		case want != "!" && (err != nil || u.String() != want):
			t.Errorf("%q: %v, %v; want %s", given, u, err, want)
		}
	}
	t.Setenv("RAY_ADDRESS", "http://env:1")
	if u, err := rayAddress(""); err != nil || u.Host != "env:1" {
		t.Errorf("%v, %v", u, err)
	}
}
