package hub

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// PushOptions say what to publish where.
type PushOptions struct {
	Folder  string
	Repo    Ref      // with a revision: a branch that exists
	Include []string // patterns as fnmatch has them; none: everything
	Exclude []string
	Delete  []string // patterns of files on the hub to remove in the same commit

	Private     bool // of a repository that Push creates
	CreatePR    bool // propose the commit instead of making it
	Message     string
	Description string
	DryRun      bool // ask and count, change nothing

	// Inspect, if not nil, is shown every file with its first bytes, at most
	// 4096, before anything is asked or sent, and may refuse it.
	Inspect func(path string, head []byte) error
	// Want holds what files must be, by path: their SHA-256 in hexadecimal. One
	// that is something else gives fault.Mismatch before anything is asked or sent.
	Want map[string]string
}

// Upload is a file of a push.
type Upload struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // of a file for large file storage
	Mode   string `json:"mode"`             // lfs or regular
	State  string `json:"state"`            // new, changed or unchanged; ignored: the repository's .gitignore names it
}

// PushResult is what a push did, or, dry, would do.
type PushResult struct {
	Repo        string   `json:"repo"`
	Created     bool     `json:"created"` // the repository did not exist
	Files       []Upload `json:"files"`
	Deleted     []string `json:"deleted,omitempty"`
	Uploaded    int64    `json:"uploaded"` // bytes sent to large file storage
	Reused      int64    `json:"reused"`   // bytes that storage had already
	Commit      string   `json:"commit,omitempty"`
	URL         string   `json:"url,omitempty"`          // of the commit
	PullRequest string   `json:"pull_request,omitempty"` // its address
	Unchanged   bool     `json:"unchanged"`              // the repository held all of it; there is no new commit
}

// Push publishes a folder as one commit: the repository is created if it does
// not exist, files that it lacks are uploaded, and then, in one step, the commit
// makes all of them visible. What storage has already, from an earlier push that
// was interrupted or from another model, is not sent again. A push that fails
// leaves the repository as it was, but for its creation.
//
// A file that changes while it is pushed gives fault.Mismatch and no commit.
func (c *Client) Push(ctx context.Context, opt PushOptions) (*PushResult, error) {
	if opt.Repo.Path != "" {
		return nil, fault.New(fault.Usage, "%s names a file; a push goes to a repository", opt.Repo)
	}
	if !strings.Contains(opt.Repo.ID, "/") {
		return nil, fault.New(fault.Usage, "%q names no owner", opt.Repo.ID).WithHint("write org/%s", opt.Repo.ID)
	}
	if opt.CreatePR && opt.Repo.Revision != "" {
		return nil, fault.New(fault.Usage, "a pull request goes to the main branch; name no revision with it")
	}
	if !c.cfg.Token.Given() && !opt.DryRun {
		return nil, fault.New(fault.General, "there is no token, and %s lets nobody write without one", c.endpoint.Host).
			WithHint("make one at %s/settings/tokens and set HF_TOKEN", c.cfg.Endpoint)
	}
	files, err := localFiles(opt)
	if err != nil {
		return nil, err
	}
	if err := inspect(opt, files); err != nil {
		return nil, err
	}
	p := &push{c: c, opt: opt, files: files, result: &PushResult{Repo: opt.Repo.ID}}
	err = p.run(ctx)
	if err != nil {
		return nil, c.about(err, opt.Repo)
	}
	return p.result, nil
}

// push is one run of Push.
type push struct {
	c      *Client
	opt    PushOptions
	files  []*localFile
	result *PushResult
	head   string // commit that this one is made on; "": none yet
	remote []File // what head holds
	gone   []string
}

func (p *push) run(ctx context.Context) error {
	if err := p.wantedContent(ctx); err != nil {
		return err
	}
	exists, err := p.look(ctx)
	if err != nil {
		return err
	}
	if !exists {
		p.result.Created = true
		if p.opt.DryRun {
			return p.guess(ctx)
		}
		if err := p.create(ctx); err != nil {
			return err
		}
	}
	if err := p.ask(ctx); err != nil {
		return err
	}
	if err := p.sum(ctx, func(f *localFile) bool { return !f.ignored }); err != nil {
		return err
	}
	if err := p.removals(); err != nil {
		return err
	}
	if err := p.card(ctx); err != nil {
		return err
	}
	p.report()
	if p.nothing() {
		p.result.Unchanged, p.result.Commit = true, p.head
		return nil
	}
	if p.opt.DryRun {
		return nil
	}
	if err := p.upload(ctx); err != nil {
		return err
	}
	if err := p.stillSame(); err != nil {
		return err
	}
	return p.commit(ctx)
}

