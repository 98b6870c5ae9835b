package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/sha256x2"
)

const (
	attempts     = 6                // of one request, as long as nothing arrives
	maxRedirects = 10               // as browsers and huggingface_hub's client allow, about
	idleRead     = 60 * time.Second // without a byte: the connection is given up
	idleUpload   = 10 * time.Minute // the same while a server digests an upload
	maxWait      = 5 * time.Minute  // the longest Retry-After that is waited for
	maxJSON      = 64 << 20         // bytes of one answer
)

// Client speaks to one hub. It is safe for concurrent use.
type Client struct {
	cfg      Config
	endpoint *url.URL
	http     *http.Client
	sleep    func(context.Context, time.Duration) error
	lines    chan struct{}   // one for each connection that downloads of large files take
	pairs    *sha256x2.Pairs // where their checksums meet
}

// New returns a client. It makes no connection.
func New(cfg Config) (*Client, error) {
	u, err := parseEndpoint(strings.TrimRight(cfg.Endpoint, "/"))
	if err != nil {
		return nil, err
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	cfg.Endpoint = u.String()
	c := &Client{cfg: cfg, endpoint: u, sleep: sleep, lines: make(chan struct{}, cfg.Workers), pairs: new(sha256x2.Pairs)}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: cfg.Workers + 2,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 15 * time.Second,
		DisableCompression:  true, // ranges and sizes are of the bytes themselves
		ReadBufferSize:      64 << 10,
	}
	// Redirects are followed in roundTrip, which knows where the token may go.
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if u.Scheme == "http" && cfg.Token.Given() && !loopback(u.Hostname()) {
		c.notice("the hub token goes to %s without encryption", u.Host)
	}
	return c, nil
}

func (c *Client) notice(format string, args ...any) {
	if c.cfg.Notice != nil {
		c.cfg.Notice(c.scrub(fmt.Sprintf(format, args...)))
	}
}

func (c *Client) stage(name string, total int64) {
	if c.cfg.Progress != nil {
		c.cfg.Progress.Stage(name, total)
	}
}

func (c *Client) add(n int64) {
	if c.cfg.Progress != nil {
		c.cfg.Progress.Add(n)
	}
}

// scrub cuts the token out of a text that a server or a library wrote.
func (c *Client) scrub(s string) string {
	if c.cfg.Token.Given() {
		s = strings.ReplaceAll(s, c.cfg.Token.secret, hidden)
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// call is one request, which can be sent again.
type call struct {
	method string
	url    *url.URL
	header http.Header
	body   func() (io.ReadCloser, int64, error) // nil: none
	once   bool                                 // sending it twice could do harm
	idle   time.Duration                        // 0: idleRead
}

// reply is an answer of status 2xx.
type reply struct {
	*http.Response
	// hub has the hub's own headers, which a redirect to storage carries and
	// the storage's answer does not.
	hub http.Header
}

// api returns the address of a path below the endpoint. The elements are
// escaped; slashes within them stay if keep says so.
func (c *Client) api(query url.Values, elements ...string) *url.URL {
	u := *c.endpoint
	path, raw := strings.TrimRight(u.Path, "/"), strings.TrimRight(u.EscapedPath(), "/")
	for _, e := range elements {
		path += "/" + e
		raw += "/" + escapePath(e)
	}
	u.Path, u.RawPath = path, raw
	u.RawQuery = query.Encode()
	return &u
}

// escapePath escapes the parts of a slash-separated path.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i, s := range parts {
		parts[i] = url.PathEscape(s)
	}
	return strings.Join(parts, "/")
}

// revURL is api for addresses in which a revision is one element: its slashes
// are escaped.
func (c *Client) revURL(query url.Values, prefix, revision, suffix string) *url.URL {
	u := c.api(query, prefix)
	u.Path += "/" + revision
	u.RawPath += "/" + url.PathEscape(revision)
	if suffix != "" {
		u.Path += "/" + suffix
		u.RawPath += "/" + escapePath(suffix)
	}
	return u
}

// send sends a request until it is answered, as often as the kind of failure
// and of request allow. An answer that is no success becomes an error. The
// caller closes the body.
func (c *Client) send(ctx context.Context, q call) (*reply, error) {
	if c.cfg.Offline {
		return nil, fault.New(fault.General, "HF_HUB_OFFLINE is set, but %s has to be asked", c.endpoint.Host).
			WithHint("unset HF_HUB_OFFLINE")
	}
	for try := 1; ; try++ {
		r, err := c.roundTrip(ctx, q)
		if err == nil && r.StatusCode < 300 {
			return r, nil
		}
		var wait time.Duration
		again := err != nil && retryable(err)
		if err == nil {
			again, wait = retryStatus(r.Response)
			err = c.explain(r)
		}
		if ctx.Err() != nil {
			return nil, interrupted(ctx)
		}
		if !again || q.once || try == attempts {
			return nil, c.failed(q, err)
		}
		if wait > maxWait {
			return nil, c.failed(q, err)
		}
		if err := c.pause(ctx, try, wait); err != nil {
			return nil, interrupted(ctx)
		}
	}
}

