package checkpoint

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/sha256x2"
)

// FileDigest is the SHA-256 of a file, in hexadecimal.
type FileDigest struct {
	Path   string // relative, slash-separated
	Size   int64  // in bytes
	SHA256 string
}

// Digest hashes files below dir, named by relative, slash-separated paths, and
// returns their digests in the same order. n processors are busy, all that there
// are if n is 0; one hashes two files at once in little more than the time of one.
// progress, if set, is told how many more bytes have been read, from several
// goroutines at once.
//
// A missing file gives fault.Mismatch, a path that leaves dir
// fault.Unsupported, an ended ctx fault.Interrupted.
func Digest(ctx context.Context, dir string, files []string, n int, progress func(n int64)) ([]FileDigest, error) {
	res := make([]FileDigest, len(files))
	sums, err := sha256x2.Sums(ctx, len(files), workers(n), func(i int) (io.ReadCloser, error) {
		f, err := openDigest(dir, files[i], progress)
		if err != nil {
			return nil, err
		}
		res[i] = FileDigest{Path: files[i], Size: f.size}
		return f, nil
	})
	if err := finish(ctx, err); err != nil {
		return nil, err
	}
	for i, sum := range sums {
		res[i].SHA256 = hex.EncodeToString(sum[:])
	}
	return res, nil
}

// digestFile reads a file that must keep its size.
type digestFile struct {
	*os.File
	rel       string
	off, size int64
	progress  func(int64)
}

func openDigest(dir, rel string, progress func(int64)) (*digestFile, error) {
	if err := atomicdir.CheckName(rel); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(rel)))
	if os.IsNotExist(err) {
		return nil, fault.Wrap(fault.Mismatch, err, "file is missing")
	}
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "hashing")
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.Mismatch, "%s is not a file", rel)
	}
	if err != nil {
		f.Close()
		return nil, fault.Wrap(fault.KindOf(err), err, "hashing")
	}
	return &digestFile{File: f, rel: rel, size: info.Size(), progress: progress}, nil
}

// Read reads on.
func (f *digestFile) Read(p []byte) (int, error) {
	if f.off == f.size {
		if err := checkEnd(f.File, f.size); err != nil {
			return 0, fault.Wrap(fault.KindOf(err), err, "%s", f.rel)
		}
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.size-f.off)]
	if err := readFull(f.File, p, f.off); err != nil {
		return 0, fault.Wrap(fault.KindOf(err), err, "%s", f.rel)
	}
	f.off += int64(len(p))
	if f.progress != nil {
		f.progress(int64(len(p)))
	}
	return len(p), nil
}
