package train

import (
	"path"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Kind is what is trained.
type Kind string

// The kinds. The adapters are defined and initialised as in PEFT.
const (
	Full       Kind = "full"        // every tensor
	Tensors    Kind = "tensors"     // the tensors named by Modules
	Norms      Kind = "norms"       // norm gains (and biases)
	Embeddings Kind = "embeddings"  // the token embedding
	Head       Kind = "head"        // the output head
	LoRA       Kind = "lora"        // W·x + s·B·A·x
	DoRA       Kind = "dora"        // m·(W + s·B·A)/‖W + s·B·A‖·x
	IA3        Kind = "ia3"         // gains on outputs, or on inputs where FeedForward
	SoftPrompt Kind = "soft-prompt" // virtual tokens before the sequence
	Residual   Kind = "residual"    // bottleneck adapters after the modules: y + B·relu(A·y)
)

// AllLinear names every linear map but the output head, as in PEFT.
const AllLinear = "all-linear"

// Trainable says what is trained. Unused fields are ignored.
type Trainable struct {
	Kind Kind

	// Modules are patterns (path.Match, in which * also matches dots) on tensor
	// names, or last parts of module names such as "q_proj"; or AllLinear.
	Modules []string

	Rank   int     // LoRA, DoRA, Residual: inner dimension
	Alpha  float64 // LoRA, DoRA: s = Alpha / Rank
	RSLoRA bool    // s = Alpha / sqrt(Rank)
	Ratio  float64 // LoRA+: learning rate of B over that of A; 0: 1

	FeedForward []string // IA3: those of Modules whose input is multiplied

	Virtual int // SoftPrompt: number of virtual tokens; the graph has that many more
}

func (t Trainable) check() error {
	switch t.Kind {
	case Full, Norms, Embeddings, Head:
		return nil
	case Tensors, LoRA, DoRA, IA3, Residual:
		if len(t.Modules) == 0 {
			return fault.New(fault.Usage, "training %s: no modules named", t.Kind).
				WithHint("name some, or %q", AllLinear)
		}
		if (t.Kind == LoRA || t.Kind == DoRA || t.Kind == Residual) && t.Rank < 1 {
			return fault.New(fault.Usage, "training %s: rank %d", t.Kind, t.Rank)
		}
		for _, p := range slices.Concat(t.Modules, t.FeedForward) {
			if _, err := path.Match(p, ""); err != nil {
				return fault.New(fault.Usage, "training %s: pattern %q: %v", t.Kind, p, err)
			}
		}
		return nil
	case SoftPrompt:
		if t.Virtual < 1 {
			return fault.New(fault.Usage, "training a soft prompt of %d tokens", t.Virtual)
		}
		return nil
	}
	return fault.New(fault.Usage, "unknown kind of training %q", t.Kind)
}

// matches reports whether a pattern names the tensor.
func matches(patterns []string, tensor string) bool {
	module := strings.TrimSuffix(tensor, ".weight")
	for _, p := range patterns {
		if ok, _ := path.Match(p, tensor); ok || module == p || strings.HasSuffix(module, "."+p) {
			return true
		}
	}
	return false
}
