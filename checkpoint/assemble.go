package checkpoint

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Assemble opens a checkpoint of a format that the caller has read: the files
// that hold tensors, relative to the folder and slash-separated, and where the
// tensors lie in them (Tensor.Shard is a position in files). path is the
// folder, or one of its files; then nothing else of the folder belongs to the
// checkpoint. Shards have no Header. What lies between tensors is copied by
// Rewrite as it is.
//
// Tensors that overlap, leave their file, or have another size than type and
// shape say give fault.Mismatch.
func Assemble(path string, files []string, tensors []Tensor) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening checkpoint")
	}
	c := &Checkpoint{root: path, byName: map[string]int{}}
	if !info.IsDir() {
		c.root, c.single = filepath.Dir(path), true
	}
	if err := c.assemble(files, tensors); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) assemble(files []string, tensors []Tensor) error {
	for _, name := range files {
		if err := c.openData(name); err != nil {
			return err
		}
	}
	if !c.single {
		all, err := c.walk()
		if err != nil {
			return err
		}
		c.others = slices.DeleteFunc(all, func(f File) bool { return slices.Contains(files, f.Path) })
	}
	c.tensors = slices.Clone(tensors)
	slices.SortStableFunc(c.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Offset, b.Offset))
	})
	for i, t := range c.tensors {
		if err := c.checkPlace(t); err != nil {
			return err
		}
		if i > 0 {
			if p := c.tensors[i-1]; p.Shard == t.Shard && p.Offset+p.Size > t.Offset {
				return fault.New(fault.Mismatch, "tensors %q and %q overlap in %s at byte %d", p.Name, t.Name, c.shards[t.Shard].Path, t.Offset)
			}
		}
		if _, dup := c.byName[t.Name]; dup {
			return fault.New(fault.Mismatch, "two tensors are called %q", t.Name)
		}
		c.byName[t.Name] = i
	}
	return c.readConfig()
}

func (c *Checkpoint) openData(name string) error {
	if err := atomicdir.CheckName(name); err != nil {
		return err
	}
	f, err := os.Open(c.path(name))
	if err != nil {
		return fault.Wrap(fault.General, err, "opening checkpoint")
	}
	c.shards = append(c.shards, Shard{Path: name, file: f})
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.General, err, "opening checkpoint")
	}
	c.shards[len(c.shards)-1].Size = info.Size()
	return nil
}

func (c *Checkpoint) checkPlace(t Tensor) error {
	if t.Shard < 0 || t.Shard >= len(c.shards) || t.Offset < 0 || t.Size < 0 || t.Size > c.shards[t.Shard].Size-t.Offset {
		return fault.New(fault.Mismatch, "tensor %q lies outside of its file, at byte %d", t.Name, t.Offset)
	}
	if t.Format != nil {
		bytes, elements := t.unit()
		if n := len(t.Shape); n == 0 || int64(t.Shape[n-1])%elements != 0 || t.Elements()/elements*bytes != t.Size {
			return fault.New(fault.Mismatch, "tensor %q: %d bytes for %v of %v", t.Name, t.Size, t.Shape, t.Format)
		}
		return nil
	}
	if bits := int64(t.DType.Bits()); bits == 0 || (t.Elements()*bits+7)/8 != t.Size {
		return fault.New(fault.Mismatch, "tensor %q: %d bytes for %v of %v", t.Name, t.Size, t.Shape, t.DType)
	}
	return nil
}
