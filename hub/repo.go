package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// File is a file of a repository.
type File struct {
	Path   string // slash-separated, relative to the repository
	Size   int64  // bytes of the content
	BlobID string // git SHA-1 of what git stores: the content, or the pointer to it
	SHA256 string // of the content, in hex, if it is in large file storage, else ""

	xet string // the content's name in another storage, which huggingface_hub uses
}

// Sum names the file's content: SHA256, or BlobID of a file that git holds.
func (f File) Sum() string { return f.etag() }

// etag is the name of the file's content in the cache, as huggingface_hub forms it.
func (f File) etag() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.BlobID
}

// Repo is a model at one commit, which never changes.
type Repo struct {
	Ref     Ref
	ID      string // as the hub spells it today; a renamed model has another than Ref
	Commit  string // 40 hex digits
	Private bool
	Gated   bool
	Files   []File // sorted by path

	client *Client
}

// File returns the file of a name.
func (r *Repo) File(name string) (File, bool) {
	i, ok := slices.BinarySearchFunc(r.Files, name, func(f File, n string) int { return cmp.Compare(f.Path, n) })
	if !ok {
		return File{}, false
	}
	return r.Files[i], true
}

// modelInfo is what /api/models says. gated is false or a word.
type modelInfo struct {
	ID      string          `json:"id"`
	SHA     string          `json:"sha"`
	Private bool            `json:"private"`
	Gated   json.RawMessage `json:"gated"`
}

// Repo asks the hub which commit a reference means now and what it holds. A
// model that is missing, private or gated gives an error that says what to do.
func (c *Client) Repo(ctx context.Context, ref Ref) (*Repo, error) {
	info, err := c.info(ctx, ref)
	if err != nil {
		return nil, c.about(err, ref)
	}
	r := &Repo{Ref: ref, ID: info.ID, Commit: info.SHA, Private: info.Private, client: c,
		Gated: len(info.Gated) > 0 && string(info.Gated) != "false" && string(info.Gated) != "null"}
	if checkID(r.ID) != nil {
		r.ID = ref.ID
	}
	if files := c.cachedTree(ref.ID, r.Commit); files != nil {
		r.Files = files
		return r, nil
	}
	if r.Files, err = c.tree(ctx, ref, r.Commit); err != nil {
		return nil, c.about(err, ref)
	}
	return r, nil
}

func (c *Client) info(ctx context.Context, ref Ref) (modelInfo, error) {
	var info modelInfo
	u := c.revURL(nil, "api/models/"+ref.ID+"/revision", ref.revision(), "")
	if err := c.getJSON(ctx, u, &info); err != nil {
		return info, err
	}
	if !commitID.MatchString(info.SHA) {
		return info, fault.New(fault.Unsupported, "%s does not say which commit %s is at", c.endpoint.Host, ref).
			WithHint("does HF_ENDPOINT point to a Hugging Face hub?")
	}
	return info, nil
}

func (c *Client) getJSON(ctx context.Context, u *url.URL, v any) error {
	_, err := c.getPage(ctx, u, v)
	return err
}

// getPage reads a JSON answer and returns its headers.
func (c *Client) getPage(ctx context.Context, u *url.URL, v any) (http.Header, error) {
	for try := 1; ; try++ {
		r, err := c.send(ctx, call{method: http.MethodGet, url: u})
		if err != nil {
			return nil, err
		}
		header := r.Header
		err = decode(r, v)
		if err == nil || ctx.Err() != nil || try == attempts {
			if err != nil {
				err = c.failed(call{method: http.MethodGet, url: u}, err)
			}
			return header, err
		}
		if c.pause(ctx, try, 0) != nil {
			return nil, interrupted(ctx)
		}
	}
}

// decode reads the JSON of an answer, and closes it.
func decode(r *reply, v any) error {
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, maxJSON+1))
	if err != nil {
		return err
	}
	if len(b) > maxJSON {
		return fault.New(fault.Unsupported, "the answer has more than %d MiB", maxJSON>>20)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.Wrap(fault.Unsupported, err, "%s sends something that is not the hub's JSON", r.Request.URL.Host).
			WithHint("does HF_ENDPOINT point to a Hugging Face hub?")
	}
	return nil
}

