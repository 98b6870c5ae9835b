package jobs

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// rayAPI speaks the Jobs REST API of a Ray dashboard.
type rayAPI struct {
	base   *url.URL
	header http.Header
	client *http.Client
}

// rayRequest is the body of POST /api/jobs/.
type rayRequest struct {
	Entrypoint   string            `json:"entrypoint"`
	SubmissionID string            `json:"submission_id"`
	RuntimeEnv   map[string]any    `json:"runtime_env"`
	Metadata     map[string]string `json:"metadata"`
	CPUs         int               `json:"entrypoint_num_cpus"`
	GPUs         int               `json:"entrypoint_num_gpus,omitempty"`
	Memory       int64             `json:"entrypoint_memory,omitempty"` // bytes
}

// rayJob is what GET /api/jobs/ID tells.
type rayJob struct {
	SubmissionID string `json:"submission_id"`
	Status       string `json:"status"`
	Message      string `json:"message"`
	ErrorType    string `json:"error_type"`
	ExitCode     *int   `json:"driver_exit_code"`
}

const (
	requestTime = 60 * time.Second
	maxAnswer   = 256 << 20 // bytes; logs carry results
)

// errNoJob says that the cluster does not know a job.
var errNoJob = errors.New("the cluster does not know the job")

// badRequest is an answer of status 400.
type badRequest struct{ msg string }

func (b badRequest) Error() string { return b.msg }

func newRayAPI(base *url.URL, token string, header http.Header) *rayAPI {
	h := maps.Clone(header)
	if h == nil {
		h = http.Header{}
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	// A redirect would carry the headers, which may hold secrets, elsewhere.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &rayAPI{base: base, header: h, client: &http.Client{Timeout: requestTime, CheckRedirect: stay}}
}

func (a *rayAPI) list(ctx context.Context) ([]rayJob, error) {
	var all []rayJob
	return all, a.call(ctx, http.MethodGet, "", nil, &all)
}

func (a *rayAPI) get(ctx context.Context, id string) (*rayJob, error) {
	var j rayJob
	if err := a.call(ctx, http.MethodGet, id, nil, &j); err != nil {
		return nil, err
	}
	return &j, nil
}

func (a *rayAPI) submit(ctx context.Context, r *rayRequest) error {
	return a.call(ctx, http.MethodPost, "", r, nil)
}

func (a *rayAPI) stop(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodPost, id+"/stop", nil, nil)
}

func (a *rayAPI) logs(ctx context.Context, id string) (string, error) {
	var l struct {
		Logs string `json:"logs"`
	}
	err := a.call(ctx, http.MethodGet, id+"/logs", nil, &l)
	return l.Logs, err
}

// call sends one request; to, if not nil, takes the answer.
func (a *rayAPI) call(ctx context.Context, method, path string, body, to any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fault.Wrap(fault.Usage, err, "describing a job to Ray")
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base.String()+"/api/jobs/"+path, r)
	if err != nil {
		return fault.Wrap(fault.Usage, err, "Ray")
	}
	maps.Copy(req.Header, a.header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unreachable(ctx, err)
	case len(b) > maxAnswer:
		return fault.New(fault.General, "Ray: the answer to %s /api/jobs/%s is longer than %d MB", method, path, maxAnswer>>20)
	case resp.StatusCode != http.StatusOK:
		return refusal(resp, string(b), method+" /api/jobs/"+path)
	case to == nil:
		return nil
	}
	if err := json.Unmarshal(b, to); err != nil {
		return outage{err: fmt.Errorf("Ray: the answer to %s /api/jobs/%s is no JSON: %w", method, path, err)}
	}
	return nil
}

// unreachable classifies what kept a request from being answered.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	if errors.As(err, &cert) || errors.As(err, &record) {
		return fault.Wrap(fault.General, err, "Ray").WithHint("check whether the address is to begin with http:// or https://")
	}
	return outage{err: err}
}

// refusal turns an answer that is not 200 into an error.
func refusal(resp *http.Response, body, what string) error {
	err := fmt.Errorf("Ray answered %s with %s: %s", what, resp.Status, excerpt(body))
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && strings.Contains(body, "does not exist"):
		return errNoJob
	case code == http.StatusBadRequest:
		return badRequest{err.Error()}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fault.Wrap(fault.General, err, "no access").WithHint("give the cluster's token in RAY_AUTH_TOKEN, or the path of its file in RAY_AUTH_TOKEN_PATH; Ray keeps its own in ~/.ray/auth_token")
	case code >= 300 && code < 400:
		return fault.Wrap(fault.Usage, err, "the address leads elsewhere").
			WithHint("give the address that it redirects to: %s", resp.Header.Get("Location"))
	case code == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return outage{err, time.Duration(max(0, min(seconds, 3600))) * time.Second}
	}
	// Also other 404s: a dashboard that starts does not know its routes yet.
	return outage{err: err}
}

// excerpt is the last line of a text that says something: of a traceback, what
// happened.
func excerpt(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for _, line := range slices.Backward(lines) {
		if line = strings.TrimSpace(line); len(line) > 3 {
			return short(line)
		}
	}
	return short(s)
}

// short bounds what a message quotes.
func short(s string) string {
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}
