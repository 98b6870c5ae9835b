package specimen

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// folder is an open checkpoint and its network.
type folder struct {
	ck  *checkpoint.Checkpoint
	net *arch.Model
}

// open opens a checkpoint for sequences of the given length.
func open(path string, tokens int) (*folder, error) {
	ck, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	// As the arena's engine does: whether what nobody knows may pass is not decided here.
	net, err := arch.Build(ck.ConfigJSON(), ck.Shapes(), arch.Options{Tokens: tokens, AllowUnsealed: true})
	if err != nil {
		ck.Close()
		return nil, err
	}
	return &folder{ck, net}, nil
}

// openSource opens a checkpoint of which another is to be made.
func openSource(path, dst string, tokens int) (*folder, error) {
	f, err := open(path, tokens)
	if err != nil {
		return nil, err
	}
	if err := f.usable(dst); err != nil {
		f.ck.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) usable(dst string) error {
	for _, o := range f.ck.OtherFiles() {
		if o.Path == manifest.Name {
			return fault.New(fault.AlreadySealed, "%s is sealed: what is made of it would carry the seal's record without the seal", f.ck.Root()).
				WithHint("give the checkpoint that was sealed")
		}
	}
	for name := range f.net.Graph.Weights() {
		if t, _ := f.ck.Tensor(name); !t.DType.Scalable() {
			return fault.New(fault.Unsupported, "tensor %s is %v: only bf16, fp16, fp32 and fp64 weights can be made anew", name, t.DType)
		}
	}
	return f.ck.CheckOutput(dst)
}

func (f *folder) close() { f.ck.Close() }

// memory is a set of float32 weights as a probe.Source.
type memory map[string][]float32

// Weight implements probe.Source.
func (m memory) Weight(name string) (dtype.DType, int64, bool) {
	x, ok := m[name]
	return dtype.F32, 4 * int64(len(x)), ok
}

// ReadWeight implements probe.Source; ranges are of whole elements.
func (m memory) ReadWeight(name string, p []byte, off int64) error {
	x, ok := m[name]
	if !ok || off < 0 || off+int64(len(p)) > 4*int64(len(x)) {
		return fmt.Errorf("no bytes %d to %d of a tensor %s", off, off+int64(len(p)), name)
	}
	for i, v := range x[off/4 : (off+int64(len(p)))/4] {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(v))
	}
	return nil
}
