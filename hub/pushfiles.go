package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	modeLFS     = "lfs"
	modeRegular = "regular"
)

// localFile is a file of a push.
type localFile struct {
	path     string // in the repository
	file     string // on this machine
	size     int64
	modified time.Time
	sha256   string // of a file for large file storage
	gitSHA   string // of a regular file
	mode     string
	ignored  bool   // by the repository's .gitignore
	remote   string // checksum of what the repository has under this name; "": nothing
}

// oid is the checksum that the hub knows the content by.
func (f *localFile) oid() string {
	if f.mode == modeLFS {
		return f.sha256
	}
	return f.gitSHA
}

func (f *localFile) unchanged() bool { return f.remote != "" && f.remote == f.oid() }

func (f *localFile) wanted() bool { return !f.ignored && !f.unchanged() }

// localFiles lists the files below a folder, as huggingface_hub would: without
// .git and the hub's own notes. Links that lead out of the folder are refused:
// what lies behind them may not be meant to be published.
func localFiles(opt PushOptions) ([]*localFile, error) {
	include, err := globs(opt.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := globs(opt.Exclude)
	if err != nil {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(opt.Folder)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the folder to push")
	}
	if !isDir(root) {
		return nil, fault.New(fault.Usage, "%s is not a folder", opt.Folder)
	}
	var files []*localFile
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if e.IsDir() {
			if e.Name() == ".git" || rel == ".cache/huggingface" {
				return filepath.SkipDir
			}
			return nil
		}
		if len(include) > 0 && !matches(include, rel) || matches(exclude, rel) {
			return nil
		}
		f, err := localFileAt(root, p, rel)
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading the folder to push")
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Usage, "%s holds no file to push", opt.Folder)
	}
	slices.SortFunc(files, func(a, b *localFile) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

func localFileAt(root, p, rel string) (*localFile, error) {
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "%s", rel)
	}
	if inside, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(inside) {
		return nil, fault.New(fault.Usage, "%s is a link to %s, outside of the folder", rel, real).
			WithHint("push a folder that holds its files itself, or leave the link out with --exclude")
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "%s", rel)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Usage, "%s is not a file", rel).WithHint("leave it out with --exclude")
	}
	if err := atomicdir.CheckName(rel); err != nil {
		return nil, err
	}
	return &localFile{path: rel, file: real, size: info.Size(), modified: info.ModTime()}, nil
}

const headSize = 4096 // bytes that Inspect is shown

func inspect(opt PushOptions, files []*localFile) error {
	if opt.Inspect == nil {
		return nil
	}
	for _, f := range files {
		head, err := f.head(headSize)
		if err == nil {
			err = opt.Inspect(f.path, head)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// head returns the first n bytes of a file, or all of them.
func (f *localFile) head(n int64) ([]byte, error) {
	file, err := os.Open(f.file)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading a file to push")
	}
	defer file.Close()
	b := make([]byte, min(f.size, n))
	if _, err := io.ReadFull(file, b); err != nil {
		return nil, fault.Wrap(fault.General, err, "reading %s", f.path)
	}
	return b, nil
}

// sum computes the checksums of files that have none yet.
func (p *push) sum(ctx context.Context, want func(*localFile) bool) error {
	var total int64
	var todo []*localFile
	for _, f := range p.files {
		if want(f) && f.oid() == "" {
			todo = append(todo, f)
			total += f.size
		}
	}
	p.c.stage("hashing", total)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(4, p.c.cfg.Workers))
	for _, f := range todo {
		g.Go(func() error { return f.hash(ctx, p.c.add) })
	}
	return g.Wait()
}

func (f *localFile) hash(ctx context.Context, add func(int64)) error {
	h := gitHash(f.size)
	if f.mode == modeLFS {
		h = sha256.New()
	}
	file, err := os.Open(f.file)
	if err != nil {
		return fault.Wrap(fault.General, err, "reading a file to push")
	}
	defer file.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := file.Read(buf)
		h.Write(buf[:n])
		add(int64(n))
		switch {
		case err == io.EOF:
			sum := hex.EncodeToString(h.Sum(nil))
			if f.mode == modeLFS {
				f.sha256 = sum
			} else {
				f.gitSHA = sum
			}
			return nil
		case err != nil:
			return fault.Wrap(fault.General, err, "reading a file to push")
		case ctx.Err() != nil:
			return interrupted(ctx)
		}
	}
}

// stillSame demands that no file was changed since it was hashed.
func (p *push) stillSame() error {
	for _, f := range p.files {
		info, err := os.Stat(f.file)
		if err != nil || info.Size() != f.size || !info.ModTime().Equal(f.modified) {
			return changed(f)
		}
	}
	return nil
}

func changed(f *localFile) error {
	return fault.New(fault.Mismatch, "%s changed while it was pushed; nothing was committed", f.path).
		WithHint("push again when nothing writes to the folder")
}

// bytesBody makes a request body of bytes, which can be sent again.
func bytesBody(data []byte) func() (io.ReadCloser, int64, error) {
	return func() (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
	}
}