// pause waits before the next attempt: as long as the server says, or twice as
// long as the time before, with some randomness so that many clients spread.
func (c *Client) pause(ctx context.Context, try int, wait time.Duration) error {
	if wait == 0 {
		wait = min(time.Second<<(try-1), 8*time.Second)/2 + rand.N(time.Second/2)
	}
	return c.sleep(ctx, wait)
}

func interrupted(ctx context.Context) error {
	return fault.Wrap(fault.Interrupted, context.Cause(ctx), "interrupted while talking to the hub").
		WithHint("the same command goes on where this one stopped")
}

// roundTrip sends a request once, and follows redirects.
func (c *Client) roundTrip(ctx context.Context, q call) (*reply, error) {
	hub := http.Header{}
	u, method := q.url, q.method
	for range maxRedirects {
		resp, err := c.single(ctx, q, method, u)
		if err != nil {
			return nil, err
		}
		if c.ours(u) {
			for _, name := range []string{"X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size", "ETag"} {
				if v := resp.Header.Get(name); v != "" && hub.Get(name) == "" {
					hub.Set(name, v)
				}
			}
		}
		location := resp.Header.Get("Location")
		if resp.StatusCode/100 != 3 || location == "" {
			return &reply{resp, hub}, nil
		}
		resp.Body.Close()
		next, err := c.redirect(q, u, resp.StatusCode, location)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusSeeOther && method != http.MethodHead {
			method, q.body = http.MethodGet, nil
		}
		u = next
	}
	return nil, refusal{"too many redirects"}
}

// redirect judges a redirect: bodies do not leave the endpoint, and nothing
// steps down from https to http.
func (c *Client) redirect(q call, from *url.URL, status int, location string) (*url.URL, error) {
	next, err := from.Parse(location)
	switch {
	case err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https":
		return nil, refusal{"redirect to something that is no address"}
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, refusal{"redirect from https to http, at " + next.Host}
	case q.body != nil && status != http.StatusSeeOther && origin(next) != origin(from):
		return nil, refusal{"an upload is redirected to another host, " + next.Host}
	}
	next.User = nil
	return next, nil
}

// ours reports whether an address is the endpoint's, so that the token may go
// there.
func (c *Client) ours(u *url.URL) bool { return origin(u) == origin(c.endpoint) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// single sends one HTTP request and gives up when nothing moves any more.
func (c *Client) single(ctx context.Context, q call, method string, u *url.URL) (*http.Response, error) {
	idle := q.idle
	if idle == 0 {
		idle = idleRead
	}
	parent := ctx
	ctx, watch := watchdog(ctx, idle)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		watch.stop()
		return nil, refusal{"address that cannot be asked"}
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if q.body != nil {
		body, size, err := q.body()
		if err != nil {
			watch.stop()
			return nil, refusal{err.Error()}
		}
		req.Body, req.ContentLength = &watchedBody{body, watch}, size
		if size == 0 {
			body.Close()
			req.Body = http.NoBody
		}
	}
	req.Header.Set("User-Agent", "neuroseal; go/"+strings.TrimPrefix(runtime.Version(), "go"))
	req.Header.Set("Accept-Encoding", "identity")
	if c.cfg.Token.Given() && c.ours(u) {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token.secret)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && parent.Err() == nil {
			err = cause // the watchdog's words
		}
		watch.stop()
		return nil, c.plain(err, u)
	}
	resp.Body = &watchedReply{watchedBody{resp.Body, watch}}
	return resp, nil
}

// plain rewrites an error of net/http, which quotes the whole address with the
// signature of a signed one.
func (c *Client) plain(err error, u *url.URL) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%s: %s", u.Host, c.scrub(err.Error()))
}

// failed names the request that an error belongs to, without its query.
func (c *Client) failed(q call, err error) error {
	var f *fault.Error
	if errors.As(err, &f) || answered(err) != nil {
		return err
	}
	return fault.Wrap(fault.General, errors.New(c.scrub(err.Error())), "%s %s://%s%s", q.method, q.url.Scheme, q.url.Host, q.url.EscapedPath()).
		WithHint("check the connection, HF_ENDPOINT and the proxy; the same command goes on where this one stopped")
}
