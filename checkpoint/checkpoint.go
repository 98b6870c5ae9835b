// Package checkpoint shows a model on disk, a folder of safetensors shards or a
// single file, as one immutable set of named tensors, and rewrites it in one
// pass and constant memory.
package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

// Format is how a tensor is stored whose elements do not stand each for itself,
// but in blocks along the last axis that share scales.
type Format interface {
	String() string
	// Block returns how many elements share a block, and its length in bytes.
	Block() (elements, bytes int)
	// ScaleType is the type of the scales.
	ScaleType() dtype.DType
	// Dequantise writes the numbers of whole blocks to dst.
	Dequantise(dst []float32, blocks []byte)
	// Scale multiplies whole blocks by 2^e through their scales and returns -1;
	// where that is not exact, the number of the block.
	Scale(blocks []byte, e int) (bad int)
	// Room returns by which e all of these blocks may be scaled: lo <= e <= hi.
	Room(blocks []byte) (lo, hi int)
}

// Tensor is one tensor of a checkpoint.
type Tensor struct {
	Name  string
	DType dtype.DType // dtype.Invalid where Format is set
	// Format is nil for a tensor of single elements.
	Format Format
	// Shape holds the dimensions, slowest first. It is empty for a scalar and
	// must not be changed.
	Shape []int
	// Shard is the position in Shards of the file that holds the tensor.
	Shard int
	// Offset is where the data begins in that file, and Size its length, both
	// in bytes.
	Offset, Size int64
}

// Elements returns the number of elements: the product of the shape.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// Shard is one safetensors file of a checkpoint.
type Shard struct {
	// Path is relative to the checkpoint's folder and slash-separated.
	Path   string
	Size   int64
	Header *safetensors.Header // not to be changed

	file file
}

// File is a file of the folder that is no shard.
type File struct {
	// Path is relative to the checkpoint's folder and slash-separated.
	Path string
	Size int64
	// Pickle marks a Python pickle, which may run code when it is loaded and
	// may hold the weights: *.pt, pytorch_model.bin, optimizer states.
	Pickle bool
	// Weights marks a file in another format that holds or may hold the
	// weights: GGUF, ONNX, safetensors that are no shards, archives.
	Weights bool
	// Perm is who may do what with it; 0 where the source knows no permissions.
	Perm fs.FileMode
}

// Sensitive reports whether a copy of the file could hold the weights once
// more, and so undo what is done to the shards.
func (f File) Sensitive() bool { return f.Pickle || f.Weights }

// Skipped is an entry of the folder that is passed over.
type Skipped struct {
	Path string // relative, slash-separated
	Why  string
}

// Checkpoint is an open checkpoint. It is immutable, and its methods may be
// called from several goroutines at once. The files on disk must not change
// while it is in use.
type Checkpoint struct {
	root    string
	fsys    fs.FS // where the files are; nil: in root, on the disk
	single  bool  // opened as a file: the folder around it is not part of it
	shards  []Shard
	others  []File
	skipped []Skipped
	config  []byte

	tensors []Tensor
	byName  map[string]int
}

// Root returns the checkpoint's folder, for a single file the one around it;
// of a checkpoint that OpenFS opened, its name.
func (c *Checkpoint) Root() string { return c.root }

// Tensors returns all tensors, shard by shard in the order of their data. The
// slice must not be changed.
func (c *Checkpoint) Tensors() []Tensor { return c.tensors }

// Tensor returns the tensor with the given name.
func (c *Checkpoint) Tensor(name string) (Tensor, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return c.tensors[i], true
}

// Shapes returns the dimensions of every tensor, by name.
func (c *Checkpoint) Shapes() map[string][]int {
	out := make(map[string][]int, len(c.Tensors()))
	for _, t := range c.Tensors() {
		out[t.Name] = t.Shape
	}
	return out
}

