package hub

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	sampleSize  = 512       // bytes of a file by which the hub tells text from data
	batchFiles  = 256       // files per preupload and LFS batch request
	maxRegular  = 512 << 20 // bytes of all regular files of a commit, which is made in memory
	maxPartSize = 5 << 30   // bytes, as S3 has it
)

func (p *push) query() url.Values {
	if p.opt.CreatePR {
		return url.Values{"create_pr": {"1"}}
	}
	return nil
}

// action is one instruction of an LFS batch answer.
type action struct {
	Href   string         `json:"href"`
	Header map[string]any `json:"header"`
}

// lfsObject is what an LFS batch answer says of one object; without actions,
// storage has it.
type lfsObject struct {
	OID     string `json:"oid"`
	Actions *struct {
		Upload *action `json:"upload"`
		Verify *action `json:"verify"`
	} `json:"actions"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// upload brings the large files to storage, each content once.
func (p *push) upload(ctx context.Context) error {
	byOID := map[string]*localFile{}
	var todo []*localFile
	var total int64
	for _, f := range p.files {
		if f.wanted() && f.mode == modeLFS && byOID[f.sha256] == nil {
			byOID[f.sha256] = f
			todo = append(todo, f)
			total += f.size
		}
	}
	p.c.stage("uploading", total)
	for batch := range slices.Chunk(todo, batchFiles) {
		objects, err := p.batch(ctx, batch)
		if err != nil {
			return err
		}
		for _, o := range objects {
			f := byOID[o.OID]
			if f == nil {
				return fault.New(fault.Unsupported, "%s answers about a file that it was not asked for", p.c.endpoint.Host)
			}
			if err := p.object(ctx, f, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *push) batch(ctx context.Context, files []*localFile) ([]lfsObject, error) {
	type object struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	}
	ask := map[string]any{"operation": "upload", "transfers": []string{"basic", "multipart"}, "hash_algo": "sha256"}
	if !p.opt.CreatePR {
		ask["ref"] = map[string]string{"name": p.opt.Repo.revision()}
	}
	var objects []object
	for _, f := range files {
		objects = append(objects, object{f.sha256, f.size})
	}
	ask["objects"] = objects
	data, err := json.Marshal(ask)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "writing a request")
	}
	r, err := p.c.send(ctx, call{method: http.MethodPost, url: p.c.api(nil, p.opt.Repo.ID+".git/info/lfs/objects/batch"), body: bytesBody(data),
		header: http.Header{"Accept": {lfsType}, "Content-Type": {lfsType}}})
	if err != nil {
		return nil, err
	}
	var told struct {
		Objects []lfsObject `json:"objects"`
	}
	if err := decode(r, &told); err != nil {
		return nil, err
	}
	if len(told.Objects) != len(files) {
		return nil, fault.New(fault.Unsupported, "%s was asked about %d files and answers about %d", p.c.endpoint.Host, len(files), len(told.Objects))
	}
	return told.Objects, nil
}

const lfsType = "application/vnd.git-lfs+json"

// object uploads one content.
func (p *push) object(ctx context.Context, f *localFile, o lfsObject) error {
	switch {
	case o.Error != nil:
		return fault.New(fault.General, "the hub does not take %s: %s", f.path, p.c.scrub(oneLine(o.Error.Message)))
	case o.Actions == nil || o.Actions.Upload == nil:
		p.result.Reused += f.size
		p.c.add(f.size)
		return nil
	}
	up, err := p.address(o.Actions.Upload)
	if err != nil {
		return err
	}
	if _, parts := o.Actions.Upload.Header["chunk_size"]; parts {
		err = p.multipart(ctx, f, up, o.Actions.Upload)
	} else {
		err = p.basic(ctx, f, up, o.Actions.Upload)
	}
	if err != nil {
		return fault.Wrap(fault.KindOf(err), err, "uploading %s", f.path).
			WithHint("the same command goes on; files that are uploaded are not uploaded again")
	}
	p.result.Uploaded += f.size
	if o.Actions.Verify == nil {
		return nil
	}
	verify, err := p.address(o.Actions.Verify)
	if err != nil {
		return err
	}
	r, err := p.c.post(ctx, verify, map[string]any{"oid": f.sha256, "size": f.size})
	if err != nil {
		return err
	}
	return r.Body.Close()
}

// address reads where an instruction leads: never from https to http.
func (p *push) address(a *action) (*url.URL, error) {
	u, err := url.Parse(a.Href)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || p.c.endpoint.Scheme == "https") {
		return nil, fault.New(fault.Unsupported, "%s gives an address for an upload that cannot be used", p.c.endpoint.Host)
	}
	u.User = nil
	return p.c.local(u), nil
}

// basic uploads a file in one piece.
func (p *push) basic(ctx context.Context, f *localFile, to *url.URL, a *action) error {
	header := http.Header{}
	for k, v := range a.Header {
		if s, ok := v.(string); ok {
			header.Set(k, s)
		}
	}
	r, err := p.c.send(ctx, call{method: http.MethodPut, url: to, header: header, body: f.section(0, f.size, p.c.add), idle: idleUpload})
	if err != nil {
		return err
	}
	return r.Body.Close()
}

// section makes a request body of a part of a file. A part that is sent again
// takes its progress back first.
func (f *localFile) section(off, n int64, add func(int64)) func() (io.ReadCloser, int64, error) {
	sent := new(atomic.Int64)
	return func() (io.ReadCloser, int64, error) {
		add(-sent.Swap(0))
		file, err := os.Open(f.file)
		if err != nil {
			return nil, 0, err
		}
		return &counted{io.NewSectionReader(file, off, n), file, sent, add}, n, nil
	}
}

type counted struct {
	io.Reader
	io.Closer
	sent *atomic.Int64
	add  func(int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.sent.Add(int64(n))
	c.add(int64(n))
	return n, err
}

// multipart uploads a file in parts of the size that the hub chose, several at
// once, and asks the hub to join them.
func (p *push) multipart(ctx context.Context, f *localFile, complete *url.URL, a *action) error {
	size, urls, err := parts(a, f.size)
	if err != nil {
		return err
	}
	type part struct {
		Number int    `json:"partNumber"`
		ETag   string `json:"etag"`
	}
	done := make([]part, len(urls))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.c.cfg.Workers)
	for i, s := range urls {
		g.Go(func() error {
			to, err := p.address(&action{Href: s})
			if err != nil {
				return err
			}
			off := int64(i) * size
			r, err := p.c.send(gctx, call{method: http.MethodPut, url: to, body: f.section(off, min(size, f.size-off), p.c.add), idle: idleUpload})
			if err != nil {
				return err
			}
			done[i] = part{i + 1, r.Header.Get("ETag")}
			if done[i].ETag == "" {
				return fault.New(fault.Unsupported, "storage does not confirm part %d", i+1)
			}
			return r.Body.Close()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	data, err := json.Marshal(map[string]any{"oid": f.sha256, "parts": done})
	if err != nil {
		return fault.Wrap(fault.General, err, "writing a request")
	}
	r, err := p.c.send(ctx, call{method: http.MethodPost, url: complete, body: bytesBody(data), idle: idleUpload,
		header: http.Header{"Accept": {lfsType}, "Content-Type": {lfsType}}})
	if err != nil {
		return err
	}
	return r.Body.Close()
}

// parts reads the instructions for an upload in parts: the size of a part, and
// an address for each, under the part's number.
func parts(a *action, total int64) (size int64, urls []string, err error) {
	switch v := a.Header["chunk_size"].(type) {
	case string:
		size, _ = strconv.ParseInt(v, 10, 64)
	case float64:
		size = int64(v)
	}
	wrong := fault.New(fault.Unsupported, "the hub's instructions for an upload in parts do not fit the file")
	if size <= 0 || size > maxPartSize {
		return 0, nil, wrong
	}
	n := (total + size - 1) / size
	if n > int64(len(a.Header)) {
		return 0, nil, wrong
	}
	urls = make([]string, n)
	count := int64(0)
	for k, v := range a.Header {
		i, err := strconv.ParseInt(k, 10, 32)
		if err != nil {
			continue
		}
		s, ok := v.(string)
		if !ok || i < 1 || i > n || urls[i-1] != "" {
			return 0, nil, wrong
		}
		urls[i-1] = s
		count++
	}
	if count != n {
		return 0, nil, wrong
	}
	return size, urls, nil
}
