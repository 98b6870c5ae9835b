package hub

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// commit makes the push visible. It is sent once: whether a commit whose answer
// was lost took place is looked up, not guessed.
func (p *push) commit(ctx context.Context) error {
	body, err := p.payload()
	if err != nil {
		return err
	}
	u := p.c.revURL(p.query(), "api/models/"+p.opt.Repo.ID+"/commit", p.opt.Repo.revision(), "")
	q := call{method: http.MethodPost, url: u, body: bytesBody(body), once: true, idle: idleUpload,
		header: http.Header{"Content-Type": {"application/x-ndjson"}}}
	for try := 1; ; try++ {
		var answer struct {
			OID string `json:"commitOid"`
			URL string `json:"commitUrl"`
			PR  string `json:"pullRequestUrl"`
		}
		r, err := p.c.send(ctx, q)
		if err == nil {
			err = decode(r, &answer)
		}
		if err == nil {
			p.result.Commit, p.result.URL, p.result.PullRequest = answer.OID, answer.URL, answer.PR
			return nil
		}
		again, err := p.afterCommit(ctx, err)
		if !again {
			return err
		}
		if try == attempts || p.c.pause(ctx, try, 0) != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

// afterCommit judges a commit that was not confirmed: done (no error), refused,
// or to be sent again, as the repository is at the commit it was at before.
func (p *push) afterCommit(ctx context.Context, err error) (again bool, _ error) {
	a := answered(err)
	switch {
	case ctx.Err() != nil:
		return false, interrupted(ctx)
	case a != nil && a.status == http.StatusTooManyRequests:
		return true, err
	case a != nil && a.status != http.StatusPreconditionFailed && a.status < 500:
		return false, err
	case p.opt.CreatePR:
		return false, fault.Wrap(fault.General, err, "the hub did not confirm the pull request").
			WithHint("look at %s/%s/discussions before you push again: it may be there", p.c.cfg.Endpoint, p.opt.Repo.ID)
	}
	repo, lerr := p.c.Repo(ctx, p.opt.Repo)
	switch {
	case lerr != nil:
		return false, errors.Join(err, lerr)
	case repo.Commit == p.head && (a == nil || a.status != http.StatusPreconditionFailed):
		return true, err
	case p.holds(repo):
		p.result.Commit, p.result.URL = repo.Commit, p.c.cfg.Endpoint+"/"+p.opt.Repo.ID+"/commit/"+repo.Commit
		return false, nil
	}
	return false, fault.Wrap(fault.General, err, "%s got another commit while this one was prepared", p.opt.Repo.ID).
		WithHint("look at it, then push again; what is uploaded will not be uploaded again")
}

// holds reports whether a commit has exactly what this push wants.
func (p *push) holds(r *Repo) bool {
	for _, f := range p.files {
		g, ok := r.File(f.path)
		if !f.ignored && (!ok || g.etag() != f.oid()) {
			return false
		}
	}
	return !slices.ContainsFunc(p.gone, func(path string) bool { _, ok := r.File(path); return ok })
}

// payload is the commit, one JSON object a line.
func (p *push) payload() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	line := func(key string, value map[string]any) error {
		return enc.Encode(map[string]any{"key": key, "value": value})
	}
	header := map[string]any{"summary": p.opt.Message, "description": p.opt.Description}
	if p.opt.Message == "" {
		header["summary"] = "Upload folder using neuroseal"
	}
	if p.head != "" {
		header["parentCommit"] = p.head
	}
	err := line("header", header)
	var regular int64
	for _, f := range p.files {
		if err != nil {
			return nil, err
		}
		switch {
		case !f.wanted():
		case f.mode == modeLFS:
			err = line("lfsFile", map[string]any{"path": f.path, "algo": "sha256", "oid": f.sha256, "size": f.size})
		default:
			if regular += f.size; regular > maxRegular {
				return nil, fault.New(fault.Unsupported, "the files that git keeps itself have more than %d MiB", maxRegular>>20).
					WithHint("push in several steps, with --include")
			}
			var data []byte
			if data, err = f.read(); err == nil {
				err = line("file", map[string]any{"path": f.path, "encoding": "base64", "content": base64.StdEncoding.EncodeToString(data)})
			}
		}
	}
	for _, path := range p.gone {
		if err == nil {
			err = line("deletedFile", map[string]any{"path": path})
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "writing the commit")
	}
	return b.Bytes(), nil
}

// read returns the content of a regular file, which must be what was hashed.
func (f *localFile) read() ([]byte, error) {
	data, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	h := gitHash(int64(len(data)))
	h.Write(data)
	if hex.EncodeToString(h.Sum(nil)) != f.gitSHA {
		return nil, changed(f)
	}
	return data, nil
}
