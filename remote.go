package neuroseal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/quant"
)

// Remote is a checkpoint folder that is elsewhere, such as on a hub, and never
// changes there. Inspect and CheckRemote read its headers; Lock brings its files
// here one by one.
type Remote struct {
	// Name is what messages call it, such as hf://org/name.
	Name string
	// Files holds its files. Open ones are io.ReaderAt. Where Here says so, what
	// is read is known to be right; elsewhere it is read in ranges, which no
	// checksum covers, and serves for headers only.
	Files fs.FS
	// Sum returns the checksum, in hexadecimal, that names a file's content:
	// SHA-256 if it has 64 digits.
	Sum func(file string) string
	// Here reports whether a file is on this machine already, as in a cache.
	Here func(file string) bool
	// Fetch brings a file to path, where nothing is, and checks it. What an
	// interrupted call leaves at path + ".incomplete" the next one completes;
	// Begun counts its bytes.
	// also, if not nil, makes a writer that is given the content from the first
	// byte to the last, as it comes; a Fetch that begins again makes a new one.
	Fetch func(ctx context.Context, file, path string, also func() io.Writer) error
	Begun func(file, path string) int64
}

// RemoteCheck is what a checkpoint's headers tell before anything large moves.
type RemoteCheck struct {
	ModelType string
	Shards    int
	Bytes     int64 // of all files
	Download  int64 // bytes of the files that are not here
	Peak      int64 // bytes of disk that Lock takes while it runs
	// Streams reports whether Lock can seal it shard by shard as it arrives.
	// One whose scales are quantised themselves cannot: it is sealed as a whole.
	Streams bool
}

// CheckRemote refuses what Lock refuses before it reads any weight, and tells
// what Lock would move. sealed lets sealed checkpoints pass.
func CheckRemote(r *Remote, allowUnsealed, sealed bool) (*RemoteCheck, error) {
	if !sealed {
		if err := refuseSealedRemote(r); err != nil {
			return nil, err
		}
	}
	m, err := openRemote(r, headers{r.Files}, arch.Options{Tokens: observeTokens, AllowUnsealed: allowUnsealed || sealed})
	if err != nil {
		return nil, err
	}
	defer m.ck.Close()
	if err := refuseAdapter(m.ck); err != nil && !sealed {
		return nil, err
	}
	c := &RemoteCheck{ModelType: m.net.Type, Shards: len(m.ck.Shards()), Bytes: m.ck.TotalBytes(), Streams: m.wholeOnly() == nil}
	var largest int64
	for _, s := range m.ck.Shards() {
		if !r.Here(s.Path) {
			c.Download += s.Size
			largest = max(largest, s.Size)
		}
	}
	c.Peak = c.Bytes + largest + 1<<20 // with manifest and records
	for _, f := range m.ck.OtherFiles() {
		c.Peak += f.Size
		if !r.Here(f.Path) {
			c.Download += f.Size
		}
	}
	return c, nil
}

// headers shows of a checkpoint's files only those that tell what its network is,
// and of the others that they are there. What kind these are shows in their first
// bytes, which cost a request each.
type headers struct{ fs.FS }

// Open opens folders, weights, and what is JSON.
func (h headers) Open(name string) (fs.File, error) {
	f, err := h.FS.Open(name)
	if ext := path.Ext(name); err != nil || ext == ".safetensors" || ext == ".json" {
		return f, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return f, nil
	}
	f.Close()
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// ReadDir lists a folder.
func (h headers) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(h.FS, name) }

// Stat describes a file.
func (h headers) Stat(name string) (fs.FileInfo, error) { return fs.Stat(h.FS, name) }

// ReadFile reads a file as the remote does, which may check it.
func (h headers) ReadFile(name string) ([]byte, error) { return fs.ReadFile(h.FS, name) }

// openRemote opens a checkpoint whose files are in fsys and builds its network.
func openRemote(r *Remote, fsys fs.FS, opt arch.Options) (*model, error) {
	ck, err := checkpoint.OpenFS(fsys, r.Name)
	if err != nil {
		return nil, err
	}
	if err := ck.Interpret(quant.Narrow(ck)); err != nil {
		ck.Close()
		return nil, err
	}
	m := &model{path: r.Name, ck: ck, conf: ck.ConfigJSON(), opt: opt}
	if err := m.build(); err != nil {
		ck.Close()
		return nil, err
	}
	return m, nil
}

// ReadManifest reads the manifest of a sealed checkpoint, as ReadManifest does
// of a folder.
func (r *Remote) ReadManifest() (*manifest.Manifest, error) {
	info, err := fs.Stat(r.Files, manifest.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotSealed, "%s is not sealed: it holds no %s", r.Name, manifest.Name)
	case err != nil:
		return nil, fault.Wrap(fault.KindOf(err), err, "reading manifest")
	case info.Size() > manifest.MaxSize:
		return nil, fault.New(fault.Mismatch, "%s of %s: %d bytes; at most %d are read", manifest.Name, r.Name, info.Size(), manifest.MaxSize)
	}
	data, err := fs.ReadFile(r.Files, manifest.Name)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading manifest")
	}
	return manifest.Parse(data)
}

// refuseSealedRemote is refuseSealed for a checkpoint that is elsewhere.
func refuseSealedRemote(r *Remote) error {
	_, err := r.ReadManifest()
	return judgeManifest(r.Name, err)
}
