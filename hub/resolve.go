package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// ResolveOptions say what of a model is wanted.
type ResolveOptions struct {
	// Include and Exclude are patterns as fnmatch has them. Without Include
	// and All, everything is taken but weights in other formats than the
	// safetensors that transformers would load.
	Include, Exclude []string
	All              bool
	// Beside are patterns of files that are taken along with the one file that a
	// reference names.
	Beside []string
	// Check, if not nil, may refuse the model before it is downloaded.
	Check func(context.Context, *Plan) error
}

// Plan is what a download will do.
type Plan struct {
	Repo     *Repo
	Files    []File // what is wanted, sorted by path
	Bytes    int64  // of all files
	Download int64  // bytes that are not in the cache
	Free     int64  // bytes on the cache's disk
	Config   []byte // config.json; nil if there is none
}

// Snapshot is a model in the cache.
type Snapshot struct {
	Folder string // snapshots/COMMIT; its files are links into blobs
	Path   string // Folder, or the file that the reference names
	Ref    Ref
	Commit string
	Files  []File // with their checksums; nil if only an old cache knows the model
}

// Resolve makes a reference a folder on this machine: it asks the hub what the
// revision is now, checks what would be downloaded, downloads what is missing
// into the cache, and returns the snapshot. What an interrupted call leaves is
// used by the next, and by huggingface_hub.
//
// A commit that is whole in the cache is not asked for. Offline, or when the
// hub cannot be reached, the cache's state of the revision is used.
//
// The checksums of all files that were downloaded were right when they were
// written. Files is given so that whoever reads them can compare again.
func (c *Client) Resolve(ctx context.Context, ref Ref, opt ResolveOptions) (*Snapshot, error) {
	plan, here, err := c.Look(ctx, ref, opt)
	if err != nil || here != nil {
		return here, err
	}
	if opt.Check != nil {
		if err := opt.Check(ctx, plan); err != nil {
			return nil, err
		}
	}
	return plan.Run(ctx)
}

// Look is Resolve up to the point where anything large would move: it returns
// what there is to download, or, where the hub is not asked, the snapshot.
func (c *Client) Look(ctx context.Context, ref Ref, opt ResolveOptions) (*Plan, *Snapshot, error) {
	if c.cfg.Offline {
		s, err := c.cached(ref, opt)
		return nil, s, err
	}
	if commitID.MatchString(ref.revision()) {
		if s, err := c.cached(ref, opt); err == nil && s.Files != nil {
			return nil, s, nil
		}
	}
	repo, err := c.Repo(ctx, ref)
	if err != nil {
		if s := c.fallback(ctx, ref, opt, err); s != nil {
			return nil, s, nil
		}
		return nil, nil, err
	}
	plan, err := repo.Plan(ctx, opt)
	return plan, nil, err
}

// Run downloads into the cache what the plan's files lack there. A disk that is
// too small gives fault.NoSpace before anything moves.
func (p *Plan) Run(ctx context.Context) (*Snapshot, error) {
	if err := p.space(); err != nil {
		return nil, err
	}
	repo, c := p.Repo, p.Repo.client
	ref := repo.Ref
	c.keepTree(ref.ID, repo.Commit, repo.Files)
	c.stage("downloading "+ref.ID, p.Bytes)
	if err := repo.fetchAll(ctx, p.Files); err != nil {
		return nil, err
	}
	if err := c.keepRef(ref.ID, ref.revision(), repo.Commit); err != nil {
		return nil, err
	}
	return c.snapshot(ref, repo.Commit, p.Files), nil
}

// FS returns the plan's files, and no others of the repository, as Repo.FS does.
func (p *Plan) FS(ctx context.Context) fs.FS {
	r := *p.Repo
	r.Files = p.Files
	return r.FS(ctx)
}

// Cached reports whether the cache holds a file of the repository.
func (r *Repo) Cached(f File) bool {
	info, err := os.Stat(r.client.blobPath(r.Ref.ID, f.etag()))
	return err == nil && info.Mode().IsRegular() && info.Size() == f.Size
}

func (c *Client) snapshot(ref Ref, commit string, files []File) *Snapshot {
	s := &Snapshot{Folder: c.snapshotPath(ref.ID, commit), Ref: ref, Commit: commit, Files: files}
	s.Path = filepath.Join(s.Folder, filepath.FromSlash(ref.Path))
	return s
}

