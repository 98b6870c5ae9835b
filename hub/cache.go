package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// The cache has one folder per repository:
//
//	models--org--name/
//	  blobs/ETAG                      contents: SHA-256, or git SHA-1 of small files
//	  refs/main                       the commit a branch was at when last asked
//	  snapshots/COMMIT/model.safetensors -> ../../blobs/ETAG
//	  trees/COMMIT.json               what the commit holds
//	.locks/models--org--name/ETAG.lock

func (c *Client) repoFolder(id string) string {
	return filepath.Join(c.cfg.Cache, "models--"+strings.ReplaceAll(id, "/", "--"))
}

func (c *Client) blobPath(id, etag string) string {
	return filepath.Join(c.repoFolder(id), "blobs", etag)
}

func (c *Client) snapshotPath(id, commit string) string {
	return filepath.Join(c.repoFolder(id), "snapshots", commit)
}

func (c *Client) pointerPath(id, commit, name string) string {
	return filepath.Join(c.snapshotPath(id, commit), filepath.FromSlash(name))
}

// cacheTag marks the folder for backup programs, as huggingface_hub does.
const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by huggingface_hub.\n" +
	"# For information about cache directory tags, see:\n#\thttps://bford.info/cachedir/\n"

// prepare makes the folders of a repository.
func (c *Client) prepare(id string) error {
	for _, dir := range []string{filepath.Join(c.repoFolder(id), "blobs"), filepath.Join(c.cfg.Cache, ".locks", filepath.Base(c.repoFolder(id)))} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return cacheError(err)
		}
	}
	tag := filepath.Join(c.cfg.Cache, "CACHEDIR.TAG")
	if _, err := os.Lstat(tag); errors.Is(err, fs.ErrNotExist) {
		_ = os.WriteFile(tag, []byte(cacheTag), 0o666)
	}
	return nil
}

func cacheError(err error) error {
	if err == nil {
		return nil
	}
	if isNoSpace(err) {
		return fault.Wrap(fault.NoSpace, err, "writing to the hub cache").WithHint("free some space, or set HF_HUB_CACHE to a folder on another disk")
	}
	return fault.Wrap(fault.General, err, "hub cache").WithHint("HF_HUB_CACHE or HF_HOME names another folder")
}

// keepRef notes which commit a branch or tag was at.
func (c *Client) keepRef(id, revision, commit string) error {
	if revision == commit {
		return nil
	}
	path := filepath.Join(c.repoFolder(id), "refs", filepath.FromSlash(revision))
	if old, err := os.ReadFile(path); err == nil && string(old) == commit {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return cacheError(err)
	}
	if err := replaceFile(path, []byte(commit)); err != nil {
		return cacheError(err)
	}
	return nil
}

// cachedCommit returns the commit that a revision was at when it was last
// downloaded, "" if that is not known.
func (c *Client) cachedCommit(ref Ref) string {
	rev := ref.revision()
	if commitID.MatchString(rev) {
		return rev
	}
	f, err := os.Open(filepath.Join(c.repoFolder(ref.ID), "refs", filepath.FromSlash(rev)))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 64))
	if s := strings.TrimSpace(string(b)); commitID.MatchString(s) {
		return s
	}
	return ""
}

// hasPointer reports whether a snapshot has a file of the right size.
func (c *Client) hasPointer(id, commit string, f File) bool {
	info, err := os.Stat(c.pointerPath(id, commit, f.Path))
	return err == nil && info.Mode().IsRegular() && info.Size() == f.Size
}

// point makes the snapshot's entry for a blob: a relative link, or, where links
// cannot be made, the file itself.
func (c *Client) point(id, commit string, f File) error {
	pointer, blob := c.pointerPath(id, commit, f.Path), c.blobPath(id, f.etag())
	if c.hasPointer(id, commit, f) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(pointer), 0o777); err != nil {
		return cacheError(err)
	}
	if err := os.Remove(pointer); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cacheError(err)
	}
	rel, err := filepath.Rel(filepath.Dir(pointer), blob)
	if err == nil {
		err = os.Symlink(rel, pointer)
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if runtime.GOOS != "windows" && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return cacheError(err)
	}
	if err := os.Link(blob, pointer); err == nil {
		return nil
	}
	return cacheError(copyFile(pointer, blob))
}

// copyFile is the last resort of disks that know no links.
func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp, err := os.CreateTemp(filepath.Dir(dst), ".copy-*.incomplete")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err = io.Copy(tmp, in); err == nil {
		err = tmp.Close()
	} else {
		tmp.Close()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), dst)
	}
	return err
}

// replaceFile writes a small file so that readers see the old or the new one.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	_ = os.Chmod(tmp.Name(), fileMode(filepath.Dir(path)))
	return os.Rename(tmp.Name(), path)
}

// fileMode is the mode that this process gives to a new file in a folder, which
// temporary files do not have.
func fileMode(dir string) fs.FileMode {
	probe := filepath.Join(dir, fmt.Sprintf(".mode-%d.tmp", os.Getpid()))
	f, err := os.OpenFile(probe, os.O_CREATE|os.O_RDONLY, 0o666)
	if err != nil {
		return 0o644
	}
	defer os.Remove(probe)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0o644
	}
	return info.Mode().Perm()
}
