package informed

import (
	"context"
	"io"
	"os"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

const (
	configName = "config.json"
	indexName  = "model.safetensors.index.json"
	shardName  = "model.safetensors"
)

// Save writes a checkpoint folder with one shard, which becomes visible when it
// is complete: in the types that the tensors had in their files if these hold
// every value exactly, else all in float32. Tokenizer and other files of the
// folder that the model came from are copied; weights in other formats and the
// record of a seal are not. A dir that holds something is refused.
func (m *Model) Save(ctx context.Context, dir string) error {
	types, widened := m.types()
	out, err := atomicdir.Create(dir, atomicdir.Options{})
	if err != nil {
		return err
	}
	defer out.Abort()
	conf, err := m.savedConfig(widened)
	if err != nil {
		return err
	}
	if err := put(out, configName, func(w io.Writer) error { _, err := w.Write(conf); return err }); err != nil {
		return err
	}
	if err := put(out, shardName, func(w io.Writer) error { return m.writeShard(ctx, w, types) }); err != nil {
		return err
	}
	for _, f := range m.beside {
		if err := put(out, f.rel, func(w io.Writer) error { return copyFile(w, f.path) }); err != nil {
			return err
		}
	}
	return out.Commit()
}

func put(dir *atomicdir.Dir, rel string, write func(io.Writer) error) error {
	f, err := dir.Create(rel)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return fault.Wrap(fault.KindOf(err), err, "writing %s", rel)
	}
	return f.Close()
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.General, err, "copying from the original")
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// types chooses every tensor's type in the file; widened says that the stored
// types do not hold all values.
func (m *Model) types() (types map[string]dtype.DType, widened bool) {
	types = make(map[string]dtype.DType, len(m.tensors))
	for _, t := range m.tensors {
		types[t.Name] = t.Stored
		widened = widened || t.Data != nil && !holds(t.Stored, t.Data)
	}
	if widened {
		for _, t := range m.tensors {
			if t.Data != nil {
				types[t.Name] = dtype.F32
			}
		}
	}
	return types, widened
}

// holds reports whether a type holds every value exactly.
func holds(d dtype.DType, x []float32) bool {
	if d == dtype.F32 || d == dtype.F64 {
		return true
	}
	var buf [1024]float32
	for len(x) > 0 {
		n := copy(buf[:], x)
		if d == dtype.BF16 {
			dtype.RoundBF16(buf[:n])
		} else {
			dtype.RoundF16(buf[:n])
		}
		for i, v := range buf[:n] {
			if v != x[i] && (v == v || x[i] == x[i]) {
				return false
			}
		}
		x = x[n:]
	}
	return true
}

// savedConfig tells loaders the weights' type where it is another one now:
// they would round to the old one.
func (m *Model) savedConfig(widened bool) ([]byte, error) {
	if !widened {
		return m.config, nil
	}
	c := &Model{config: m.config}
	err := c.setConfig(map[string]any{"torch_dtype": "float32", "dtype": "float32"})
	return c.config, err
}

func (m *Model) writeShard(ctx context.Context, w io.Writer, types map[string]dtype.DType) error {
	infos := make([]safetensors.TensorInfo, len(m.tensors))
	for i, t := range m.tensors {
		infos[i] = safetensors.TensorInfo{Name: t.Name, DType: types[t.Name], Shape: t.Shape}
	}
	h, err := safetensors.NewHeader(map[string]string{"format": "pt"}, infos)
	if err != nil {
		return err
	}
	if _, err := w.Write(h.Raw); err != nil {
		return err
	}
	for _, i := range h.Order {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Interrupted, ctx.Err(), "saving")
		}
		if err := m.byName[h.Tensors[i].Name].write(w, h.Tensors[i].DType); err != nil {
			return err
		}
	}
	return nil
}

// write writes the elements in type d, some at a time.
func (t *Tensor) write(w io.Writer, d dtype.DType) error {
	if t.Data == nil {
		_, err := w.Write(t.raw)
		return err
	}
	const chunk = 1 << 16
	buf := make([]byte, min(chunk, len(t.Data))*d.Bits()/8)
	for x := t.Data; len(x) > 0; {
		n := min(chunk, len(x))
		b := buf[:n*d.Bits()/8]
		dtype.FromFloat32(d, b, x[:n])
		if _, err := w.Write(b); err != nil {
			return err
		}
		x = x[n:]
	}
	return nil
}
