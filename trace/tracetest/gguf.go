package tracetest

import (
	"fmt"
	"os"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// WriteGGUF makes a GGUF of a model by what a converter made of the original:
// file, whose matrices are in F32. Weights that a GGUF holds in another form stay
// as they are in file; left tells how many.
func (m *Model) WriteGGUF(file, path string) (left int, err error) {
	g, err := gguf.Open(file)
	if err != nil {
		return 0, err
	}
	defer g.Close()
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	weights := arch.GGUFWeights(g)
	for _, x := range m.Tensors {
		w, ok := weights[x.Name]
		if !ok {
			left++
			continue
		}
		width := w.Shape[len(w.Shape)-1]
		for i := range len(x.Data) / width {
			at := w.Row(i)
			t, ok := g.Tensor(at.Tensor)
			if !ok || t.Type != gguf.F32 {
				return 0, fmt.Errorf("%s of %s: there is no tensor %s in F32", x.Name, file, at.Tensor)
			}
			stored := int64(t.Dims[0])
			first, step := int64(at.Row)*stored, int64(1)
			if at.Column >= 0 {
				first, step = first+int64(at.Column), stored
			}
			for j, v := range x.Data[i*width : (i+1)*width] {
				dtype.FromFloat32(dtype.F32, raw[t.Offset+4*(first+int64(j)*step):][:4], []float32{v})
			}
		}
	}
	return left, os.WriteFile(path, raw, 0o666)
}
