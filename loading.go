package neuroseal

import (
	"encoding/json"
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/seal"
)

// adapterConfig is the file that makes transformers load an adapter together
// with the model that lies beside it.
const adapterConfig = "adapter_config.json"

// refuseAdapter refuses a model with an adapter: the adapter adds to weights
// as they were before the seal.
func refuseAdapter(ck *checkpoint.Checkpoint) error {
	if !slices.ContainsFunc(ck.OtherFiles(), func(f checkpoint.File) bool { return f.Path == adapterConfig }) {
		return nil
	}
	return fault.New(fault.Unsupported, "%s: the folder holds an adapter beside the model; runtimes load both, and the adapter fits the unsealed weights only", adapterConfig).
		WithHint("merge the adapter into the model, or move its files elsewhere, and repeat")
}

// suitsONNX refuses the profiles whose values leave fp16's range for a model
// that computes in fp16.
func (o *LockOptions) suitsONNX() error {
	if o.Profile == seal.Portable || !onnx.Is(o.Source) {
		return nil
	}
	m, err := onnx.Open(o.Source)
	if err != nil {
		return err
	}
	defer m.Close()
	if !m.Half() {
		return nil
	}
	return fault.New(fault.Unsupported, "profile %s needs activations in bf16 or fp32; %s computes in fp16", o.Profile, o.Source).
		WithHint("use --profile portable, or seal the checkpoint before it is exported")
}

// halfNote warns of a checkpoint that runtimes load in fp16 unless told
// otherwise, when the profile does not promise that; "" when there is no need.
func (m *model) halfNote(p seal.Profile) string {
	if p == seal.Portable || !m.loadsHalf() {
		return ""
	}
	return "the checkpoint, or its config.json, asks for fp16, where this profile's values overflow: load it in bf16 or fp32 (dtype=torch.bfloat16), or seal it with profile portable"
}

// loadsHalf reports whether a runtime that takes a checkpoint's own type takes
// fp16: the config's, or if it names none, that of any weight.
func (m *model) loadsHalf() bool {
	var c struct {
		New string `json:"dtype"`
		Old string `json:"torch_dtype"`
	}
	if json.Unmarshal(arch.PlainJSON(m.conf), &c) == nil && c.New+c.Old != "" {
		return c.New == "float16" || c.New == "" && c.Old == "float16"
	}
	return slices.ContainsFunc(m.ck.Tensors(), func(t checkpoint.Tensor) bool { return t.DType == dtype.F16 })
}
