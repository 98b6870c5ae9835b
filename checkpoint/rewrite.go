package checkpoint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Editor changes one tensor in place. Edit is called with consecutive runs of
// whole elements, in order, from element start on, and never twice at once; an
// editor may keep state between the calls. buf need not be aligned in memory
// to the element size.
type Editor interface {
	Edit(start int64, buf []byte) error
}

// RewriteOptions say what Rewrite changes.
type RewriteOptions struct {
	// Edit returns a new editor for a tensor, or nil to copy it. It is called
	// once for each tensor that has elements, from several goroutines at once. A nil Edit
	// copies all.
	Edit func(t Tensor) Editor
	// Override holds the content of files, by relative path, that replace
	// those of the checkpoint or come in addition. Shards cannot be replaced.
	Override map[string][]byte
	// Skip says by relative path which other files are left out. If it is nil,
	// those that are File.Sensitive are. Shards and overrides always stay.
	Skip func(rel string) bool
	// Head holds, by a shard's path, what its output has in place of the first
	// bytes, which hold no tensor.
	Head map[string]Head
	// Placed holds shards, by path, that are in the output already: they are
	// not written, and listed as they stand here.
	Placed map[string]FileResult
	// Known holds the SHA-256 of shards, by path, that were checked a moment ago:
	// RewriteShard and EditShard take it for that of their input instead of
	// computing it.
	Known map[string]string
	// Workers is how many files are worked on at once; 0 stands for the number
	// of processors.
	Workers int
	// Progress, if set, is told how many more bytes have been read. It is
	// called from several goroutines at once. The sum is RewriteBytes.
	Progress func(n int64)
}

// Head is another begin of a file.
type Head struct {
	Skip int64 // bytes of the input in whose place it stands
	Size int64 // its own length in bytes
	Open func() (io.Reader, error)
}

// FileResult is what became of one file.
type FileResult struct {
	Path string // relative, slash-separated
	Size int64  // of the output, in bytes
	// SHA256In and SHA256Out are digests of the file before and after, in
	// hexadecimal. SHA256In is empty for a file that comes in addition.
	SHA256In, SHA256Out string
}

// RewriteResult lists what Rewrite did, by path.
type RewriteResult struct {
	Files   []FileResult
	LeftOut []File // other files that Skip left out
}

// Rewrite writes the checkpoint to dst with some of its tensors edited. Headers
// and everything that is not edited are written byte for byte. Each file is
// read once, and the memory used does not depend on the checkpoint's size. dst
// is neither committed nor aborted.
//
// A dst that overlaps with the checkpoint is refused with fault.Usage; an ended
// ctx gives fault.Interrupted. Errors name the file and the tensor.
func (c *Checkpoint) Rewrite(ctx context.Context, dst *atomicdir.Dir, opt RewriteOptions) (*RewriteResult, error) {
	if err := c.CheckOutput(dst.Path()); err != nil {
		return nil, err
	}
	jobs, res, err := c.plan(opt)
	if err != nil {
		return nil, err
	}
	r := &rewriter{c: c, dst: dst, opt: opt, pool: newPool(poolSize)}
	res.Files = make([]FileResult, len(jobs), len(jobs)+len(opt.Placed))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers(opt.Workers))
	for i, j := range jobs {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			res.Files[i], err = r.file(gctx, j)
			return err
		})
	}
	if err := finish(ctx, g.Wait()); err != nil {
		return nil, err
	}
	for _, f := range opt.Placed {
		res.Files = append(res.Files, f)
	}
	slices.SortFunc(res.Files, func(a, b FileResult) int { return cmp.Compare(a.Path, b.Path) })
	return res, nil
}

// RewriteShard writes one shard, by its position in Shards, to out: the bytes
// that Rewrite writes for it, which depend on no other shard. Of opt, Edit, Head,
// Known and Progress count. Errors are those of Rewrite.
func (c *Checkpoint) RewriteShard(ctx context.Context, shard int, out io.Writer, opt RewriteOptions) (FileResult, error) {
	s := &c.shards[shard]
	r := &rewriter{c: c, opt: opt, pool: newPool(poolSize)}
	res := FileResult{Path: s.Path}
	err := finish(ctx, r.copy(ctx, job{rel: s.Path, size: s.Size, shard: shard}, out, &res))
	if err != nil {
		err = fault.Wrap(fault.KindOf(err), err, "%s", s.Path)
	}
	return res, err
}

// RewriteBytes returns how many bytes Rewrite reads with these options: the sum
// that Progress is told.
func (c *Checkpoint) RewriteBytes(opt RewriteOptions) int64 {
	jobs, _, err := c.plan(opt)
	if err != nil {
		return 0
	}
	var n int64
	for _, j := range jobs {
		n += j.size
	}
	return n
}

// CheckOutput refuses an output folder that is the checkpoint's folder, lies in
// it, or holds it or one of the files that it links to.
func (c *Checkpoint) CheckOutput(dst string) error {
	if c.fsys != nil {
		return nil // it has no folder
	}
	overlap := fault.New(fault.Usage, "output %s and checkpoint %s lie within each other", dst, c.root).
		WithHint("choose an output folder outside the checkpoint")
	if !c.single {
		if in, err := atomicdir.Within(dst, c.root); err != nil || in {
			return cmp.Or[error](err, overlap)
		}
	}
	seen := make(map[string]bool)
	for _, rel := range c.paths() {
		real, err := filepath.EvalSymlinks(c.path(rel))
		if err != nil {
			return fault.Wrap(fault.General, err, "reading checkpoint")
		}
		for _, dir := range []string{filepath.Dir(c.path(rel)), filepath.Dir(real)} {
			if seen[dir] {
				continue
			}
			seen[dir] = true
			if in, err := atomicdir.Within(dir, dst); err != nil || in {
				return cmp.Or[error](err, overlap)
			}
		}
	}
	return nil
}

