package adapter

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Tensor is a tensor of an adapter.
type Tensor struct {
	Name  string
	Shape []int
}

// Weight is a tensor of the sealed model.
type Weight struct {
	Shape []int // nil if it is not known; then the tensor does not move
	Moves bool  // the seal changes it
}

// Model is the sealed model's tensors, by name.
type Model map[string]Weight

// Role says which factors of a weight a piece takes.
type Role int

// The roles.
const (
	Output    Role = iota // the left factor of an update: those along axes that it has, and those of the whole weight
	Input                 // the right factor: those that the left one has no axes for
	Added                 // what is added to the module's output: the outputs' own factors, and none of the inputs'
	Full                  // all: the weight itself, or some of its rows
	Magnitude             // sizes of the weight's rows: as Full, without signs, and the rows' other factors must be alike
	Gain                  // none: it multiplies activations, element by element, and only changes places with them
)

// Piece says what a tensor of an adapter has to do with a weight of the model.
type Piece struct {
	Name    string // the adapter's tensor
	Of      string // the model's
	Shape   []int  // the dimensions that the tensor's elements are seen in
	Follows []int  // per dimension the axis of the weight that it runs along, or -1
	Partner []int  // of an Output and an Input, what the other one follows
	Role    Role
	Slot    string // tells the pieces of one weight apart
	Parts   []Part // of a weight that transformers makes of several tensors; Of is its name in memory
	Whole   []int  // its shape
}

// Pieces finds for every tensor of an adapter its weight in the model. A tensor
// whose weight is not in the model, or has another shape, gives fault.Mismatch;
// one that cannot be converted, fault.Unsupported.
func Pieces(c *Config, tensors []Tensor, m Model) ([]Piece, error) {
	r := &reader{c: c, m: m, modules: map[string]*module{}}
	for _, t := range tensors {
		if err := r.read(t); err != nil {
			return nil, err
		}
	}
	if len(r.names) == 0 && len(r.out) == 0 {
		return nil, fault.New(fault.Mismatch, "%s holds no tensor", WeightsName)
	}
	if err := r.evidence(); err != nil {
		return nil, err
	}
	for _, name := range r.names {
		if err := r.join(r.modules[name]); err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// module is a part of the model with the tensors that adapt it.
type module struct {
	path  string // in the model, without the wrapper's own levels
	depth int    // how many adapters lie around this one
	has   map[string]Tensor
}

// reader sorts an adapter's tensors.
type reader struct {
	c       *Config
	m       Model
	modules map[string]*module
	names   []string // of the modules, as they come
	out     []Piece
	beside  map[string]string
	conv    int // weights that are stored as (in, out) for certain, less those that are not
}

// The ends of tensors' names.
const (
	partA      = ".lora_A.weight"
	partB      = ".lora_B.weight"
	biasB      = ".lora_B.bias"
	embedA     = ".lora_embedding_A"
	embedB     = ".lora_embedding_B"
	magnitude  = ".lora_magnitude_vector"
	gain       = ".ia3_l"
	tokenDelta = ".trainable_tokens_delta"
)

var parts = []string{partA, partB, biasB, embedA, embedB, magnitude, gain, tokenDelta}

// read sorts one tensor by its name.
func (r *reader) read(t Tensor) error {
	name := strings.TrimPrefix(t.Name, "base_model.model.")
	for _, n := range t.Shape {
		if n < 1 {
			return fault.New(fault.Mismatch, "adapter tensor %s has shape %v: it was saved incompletely", t.Name, t.Shape).WithHint(saveAgain)
		}
	}
	for _, part := range parts {
		path, ok := strings.CutSuffix(name, part)
		if !ok {
			path, ok = strings.CutSuffix(name, part+".weight") // as older versions wrote magnitudes
		}
		if !ok {
			continue
		}
		if part == tokenDelta {
			path = strings.TrimSuffix(path, ".token_adapter")
		}
		return r.file(path, part, t)
	}
	if strings.Contains(name, ".lora_") || strings.Contains(name, ".ia3_") {
		return fault.New(fault.Unsupported, "adapter tensor %s is of no kind that can be converted", t.Name).
			WithHint("adapters of type LORA and IA3 are; this one may be of a newer PEFT")
	}
	return r.whole(strings.ReplaceAll(name, ".base_layer.", "."), t)
}

// saveAgain is what to do about an adapter that is damaged in itself.
const saveAgain = "save the adapter again, with save_pretrained, from one process"

// file puts a tensor to its module.
func (r *reader) file(path, part string, t Tensor) error {
	m := r.modules[path]
	if m == nil {
		m = &module{path: path, has: map[string]Tensor{}}
		for strings.HasSuffix(m.path, ".base_layer") {
			m.path = strings.TrimSuffix(m.path, ".base_layer")
			m.depth++
		}
		r.modules[path] = m
		r.names = append(r.names, path)
	}
	if _, twice := m.has[part]; twice {
		return fault.New(fault.Mismatch, "adapter tensor %s is there twice", t.Name).WithHint(saveAgain)
	}
	m.has[part] = t
	return nil
}

// whole takes a tensor that replaces one of the model's.
func (r *reader) whole(name string, t Tensor) error {
	of, err := r.find(name)
	if err != nil {
		return err
	}
	if of == "" {
		return fault.New(fault.Mismatch, "adapter tensor %s replaces a tensor that the sealed model does not have: whether the seal scales what it reads is not known", t.Name).
			WithHint("parts that an adapter adds to the model, such as classifiers, cannot be converted")
	}
	if shape := r.m[of].Shape; shape != nil && !slices.Equal(shape, t.Shape) {
		return fault.New(fault.Mismatch, "adapter tensor %s has shape %v; tensor %s of the sealed model has %v", t.Name, t.Shape, of, shape).WithHint(otherModel)
	}
	follows := make([]int, len(t.Shape))
	for i := range follows {
		follows[i] = i
	}
	r.out = append(r.out, Piece{Name: t.Name, Of: of, Shape: t.Shape, Follows: follows, Role: Full})
	return nil
}
