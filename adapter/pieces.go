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

// find returns the model's name of a tensor. Checkpoints may leave the first
// parts of names out, or have more; "" if there is none of that name.
func (r *reader) find(name string) (string, error) {
	if _, ok := r.m[name]; ok {
		return name, nil
	}
	var found []string
	for n := range r.m {
		if strings.HasSuffix(n, "."+name) || strings.HasSuffix(name, "."+n) && strings.Contains(n, ".") {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", fault.New(fault.Mismatch, "adapter module %s could be %s or %s of the sealed model", name, found[0], found[1])
}

// weight finds the weight of a module that is adapted as a whole.
func (r *reader) weight(m *module) (name string, shape []int, err error) {
	name, err = r.find(m.path + ".weight")
	if err != nil {
		return "", nil, err
	}
	if name == "" {
		err := fault.New(fault.Mismatch, "the adapter targets %s, and the sealed model has no tensor %s.weight", m.path, m.path)
		return "", nil, err.WithHint("is it the model that the adapter was trained on, in safetensors, and not quantised? Weights that share another's tensor, or that transformers joins from several, cannot be converted")
	}
	if n := r.scaled()[strings.TrimSuffix(name, ".weight")]; n != "" {
		return "", nil, fault.New(fault.Unsupported, "%s is stored quantised (%s): its seal moves scales, which an adapter does not have", name, n).
			WithHint("give the seal of the unquantised model, if the adapter was trained on that")
	}
	return name, r.m[name].Shape, nil
}

// companions are what quantised weights are stored with.
var companions = []string{"absmax", "quant_map", "SCB", "qweight", "qzeros", "g_idx", "scales", "biases",
	"weight_scale", "weight_scale_inv", "weight_scale_2", "weight_packed", "weight_zero_point"}

// scaled names, for every module that is stored quantised, a tensor that stands
// beside its weight: one of the usual ones, or any that the seal moves.
func (r *reader) scaled() map[string]string {
	if r.beside == nil {
		r.beside = map[string]string{}
		for n, w := range r.m {
			i := strings.LastIndexByte(n, '.')
			if i < 0 || n[i:] == ".weight" || n[i:] == ".bias" || !w.Moves && !slices.Contains(companions, n[i+1:]) {
				continue
			}
			r.beside[strings.TrimSuffix(n[:i], ".weight")] = n
		}
	}
	return r.beside
}

// evidence counts how weights that are not square are stored, which decides
// about those that are.
func (r *reader) evidence() error {
	for _, name := range r.names {
		m := r.modules[name]
		a, b := m.has[partA], m.has[partB]
		if m.depth > 0 || len(a.Shape) != 2 || len(b.Shape) != 2 || a.Shape[1] == b.Shape[0] {
			continue
		}
		of, err := r.find(m.path + ".weight")
		if err != nil || of == "" {
			continue // told when the module is joined
		}
		switch shape := r.m[of].Shape; {
		case slices.Equal(shape, []int{b.Shape[0], a.Shape[1]}):
			r.conv--
		case slices.Equal(shape, []int{a.Shape[1], b.Shape[0]}):
			r.conv++
		}
	}
	return nil
}

// join makes the pieces of one module.
func (r *reader) join(m *module) error {
	has := func(part string) bool { _, ok := m.has[part]; return ok }
	switch {
	case has(gain):
		return r.gain(m)
	case has(tokenDelta):
		return r.tokens(m)
	case has(embedA) && has(embedB):
		return r.embedding(m)
	case has(partA) && has(partB):
		if r.isParameter(m) {
			return r.parameter(m)
		}
		return r.linear(m)
	}
	return fault.New(fault.Mismatch, "the adapter of %s is incomplete: it has only one of the two matrices", m.path).WithHint(saveAgain)
}

// rank checks the ranks of an update's two matrices, a of (rank, in), b of
// (out, rank), and returns in and out.
func (r *reader) rank(m *module, a, b Tensor) (in, out int, err error) {
	if len(a.Shape) != 2 || len(b.Shape) != 2 {
		return 0, 0, fault.New(fault.Unsupported, "adapter tensors %s and %s have shapes %v and %v; only matrices are converted", a.Name, b.Name, a.Shape, b.Shape)
	}
	n := a.Shape[0]
	if n != b.Shape[1] {
		return 0, 0, fault.New(fault.Mismatch, "the adapter of %s has rank %d on one side and %d on the other", m.path, n, b.Shape[1]).WithHint(saveAgain)
	}
	return a.Shape[1], b.Shape[0], nil
}

// declared checks a rank against the config.
func (r *reader) declared(m *module, n int) error {
	if r.c.Rank == 0 || n == r.c.Rank || slices.Contains(r.c.Ranks, n) {
		return nil
	}
	return fault.New(fault.Mismatch, "the adapter of %s has rank %d, and %s says %d", m.path, n, ConfigName, r.c.Rank).
		WithHint("config and weights are of two adapters: put together what was saved together")
}

// otherModel is what to look at when shapes differ.
const otherModel = "the adapter was not trained on this model: name the one that it belongs to"

// mismatch says that an update does not fit its weight.
func mismatch(m *module, of string, shape []int, in, out int) error {
	return fault.New(fault.Mismatch, "the adapter of %s maps %d inputs to %d outputs; tensor %s of the sealed model has shape %v", m.path, in, out, of, shape).
		WithHint(otherModel)
}

// axes returns which axes of a matrix are its outputs and its inputs.
func (r *reader) axes(m *module, of string, shape []int, in, out int) (o, i int, err error) {
	switch {
	case shape == nil:
		return 0, 1, nil // nothing of it moves
	case len(shape) != 2:
		return 0, 0, fault.New(fault.Unsupported, "%s has shape %v; only updates of matrices are converted", of, shape)
	case in == out && shape[0] == in && shape[1] == in:
		if r.c.FanInFanOut && r.conv < 0 || !r.c.FanInFanOut && r.conv > 0 {
			return 0, 0, fault.New(fault.Unsupported, "%s is square, and whether it is stored as (out, in) is not certain: %s says fan_in_fan_out is %v, and other weights tell otherwise", of, ConfigName, r.c.FanInFanOut)
		}
		if r.c.FanInFanOut {
			return 1, 0, nil
		}
		return 0, 1, nil
	case shape[0] == out && shape[1] == in:
		return 0, 1, nil
	case shape[0] == in && shape[1] == out:
		return 1, 0, nil
	}
	return 0, 0, mismatch(m, of, shape, in, out)
}

// linear takes a LoRA on a linear map: a of (rank, in), b of (out, rank).
func (r *reader) linear(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	a, b := m.has[partA], m.has[partB]
	in, out, err := r.rank(m, a, b)
	if err == nil {
		err = r.declared(m, a.Shape[0])
	}
	if err != nil {
		return err
	}
	o, i, err := r.axes(m, of, shape, in, out)
	if err != nil {
		return err
	}
	return r.update(m, of, a, b, o, i)
}

// update lists the pieces of an update whose output runs along axis o of the
// weight, and whose input along i.
func (r *reader) update(m *module, of string, a, b Tensor, o, i int) error {
	left, right := []int{o, -1}, []int{-1, i}
	r.add(Piece{Name: b.Name, Of: of, Shape: b.Shape, Follows: left, Partner: right, Role: Output})
	r.add(Piece{Name: a.Name, Of: of, Shape: a.Shape, Follows: right, Partner: left, Role: Input})
	if v, ok := m.has[biasB]; ok {
		if len(v.Shape) != 1 || v.Shape[0] != b.Shape[0] {
			return fault.New(fault.Mismatch, "adapter tensor %s has shape %v", v.Name, v.Shape).WithHint(saveAgain)
		}
		r.add(Piece{Name: v.Name, Of: of, Shape: v.Shape, Follows: []int{o}, Partner: right, Role: Output})
	}
	return r.magnitudes(m, of, b.Shape[0], o)
}

// magnitudes takes DoRA's vector.
func (r *reader) magnitudes(m *module, of string, out, o int) error {
	v, ok := m.has[magnitude]
	switch {
	case ok != r.c.DoRA:
		return fault.New(fault.Mismatch, "the adapter of %s has a magnitude vector: %v; %s says use_dora is %v", m.path, ok, ConfigName, r.c.DoRA).
			WithHint("config and weights are of two adapters: put together what was saved together")
	case !ok:
		return nil
	case len(v.Shape) != 1 || v.Shape[0] != out:
		return fault.New(fault.Mismatch, "adapter tensor %s has shape %v; the module has %d outputs", v.Name, v.Shape, out).WithHint(saveAgain)
	}
	r.add(Piece{Name: v.Name, Of: of, Shape: v.Shape, Follows: []int{o}, Role: Magnitude})
	return nil
}

func (r *reader) add(p Piece) {
	p.Slot = p.Name[max(strings.LastIndex(p.Name, ".lora_"), strings.LastIndex(p.Name, ".ia3_"), 0):]
	r.out = append(r.out, p)
}

// embedding takes a LoRA on an embedding of (tokens, width): a of (rank,
// tokens), b of (width, rank).
func (r *reader) embedding(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	a, b := m.has[embedA], m.has[embedB]
	tokens, width, err := r.rank(m, a, b)
	if err == nil {
		err = r.declared(m, a.Shape[0])
	}
	if err != nil {
		return err
	}
	if shape != nil && !slices.Equal(shape, []int{tokens, width}) {
		return mismatch(m, of, shape, tokens, width)
	}
	if _, ok := m.has[magnitude]; ok || r.c.DoRA {
		return fault.New(fault.Unsupported, "the adapter of %s is a DoRA on an embedding, which is not converted", m.path)
	}
	return r.update(m, of, a, b, 1, 0)
}

// tokens takes new rows of an embedding.
func (r *reader) tokens(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	t := m.has[tokenDelta]
	if len(t.Shape) != 2 || shape != nil && (len(shape) != 2 || shape[1] != t.Shape[1]) {
		return fault.New(fault.Mismatch, "adapter tensor %s has shape %v; tensor %s of the sealed model has %v", t.Name, t.Shape, of, shape).WithHint(otherModel)
	}
	r.add(Piece{Name: t.Name, Of: of, Shape: t.Shape, Follows: []int{-1, 1}, Role: Full})
	return nil
}

// gain takes a vector of IA3: l ⊙ (R·y) = R·(l ⊙ y), so that no factor touches
// it, on outputs or on inputs; it only follows channels that change places.
func (r *reader) gain(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	t := m.has[gain]
	wrong := fault.New(fault.Mismatch, "adapter tensor %s has shape %v; tensor %s of the sealed model has %v", t.Name, t.Shape, of, shape).WithHint(otherModel)
	if r.c.Type != IA3 || len(t.Shape) != 2 || t.Shape[0] != 1 && t.Shape[1] != 1 {
		return wrong
	}
	// (out, 1) on outputs, (1, in) on the inputs of feed-forward modules.
	along, axis := 0, 0
	if t.Shape[0] == 1 && t.Shape[1] > 1 {
		along, axis = 1, 1
	}
	if shape != nil {
		if len(shape) != 2 {
			return wrong
		}
		if r.c.FanInFanOut {
			axis = 1 - axis
		}
		if shape[axis] != t.Shape[along] {
			return wrong
		}
	}
	follows := []int{-1, -1}
	follows[along] = axis
	r.add(Piece{Name: t.Name, Of: of, Shape: t.Shape, Follows: follows, Role: Gain})
	return nil
}

// isParameter reports whether a module's update is of a parameter that PEFT
// finds by target_parameters.
func (r *reader) isParameter(m *module) bool {
	if len(r.c.Parameters) == 0 {
		return false
	}
	return slices.ContainsFunc(r.c.Parameters, func(p string) bool {
		i := strings.LastIndexByte(p, '.')
		return i < 0 && m.depth > 0 || i >= 0 && (m.path == p[:i] || strings.HasSuffix(m.path, "."+p[:i]))
	})
}
