package hub

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// answer is an HTTP answer that is no success.
type answer struct {
	status int
	code   string // the hub's X-Error-Code, such as RepoNotFound
	text   string // what the server says, for people
	away   bool   // another host than the hub's said it
}

func (a *answer) Error() string {
	s := http.StatusText(a.status)
	if a.text != "" {
		s += ": " + a.text
	}
	return s
}

// answered returns the answer behind an error, nil if there is none.
func answered(err error) *answer {
	var a *answer
	if errors.As(err, &a) {
		return a
	}
	return nil
}

const maxErrorText = 300 // characters of a server's message that are shown

// explain reads an answer that is no success and closes it.
func (c *Client) explain(r *reply) error {
	defer r.Body.Close()
	a := &answer{status: r.StatusCode, code: r.Header.Get("X-Error-Code"), text: r.Header.Get("X-Error-Message")}
	if a.text == "" {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		a.text = errorText(body, r.Header.Get("Content-Type"))
	}
	a.text = c.scrub(oneLine(a.text))
	if !c.ours(r.Request.URL) {
		a.away = true
		return fault.Wrap(fault.General, a, "%s, where the hub keeps its files, answers %d", r.Request.URL.Host, a.status)
	}
	return a
}

// errorText takes the message out of a JSON answer; pages for browsers have none.
func errorText(body []byte, contentType string) string {
	var v struct {
		Error   any    `json:"error"`
		Message string `json:"message"`
		Errors  []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &v) == nil {
		if s, ok := v.Error.(string); ok {
			return s
		}
		if len(v.Errors) > 0 {
			return v.Errors[0].Message
		}
		return v.Message
	}
	if strings.HasPrefix(contentType, "text/plain") {
		return string(body)
	}
	return ""
}

// oneLine makes a server's text fit for a message.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if r := []rune(s); len(r) > maxErrorText {
		s = string(r[:maxErrorText]) + "…"
	}
	return s
}

// about turns an answer about a model into advice. Other errors, and those that
// are explained already, pass.
func (c *Client) about(err error, ref Ref) error {
	a := answered(err)
	var told *fault.Error
	if a == nil || errors.As(err, &told) {
		return err
	}
	host := c.endpoint.Host
	page := c.cfg.Endpoint + "/" + ref.ID
	switch {
	case a.code == "GatedRepo" && !c.cfg.Token.Given():
		return fault.Wrap(fault.General, a, "%s is gated: who downloads it must be logged in and accept its conditions", ref.ID).
			WithHint("accept them at %s, then set HF_TOKEN to a token of your account", page)
	case a.code == "GatedRepo":
		return fault.Wrap(fault.General, a, "%s is gated, and the account of the token has no access to it", ref.ID).
			WithHint("ask for access at %s; a fine-grained token also needs the right to read public gated repositories", page)
	case a.code == "RevisionNotFound":
		return fault.Wrap(fault.General, a, "%s has no revision %q", ref.ID, ref.revision()).
			WithHint("its branches and tags are listed at %s/tree/main", page)
	case a.code == "EntryNotFound":
		return fault.Wrap(fault.General, a, "%s at %s has no such file", ref.ID, ref.revision()).
			WithHint("its files are listed at %s/tree/%s", page, ref.revision())
	case a.status == http.StatusUnauthorized && strings.Contains(a.text, "Invalid credentials"):
		return fault.Wrap(fault.General, a, "%s does not accept the token", host).
			WithHint("it may have been revoked or belong to another hub; make one at %s/settings/tokens and set HF_TOKEN", c.cfg.Endpoint)
	case a.code == "RepoNotFound", a.status == http.StatusUnauthorized, a.status == http.StatusNotFound && a.code == "":
		return c.notFound(a, ref)
	case a.status == http.StatusForbidden:
		return fault.Wrap(fault.General, a, "%s refuses this token for %s", host, ref.ID).
			WithHint("the token needs the right to write there; see %s/settings/tokens", c.cfg.Endpoint)
	case a.status == http.StatusTooManyRequests:
		return fault.Wrap(fault.General, a, "%s asks for fewer requests", host).
			WithHint("wait a few minutes; the same command goes on where this one stopped")
	}
	return fault.Wrap(fault.General, a, "asking %s about %s", host, ref.ID).
		WithHint("the same command goes on where this one stopped")
}

func (c *Client) notFound(a *answer, ref Ref) error {
	e := fault.Wrap(fault.General, a, "%s has no model %s, or it is private", c.endpoint.Host, ref.ID)
	if c.cfg.Token.Given() {
		return e.WithHint("check the name, and that the account of the token may read it; a folder on this machine is written ./%s", ref.ID)
	}
	return e.WithHint("check the name; for a private model set HF_TOKEN; a folder on this machine is written ./%s", ref.ID)
}