// paths lists shards and other files.
func (c *Checkpoint) paths() []string {
	var rels []string
	for _, s := range c.shards {
		rels = append(rels, s.Path)
	}
	for _, f := range c.others {
		rels = append(rels, f.Path)
	}
	return rels
}

// job is one output file.
type job struct {
	rel      string
	size     int64  // of the input, in bytes
	shard    int    // position in shards, or -1
	override []byte // the new content, if replaced
	replaced bool
	added    bool // not in the checkpoint
	perm     fs.FileMode
}

// newFile is the permissions of what no file was copied for, less the umask.
const newFile = fs.FileMode(0o666)

// plan lists the output files, the largest first, so that the last worker does
// not start on the largest when the others are done.
func (c *Checkpoint) plan(opt RewriteOptions) ([]job, *RewriteResult, error) {
	var jobs []job
	res := &RewriteResult{}
	rest := maps.Clone(opt.Override)
	for i, s := range c.shards {
		if _, ok := rest[s.Path]; ok {
			return nil, nil, fault.New(fault.General, "shard %s cannot be replaced as a whole", s.Path)
		}
		if _, ok := opt.Placed[s.Path]; ok {
			continue
		}
		jobs = append(jobs, job{rel: s.Path, size: s.Size, shard: i, perm: newFile})
	}
	for _, f := range c.others {
		content, ok := rest[f.Path]
		delete(rest, f.Path)
		if !ok && opt.skips(f) {
			res.LeftOut = append(res.LeftOut, f)
			continue
		}
		perm := newFile
		if f.Perm != 0 {
			perm = f.Perm | 0o600 // what is copied can be read and replaced
		}
		jobs = append(jobs, job{rel: f.Path, size: f.Size, shard: -1, override: content, replaced: ok, perm: perm})
	}
	for rel, content := range rest {
		jobs = append(jobs, job{rel: rel, shard: -1, override: content, replaced: true, added: true, perm: newFile})
	}
	slices.SortFunc(jobs, func(a, b job) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.rel, b.rel))
	})
	return jobs, res, nil
}

func (o RewriteOptions) skips(f File) bool {
	if o.Skip == nil {
		return f.Sensitive()
	}
	return o.Skip(f.Path)
}

func workers(n int) int {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return n
}

// finish turns the end of ctx, which the work reports in its own ways, into
// fault.Interrupted.
func finish(ctx context.Context, err error) error {
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return fault.Wrap(fault.Interrupted, context.Cause(ctx), "interrupted")
	}
	return err
}

// rewriter is one run of Rewrite.
type rewriter struct {
	c    *Checkpoint
	dst  *atomicdir.Dir
	opt  RewriteOptions
	pool *pool
}

// file writes one output file.
func (r *rewriter) file(ctx context.Context, j job) (FileResult, error) {
	res := FileResult{Path: j.rel}
	err := r.fill(ctx, j, &res)
	if err != nil {
		err = fault.Wrap(fault.KindOf(err), err, "%s", j.rel)
	}
	return res, err
}

func (r *rewriter) fill(ctx context.Context, j job, res *FileResult) error {
	out, err := r.dst.CreateMode(j.rel, j.perm)
	if err != nil {
		return err
	}
	if j.added {
		err = writeAdded(out, j.override, res)
	} else {
		err = r.copy(ctx, j, out, res)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

func writeAdded(out io.Writer, content []byte, res *FileResult) error {
	sum := sha256.Sum256(content)
	res.Size, res.SHA256Out = int64(len(content)), hex.EncodeToString(sum[:])
	_, err := out.Write(content)
	return err
}

// copy runs the input through the pipeline. Of a replaced file, the input is
// only hashed.
func (r *rewriter) copy(ctx context.Context, j job, out io.Writer, res *FileResult) error {
	p := &pipe{size: j.size, pool: r.pool, progress: r.opt.Progress, out: out}
	var grown int64
	if j.shard >= 0 {
		s := &r.c.shards[j.shard]
		p.in, p.known = s.file, r.opt.Known[s.Path]
		p.spans = r.spans(j.shard)
		if h, ok := r.opt.Head[s.Path]; ok {
			if len(p.spans) > 0 && h.Skip > p.spans[0].t.Offset {
				return fault.New(fault.General, "a head of %d bytes covers tensor %q", h.Skip, p.spans[0].t.Name)
			}
			var err error
			if p.head, err = h.Open(); err != nil {
				return err
			}
			p.skip, grown = h.Skip, h.Size-h.Skip
		}
	} else {
		f, err := r.c.open(j.rel)
		if err != nil {
			return fault.Wrap(fault.General, err, "reading checkpoint")
		}
		defer f.Close()
		p.in = f
	}
	if j.replaced {
		p.out = nil
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	res.SHA256In, res.SHA256Out, res.Size = p.sumIn, p.sumOut, j.size+grown
	if j.replaced {
		return writeAdded(out, j.override, res)
	}
	return nil
}

// spans lists a shard's tensors in the order of their data, with editors.
func (r *rewriter) spans(shard int) []span {
	var spans []span
	for i := range r.c.tensors {
		t := &r.c.tensors[i]
		if t.Shard != shard || t.Size == 0 {
			continue
		}
		s := span{t: *t}
		s.unit, s.elements = t.unit()
		if r.opt.Edit != nil {
			s.editor = r.opt.Edit(*t)
		}
		spans = append(spans, s)
	}
	return spans
}
