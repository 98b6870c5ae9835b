// Package quant knows the quantised formats of safetensors checkpoints: which
// tensors make up a quantised weight, what its numbers are, and which of these
// tensors holds the scales that a factor can move into.
//
// A quantised weight is a logical weight, of the name and shape that the network
// has for it, which stands in the checkpoint as several tensors: codes, scales,
// and perhaps zero points. Codes are never changed. A factor of a power of two on
// elements that share a scale is a factor on that scale; the formats differ in
// which elements share one, and in the scales' type:
//
//	format                       scale                  rows     columns    type
//	bitsandbytes NF4, FP4        weight.absmax          any      64         F32
//	bitsandbytes int8            SCB                    any      none       F32
//	GPTQ                         scales [g, out]        any      group      F16
//	AWQ                          scales [g, out]        any      group      F16
//	compressed-tensors, group    weight_scale [out, g]  any      group      as stored
//	…, channel; tensor; block    weight_scale           any;     all; all;  as stored
//	                                                    all;
//	                                                    block    block
//	fine-grained FP8             weight_scale_inv       block    block      F32, BF16
//	MXFP4                        _scales                any      32         E8M0
//	NVFP4                        weight_scale           any      16         E4M3
//	MLX, affine                  scales and biases      any      group      F16, BF16, F32
//	MLX mxfp4, mxfp8; nvfp4      scales                 any      32; 16     E8M0; E4M3
//
// Where a runtime quantises the activations too, a column's factor meets their
// scale: one that the runtime finds for each token lets only factors through that
// are equal along the whole input; one that is stored, or that decides which
// columns are computed otherwise, none (Weight.Still).
//
// Sources: the loaders in transformers' integrations, bitsandbytes'
// QuantState, AutoGPTQ and GPTQModel, AutoAWQ, compressed-tensors, mlx-lm; the
// prototypes' measurements.
package quant

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Set is the quantised weights of a checkpoint. It is immutable.
type Set struct {
	Method  string // as in quantization_config
	weights map[string]*Weight
	owned   map[string]bool // tensors that belong to a quantised weight
	shapes  map[string][]int
}

// tensors is what formats are recognised in.
type tensors struct {
	ck    *checkpoint.Checkpoint
	set   *Set
	found []*Weight
}

// config is what all formats have in common of a quantization_config.
type config struct {
	Method string `json:"quant_method"`
	raw    json.RawMessage
}

// Open recognises the quantised weights of a checkpoint; nil of one that is not
// quantised. A format or an option of it that is not known, and tensors that do
// not fit together, are errors of kind Unsupported that name it.
func Open(ck *checkpoint.Checkpoint) (*Set, error) {
	var keys map[string]json.RawMessage
	if json.Unmarshal(ck.ConfigJSON(), &keys) != nil {
		return nil, nil // without a config, or with one that the reader of configs complains of
	}
	c, ok, err := quantisation(keys)
	if err != nil || !ok {
		return nil, err
	}
	t := &tensors{ck: ck, set: &Set{Method: c.Method, weights: map[string]*Weight{}, owned: map[string]bool{}}}
	if err := t.refuseStatic(); err != nil {
		return nil, err
	}
	if err := formats[c.Method](t, c.raw); err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "quantised checkpoint (%s)", c.Method)
	}
	return t.finish()
}

// formats are the readers by quant_method; "mlx" stands for the config key
// quantization without a method.
var formats = map[string]func(*tensors, json.RawMessage) error{
	"bitsandbytes":       bitsandbytes,
	"gptq":               gptq,
	"awq":                awq,
	"compressed-tensors": compressed,
	"fp8":                fineGrained,
	"mxfp4":              mxfp4,
	"modelopt":           modelopt,
	"mlx":                mlx,
}

// Methods returns the quant_methods that are known, sorted.
func Methods() []string { return slices.Sorted(maps.Keys(formats)) }

// quantisation reads which format a config names.
func quantisation(keys map[string]json.RawMessage) (c config, ok bool, err error) {
	raw, there := keys["quantization_config"]
	plain, bare := keys["quantization"]
	none := func(r json.RawMessage) bool { return len(r) == 0 || string(r) == "null" }
	if none(raw) && none(plain) {
		return c, false, nil
	}
	if there && !none(raw) {
		if err := json.Unmarshal(raw, &c); err != nil {
			return c, false, fault.Wrap(fault.Unsupported, err, "config.json: quantization_config")
		}
	}
	c.raw = raw
	if c.Method == "" && bare && !none(plain) {
		c.Method, c.raw = "mlx", plain
	}
	if c.Method == "" {
		// Older bitsandbytes configs name no method.
		var old struct {
			Four  bool `json:"load_in_4bit"`
			Eight bool `json:"load_in_8bit"`
		}
		if json.Unmarshal(raw, &old) == nil && (old.Four || old.Eight) {
			c.Method = "bitsandbytes"
		}
	}
	if formats[c.Method] == nil || c.Method == "mlx" && !bare {
		return c, false, fault.New(fault.Unsupported, "config.json: quantization_config names a quantised checkpoint (%s), whose format is not known", c.Method).
			WithHint("known: %s; or seal the unquantised checkpoint", strings.Join(Methods(), ", "))
	}
	return c, true, nil
}

