package checkpoint

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// walk lists the regular files below the root by name, and notes in c.skipped
// what it cannot follow. Links to files are followed, as the hub's snapshots
// consist of them; links to folders are not, as they may lead anywhere and in
// circles.
func (c *Checkpoint) walk() ([]File, error) {
	fsys := c.fsys
	if fsys == nil {
		fsys = os.DirFS(c.root)
	}
	var files []File
	err := fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if e.IsDir() {
			if p == ".git" || p == ".cache/huggingface" {
				return fs.SkipDir
			}
			return nil
		}
		info, why := c.follow(p, e)
		if why != "" {
			c.skipped = append(c.skipped, Skipped{p, why})
			return nil
		}
		f := classify(p, info.Size(), func() []byte { return c.head(p) })
		if c.fsys == nil {
			f.Perm = info.Mode().Perm()
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading checkpoint %s", c.root)
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return files, nil
}

// follow returns what lies at p, or why it cannot be read as a file.
func (c *Checkpoint) follow(p string, e fs.DirEntry) (info fs.FileInfo, why string) {
	if c.fsys != nil { // has no links
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil, "file that cannot be read"
		}
		return info, ""
	}
	info, err := os.Stat(c.path(p))
	switch {
	case err != nil && e.Type()&fs.ModeSymlink != 0:
		return nil, "symbolic link to nothing"
	case err != nil:
		return nil, "file that cannot be read"
	case info.IsDir():
		return nil, "symbolic link to a folder"
	case !info.Mode().IsRegular():
		return nil, "device, pipe or socket"
	}
	return info, ""
}

// headSize is how much of a file is looked at to tell its format, in bytes.
const headSize = 4096

var (
	pickleExt = []string{".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".ptl", ".distcp"}
	weightExt = []string{extension, ".bin", ".gguf", ".ggml", ".onnx", ".onnx_data", ".pt2", ".h5", ".hdf5", ".keras", ".msgpack",
		".npz", ".npy", ".tflite", ".pb", ".ot", ".nemo", ".engine", ".plan", ".mlmodel", ".llamafile", ".data", ".index",
		".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl"}
	// companionExt are kinds of large binary files that usually stand beside
	// weights and hold none.
	companionExt = []string{".model", ".spm", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico", ".mp4", ".webm",
		".mov", ".mp3", ".wav", ".flac", ".ogg", ".parquet", ".ttf", ".otf", ".woff2"}
)

// suspectSize is from how many bytes on a binary file of unknown kind is taken
// to hold weights. Whoever leaves a file out can be told; a copy of the weights
// that slipped through cannot be called back.
const suspectSize = 1 << 20

// classify tells pickles and other formats of weights by name, and where names
// do not tell, by content. head is called only when needed.
func classify(rel string, size int64, head func() []byte) File {
	f := File{Path: rel, Size: size}
	ext := strings.ToLower(path.Ext(rel))
	if slices.Contains(pickleExt, ext) {
		f.Pickle = true
		return f
	}
	if textOf(rel) {
		return f
	}
	b := head()
	switch {
	case isPickle(b, ext):
		f.Pickle = true
	case ext == ".bin" && strings.HasPrefix(path.Base(rel), "pytorch_model"):
		f.Pickle = true
	case slices.Contains(weightExt, ext), isWeights(b):
		f.Weights = true
	case size >= suspectSize && !slices.Contains(companionExt, ext) && bytes.IndexByte(b, 0) >= 0:
		f.Weights = true
	}
	return f
}

// textOf reports whether the name is that of a text file that is always part of
// a checkpoint, so that it need not be opened.
func textOf(rel string) bool {
	switch strings.ToLower(path.Ext(rel)) {
	case ".json", ".txt", ".md", ".py", ".jinja", ".yaml", ".yml":
		return true
	}
	return false
}

// isPickle recognises a pickle of protocol 2 to 5, and torch.save's zip of one
// where the name leaves that open.
func isPickle(b []byte, ext string) bool {
	if len(b) > 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 {
		return true
	}
	return bytes.HasPrefix(b, []byte("PK\x03\x04")) && (ext == ".bin" || ext == "" || bytes.Contains(b, []byte("data.pkl")))
}

// isWeights recognises GGUF, HDF5, NumPy and safetensors.
func isWeights(b []byte) bool {
	for _, magic := range []string{"GGUF", "\x89HDF\r\n", "\x93NUMPY"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return len(b) > 10 && bytes.Equal(b[4:8], make([]byte, 4)) && b[8] == '{' && b[9] == '"'
}