// fallback returns the cache's state when the hub could not be asked. An answer
// of the hub, and an interruption, stand.
func (c *Client) fallback(ctx context.Context, ref Ref, opt ResolveOptions, err error) *Snapshot {
	if ctx.Err() != nil || fault.KindOf(err) != fault.General {
		return nil
	}
	if a := answered(err); a != nil && a.status < 500 && a.status != 429 {
		return nil
	}
	s, cerr := c.cached(ref, opt)
	if cerr != nil {
		return nil
	}
	c.notice("%s cannot be reached (%v); using %s as it was last downloaded, at commit %s", c.endpoint.Host, err, ref, s.Commit)
	return s
}

// cached returns a snapshot that is whole.
func (c *Client) cached(ref Ref, opt ResolveOptions) (*Snapshot, error) {
	commit := c.cachedCommit(ref)
	if commit == "" || !isDir(c.snapshotPath(ref.ID, commit)) {
		return nil, fault.New(fault.General, "%s is not in the cache, and the hub is not asked", ref).
			WithHint("unset HF_HUB_OFFLINE; the cache is %s (HF_HUB_CACHE)", c.cfg.Cache)
	}
	s := c.snapshot(ref, commit, nil)
	listed := c.cachedTree(ref.ID, commit)
	if listed == nil { // written by an older huggingface_hub: whoever opens it will see what is missing
		if _, err := os.Stat(s.Path); err != nil {
			return nil, fault.New(fault.General, "the cache lacks %s of %s, and the hub is not asked", ref.Path, ref.ID).
				WithHint("unset HF_HUB_OFFLINE")
		}
		return s, nil
	}
	offline := *c
	offline.cfg.Offline = true
	repo := &Repo{Ref: ref, ID: ref.ID, Commit: commit, Files: listed, client: &offline}
	files, err := repo.pick(context.Background(), opt)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !c.hasPointer(ref.ID, commit, f) {
			return nil, fault.New(fault.General, "the cache lacks %s of %s, and the hub is not asked", f.Path, ref.ID).
				WithHint("unset HF_HUB_OFFLINE; what is there will not be downloaded again")
		}
	}
	s.Files = files
	return s, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Plan chooses the files and checks, before anything large moves, what can be
// checked: that the weights are safetensors and complete, that config.json is
// JSON, and how much is to be downloaded.
func (r *Repo) Plan(ctx context.Context, opt ResolveOptions) (*Plan, error) {
	files, err := r.pick(ctx, opt)
	if err != nil {
		return nil, err
	}
	p := &Plan{Repo: r, Files: files}
	counted := map[string]bool{}
	for _, f := range files {
		p.Bytes += f.Size
		if counted[f.etag()] || r.Cached(f) || r.client.hasPointer(r.Ref.ID, r.Commit, f) {
			continue
		}
		counted[f.etag()] = true
		p.Download += f.Size - r.client.begun(r.Ref.ID, f)
	}
	if p.Free, err = atomicdir.Free(filepath.Join(r.client.cfg.Cache, "models")); err != nil {
		return nil, cacheError(err)
	}
	if slices.ContainsFunc(files, func(f File) bool { return f.Path == configName }) {
		f, _ := r.File(configName)
		if p.Config, err = r.ReadFile(ctx, f, maxJSON); err != nil {
			return nil, err
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(p.Config, &object); err != nil {
			return nil, fault.Wrap(fault.Mismatch, err, "%s of %s is not a JSON object", configName, r.Ref.ID)
		}
	}
	return p, nil
}

// begun counts the bytes of an interrupted download, which take no further space.
func (c *Client) begun(id string, f File) int64 {
	return f.begun(c.blobPath(id, f.etag()) + ".neuroseal.incomplete")
}

// Begun counts the bytes of a file that an interrupted Fetch to path left.
func (r *Repo) Begun(f File, path string) int64 { return f.begun(path + incomplete) }

func (f File) begun(path string) int64 {
	if f.Size <= smallFile {
		return 0
	}
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	p := newPartial(path, f.Size, chunkSize)
	p.f = file
	if !p.load() {
		return 0
	}
	_, have := p.missing()
	return have
}

// spare is what a download leaves free on the disk, in bytes.
const spare = 64 << 20

func (p *Plan) space() error {
	if p.Download == 0 || p.Download+spare <= p.Free {
		return nil
	}
	return fault.New(fault.NoSpace, "%s needs %s in the hub cache, and %s are free", p.Repo.Ref.ID, size(p.Download+spare), size(p.Free)).
		WithHint("free some space, or set HF_HUB_CACHE to a folder on another disk (now %s)", p.Repo.client.cfg.Cache)
}

func size(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