// refuseStatic refuses stored scales of a quantised cache of keys and values,
// which would have to move with them.
func (t *tensors) refuseStatic() error {
	for _, x := range t.ck.Tensors() {
		for _, s := range []string{".k_scale", ".v_scale", ".q_scale", ".prob_scale", ".output_scale"} {
			if strings.HasSuffix(x.Name, s) {
				return fault.New(fault.Unsupported, "tensor %s scales quantised activations or a quantised cache, and cannot stay as it is", x.Name).
					WithHint("remove the cache's scales from the checkpoint, or seal the unquantised one")
			}
		}
	}
	return nil
}

// finish checks what was found and lists the network's own tensors.
func (t *tensors) finish() (*Set, error) {
	s := t.set
	s.shapes = t.ck.Shapes()
	for name := range s.owned {
		delete(s.shapes, name)
	}
	for _, w := range t.found {
		if err := w.check(t.ck); err != nil {
			return nil, fault.Wrap(fault.Unsupported, err, "quantised weight %s", w.Name)
		}
		s.weights[w.Name] = w
		s.shapes[w.Name] = w.Shape
	}
	return s, nil
}

// Plain returns a config.json as that of the unquantised checkpoint: without
// what it says of quantisation. Offsets differ from the file's.
func Plain(config []byte) []byte {
	var keys map[string]json.RawMessage
	if json.Unmarshal(config, &keys) != nil {
		return config
	}
	if keys["quantization_config"] == nil && keys["quantization"] == nil {
		return config
	}
	delete(keys, "quantization_config")
	delete(keys, "quantization")
	out, err := json.Marshal(keys)
	if err != nil {
		return config
	}
	return out
}

// Shapes returns the dimensions of the weights that a network reads, by name:
// the quantised ones in place of the tensors that they are made of.
func (s *Set) Shapes() map[string][]int { return s.shapes }

// Weight returns a quantised weight by its name; nil if it is not one.
func (s *Set) Weight(name string) *Weight {
	if s == nil {
		return nil
	}
	return s.weights[name]
}

// Formats counts the quantised weights by format, for people: "NF4 (7 weights)".
func (s *Set) Formats() []string {
	if s == nil {
		return nil
	}
	count, still := map[string]int{}, map[string]bool{}
	for _, w := range s.weights {
		count[w.Format]++
		still[w.Format] = still[w.Format] || w.Still
	}
	var out []string
	for _, f := range slices.Sorted(maps.Keys(count)) {
		text := fmt.Sprintf("%s (%d weights)", f, count[f])
		if still[f] {
			text += ", whose input must stay: the runtime quantises it, too"
		}
		out = append(out, text)
	}
	return out
}

// Names returns the names of all quantised weights, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.weights)) }

// Parameters counts the numbers of all weights, those that are quantised by
// what they stand for.
func (s *Set) Parameters() int64 {
	var n int64
	for _, shape := range s.shapes {
		k := int64(1)
		for _, d := range shape {
			k *= int64(d)
		}
		n += k
	}
	return n
}

// own takes a tensor as a part of a quantised weight; ok is false if it is not
// there.
func (t *tensors) own(name string) (x checkpoint.Tensor, ok bool) {
	if x, ok = t.ck.Tensor(name); ok {
		t.set.owned[name] = true
	}
	return x, ok
}

// bases lists the names that, with the given ending, are a tensor's; sorted.
func (t *tensors) bases(ending string) []string {
	var out []string
	for _, x := range t.ck.Tensors() {
		if b, ok := strings.CutSuffix(x.Name, ending); ok && b != "" {
			out = append(out, b)
		}
	}
	slices.Sort(out)
	return out
}

// bytes reads a small tensor as a whole.
func (t *tensors) bytes(x checkpoint.Tensor, limit int64) ([]byte, error) {
	if x.Size > limit {
		return nil, fault.New(fault.Unsupported, "tensor %s has %d bytes; at most %d are read", x.Name, x.Size, limit)
	}
	p := make([]byte, x.Size)
	return p, t.ck.ReadAt(x, p, 0)
}