// Weight returns a tensor's type and its size in bytes; with ReadWeight it makes
// a checkpoint the source of a network's weights (probe.Source).
func (c *Checkpoint) Weight(name string) (d dtype.DType, size int64, ok bool) {
	t, ok := c.Tensor(name)
	return t.DType, t.Size, ok
}

// ReadWeight fills p from a tensor's data at the given byte offset.
func (c *Checkpoint) ReadWeight(name string, p []byte, off int64) error {
	t, ok := c.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	return c.ReadAt(t, p, off)
}

// Shards returns the safetensors files by name. The slice must not be changed.
func (c *Checkpoint) Shards() []Shard { return c.shards }

// OtherFiles returns every other regular file below the folder by name, the
// index and config.json among them; .git and .cache/huggingface are left out.
// For a checkpoint opened as a single file that is at most the config.json
// beside it. The slice must not be changed.
func (c *Checkpoint) OtherFiles() []File { return c.others }

// Skipped returns what of the folder is in neither list because it cannot be
// followed: symbolic links to folders or to nothing, devices, sockets.
func (c *Checkpoint) Skipped() []Skipped { return c.skipped }

// ConfigJSON returns the content of config.json, nil if there is none.
func (c *Checkpoint) ConfigJSON() []byte { return c.config }

// TotalBytes returns the size of all shards and other files.
func (c *Checkpoint) TotalBytes() int64 {
	var n int64
	for _, s := range c.shards {
		n += s.Size
	}
	for _, f := range c.others {
		n += f.Size
	}
	return n
}

// ReadAt fills p with the tensor's bytes from byte off on. A range that leaves
// the tensor, or that the file no longer holds, is an error.
func (c *Checkpoint) ReadAt(t Tensor, p []byte, off int64) error {
	if off < 0 || off > t.Size || int64(len(p)) > t.Size-off {
		return fault.New(fault.General, "reading tensor %q: bytes %d to %d of %d", t.Name, off, off+int64(len(p)), t.Size)
	}
	s := &c.shards[t.Shard]
	if err := s.readAt(p, t.Offset+off); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "%s: tensor %q", s.Path, t.Name)
	}
	return nil
}

func (s *Shard) readAt(p []byte, off int64) error {
	return readFull(s.file, p, off)
}

// readFull fills p from byte off of r.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Mismatch, "file ends at byte %d, it was longer when it was opened", off+int64(n)).
			WithHint("something changes the checkpoint; let it finish, then start again")
	}
	return fault.Wrap(fault.General, err, "reading byte %d", off+int64(n))
}

// Close closes the shards.
func (c *Checkpoint) Close() error {
	var errs []error
	for i := range c.shards {
		if f := c.shards[i].file; f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Scalable reports whether the tensor holds numbers that can be multiplied by
// powers of two: floats, or blocks of codes with scales.
func (t Tensor) Scalable() bool { return t.Format != nil || t.DType.Scalable() }

// unit returns the smallest number of bytes that holds whole elements of t, or
// whole blocks, and how many elements that is.
func (t Tensor) unit() (bytes, elements int64) {
	if t.Format != nil {
		e, b := t.Format.Block()
		return int64(b), int64(e)
	}
	bits := int64(t.DType.Bits())
	elements = 8 / gcd(bits, 8)
	return bits * elements / 8, elements
}

// rowUnit returns the smallest number of bytes that holds whole rows of the
// last axis, or 0 where that is too much to count.
func (t Tensor) rowUnit() int64 {
	if t.Format != nil {
		b, e := t.unit()
		return int64(t.Shape[len(t.Shape)-1]) / e * b
	}
	bits := int64(t.DType.Bits())
	if len(t.Shape) > 0 {
		last := int64(t.Shape[len(t.Shape)-1])
		if last == 0 || last > math.MaxInt64/(8*bits) {
			return 0
		}
		bits *= last
	}
	return bits * (8 / gcd(bits, 8)) / 8
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