// treeEntry is one element of /api/models/ID/tree.
type treeEntry struct {
	Type string `json:"type"` // file or directory
	Path string `json:"path"`
	OID  string `json:"oid"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
	XetHash string `json:"xetHash"`
}

const (
	maxPages   = 1000    // of a listing; each has up to a thousand entries
	maxEntries = 1 << 20 // of a listing, all pages together
	// maxFile and maxTotal bound sizes that a hub lists, in bytes, so that sums of
	// them, with what the work on them takes, stay far from the end of an int64.
	maxFile  = 1 << 50
	maxTotal = 1 << 58
)

// tree lists the files of a commit.
func (c *Client) tree(ctx context.Context, ref Ref, commit string) ([]File, error) {
	u := c.revURL(url.Values{"recursive": {"true"}, "expand": {"false"}}, "api/models/"+ref.ID+"/tree", commit, "")
	var entries []treeEntry
	for range maxPages {
		var page []treeEntry
		header, err := c.getPage(ctx, u, &page)
		if err != nil {
			return nil, err
		}
		if entries = append(entries, page...); len(entries) > maxEntries {
			return nil, fault.New(fault.Unsupported, "%s lists more than %d files and folders", ref.ID, maxEntries)
		}
		next := nextLink(header)
		if next == "" {
			return listing(ref, entries)
		}
		n, err := u.Parse(next)
		if err != nil || !c.ours(c.local(n)) {
			return nil, fault.New(fault.Unsupported, "%s continues its list of files on another host", c.endpoint.Host)
		}
		u = c.local(n)
	}
	return nil, fault.New(fault.Unsupported, "the list of files of %s does not end", ref.ID)
}

// local puts the endpoint in the place of the public hub, which some mirrors
// leave in the addresses that they pass on.
func (c *Client) local(u *url.URL) *url.URL {
	if s, ok := strings.CutPrefix(u.String(), publicEndpoint+"/"); ok && c.cfg.Endpoint != publicEndpoint {
		if v, err := url.Parse(c.cfg.Endpoint + "/" + s); err == nil {
			return v
		}
	}
	return u
}

// nextLink returns the address of the next page in a Link header.
func nextLink(h http.Header) string {
	for _, link := range strings.Split(h.Get("Link"), ",") {
		target, params, _ := strings.Cut(link, ";")
		if strings.Contains(params, `rel="next"`) {
			return strings.Trim(strings.TrimSpace(target), "<>")
		}
	}
	return ""
}

// listing checks what the hub lists.
func listing(ref Ref, entries []treeEntry) ([]File, error) {
	var files []File
	for _, e := range entries {
		if e.Type != "file" {
			continue
		}
		f := File{Path: e.Path, Size: e.Size, BlobID: e.OID, xet: e.XetHash}
		if e.LFS != nil {
			f.SHA256, f.Size = strings.TrimPrefix(e.LFS.OID, "sha256:"), e.LFS.Size
		}
		if err := f.check(); err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "%s", ref)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i := 1; i < len(files); i++ {
		if files[i].Path == files[i-1].Path {
			return nil, fault.New(fault.Unsupported, "%s lists %q twice", ref, files[i].Path)
		}
	}
	if !countable(files) {
		return nil, fault.New(fault.Unsupported, "the files of %s have more than %d bytes together, as the hub lists them", ref, int64(maxTotal)).
			WithHint("does HF_ENDPOINT point to a Hugging Face hub?")
	}
	return files, nil
}

// countable reports whether the sizes of files, which were checked one by one,
// have a sum that can be true.
func countable(files []File) bool {
	var total int64
	for _, f := range files {
		if total += f.Size; total > maxTotal {
			return false
		}
	}
	return true
}

func (f File) check() error {
	if err := atomicdir.CheckName(f.Path); err != nil {
		return err
	}
	if f.Size < 0 || f.Size > maxFile || !isHex(f.BlobID, 40) || f.SHA256 != "" && !isHex(f.SHA256, 64) {
		return fault.New(fault.Unsupported, "%s: the hub gives no usable size and checksum", f.Path).
			WithHint("does HF_ENDPOINT point to a Hugging Face hub?")
	}
	return nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
