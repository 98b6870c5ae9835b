package checkpoint

import (
	"slices"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Interpret gives tensors of single elements a format: scales, for example, that
// have a type of their own. It belongs to opening: the checkpoint must not be in
// use yet. A tensor whose bytes are no whole blocks gives fault.Mismatch.
func (c *Checkpoint) Interpret(formats map[string]Format) error {
	if len(formats) == 0 {
		return nil
	}
	c.tensors = slices.Clone(c.tensors)
	for name, f := range formats {
		i, ok := c.byName[name]
		if !ok {
			continue
		}
		t := &c.tensors[i]
		elements, bytes := f.Block()
		if n := len(t.Shape); n == 0 || t.Shape[n-1]%elements != 0 || t.Elements()/int64(elements)*int64(bytes) != t.Size {
			return fault.New(fault.Mismatch, "tensor %q: %d bytes for %v of %v", name, t.Size, t.Shape, f)
		}
		t.Format, t.DType = f, dtype.Invalid
	}
	return nil
}