// look finds out whether the repository exists, and where it is.
func (p *push) look(ctx context.Context) (exists bool, err error) {
	repo, err := p.c.Repo(ctx, p.opt.Repo)
	if a := answered(err); a != nil && (a.code == "RepoNotFound" || a.code == "" && a.status == http.StatusNotFound) {
		return false, nil
	}
	if a := answered(err); a != nil && a.code == "RevisionNotFound" && p.opt.Repo.revision() == DefaultRevision {
		return true, nil // it exists and is empty
	}
	if err != nil {
		return false, err
	}
	if p.opt.Private && !repo.Private {
		return false, fault.New(fault.Usage, "%s exists and is public; --private is for a repository that does not exist yet", p.opt.Repo.ID).
			WithHint("make it private in its settings first (%s/%s/settings), or leave --private out", p.c.cfg.Endpoint, p.opt.Repo.ID)
	}
	p.head, p.remote = repo.Commit, repo.Files
	return true, nil
}

// create makes the repository. Another process that was faster is no error.
func (p *push) create(ctx context.Context) error {
	org, name, _ := strings.Cut(p.opt.Repo.ID, "/")
	body := map[string]any{"type": "model", "name": name, "organization": org}
	if p.opt.Private {
		body["visibility"] = "private"
	}
	r, err := p.c.post(ctx, p.c.api(nil, "api/repos/create"), body)
	if a := answered(err); a != nil && a.status == http.StatusConflict {
		err = nil
	} else if a != nil && a.status == http.StatusForbidden {
		return fault.Wrap(fault.General, a, "the token may not create %s", p.opt.Repo.ID).
			WithHint("check the name of the owner, and that the token may write (%s/settings/tokens)", p.c.cfg.Endpoint)
	}
	if err != nil {
		return err
	}
	if r != nil {
		r.Body.Close()
	}
	if _, err := p.look(ctx); err != nil {
		return err
	}
	return nil
}

// guess says what a push would do to a repository that does not exist.
func (p *push) guess(ctx context.Context) error {
	for _, f := range p.files {
		f.mode = modeRegular
		if f.size > 10<<20 || strings.HasSuffix(f.path, weights) {
			f.mode = modeLFS
		}
	}
	p.report()
	return ctx.Err()
}

// post sends JSON and returns the answer.
func (c *Client) post(ctx context.Context, u *url.URL, v any) (*reply, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "writing a request")
	}
	return c.send(ctx, call{method: http.MethodPost, url: u, body: bytesBody(data),
		header: http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}})
}

// wantedContent compares files with what they must be. Most are large, and are
// named by the same checksum later.
func (p *push) wantedContent(ctx context.Context) error {
	for _, f := range p.files {
		if p.opt.Want[f.path] != "" {
			f.mode = modeLFS
		}
	}
	if err := p.sum(ctx, func(f *localFile) bool { return f.mode == modeLFS }); err != nil {
		return err
	}
	for _, f := range p.files {
		if want := p.opt.Want[f.path]; want != "" && f.sha256 != want {
			return fault.New(fault.Mismatch, "%s has SHA-256 %s, not %s; nothing was published", f.path, f.sha256, want)
		}
	}
	return nil
}

// removals finds the files on the hub that the commit takes away.
func (p *push) removals() error {
	patterns, err := globs(p.opt.Delete)
	if err != nil {
		return err
	}
	for _, f := range p.remote {
		here := slices.ContainsFunc(p.files, func(l *localFile) bool { return l.path == f.Path })
		if !here && f.Path != ".gitattributes" && matches(patterns, f.Path) {
			p.gone = append(p.gone, f.Path)
		}
	}
	p.result.Deleted = p.gone
	return nil
}

// report lists the files with what will happen to them.
func (p *push) report() {
	p.result.Files = nil
	for _, f := range p.files {
		u := Upload{Path: f.path, Size: f.size, SHA256: f.sha256, Mode: f.mode, State: "new"}
		switch {
		case f.ignored:
			u.State = "ignored"
		case f.unchanged():
			u.State = "unchanged"
		case f.remote != "":
			u.State = "changed"
		}
		p.result.Files = append(p.result.Files, u)
	}
}

func (p *push) nothing() bool {
	return len(p.gone) == 0 && !slices.ContainsFunc(p.files, func(f *localFile) bool { return f.wanted() })
}
