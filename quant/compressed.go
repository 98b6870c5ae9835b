package quant

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// scheme says how compressed-tensors quantises weights or activations.
type scheme struct {
	Bits     int             `json:"num_bits"`
	Type     string          `json:"type"`
	Strategy string          `json:"strategy"`
	Group    *int            `json:"group_size"`
	Block    json.RawMessage `json:"block_structure"`
	Dynamic  any             `json:"dynamic"` // false, true, or "local"
}

type schemeGroup struct {
	Targets []string `json:"targets"`
	Weights *scheme  `json:"weights"`
	Input   *scheme  `json:"input_activations"`
	Output  *scheme  `json:"output_activations"`
	Format  string   `json:"format"`
}

type compressedConfig struct {
	Groups    map[string]schemeGroup `json:"config_groups"`
	Format    string                 `json:"format"`
	Cache     json.RawMessage        `json:"kv_cache_scheme"`
	Sparsity  map[string]any         `json:"sparsity_config"`
	Transform map[string]any         `json:"transform_config"`
}

// activations is what a runtime does to what a weight is multiplied by.
type activations struct {
	still bool // by a stored scale
	block int  // by a scale found for so many columns; 0: not at all; -1: for all
}

// compressed reads compressed-tensors: integers packed or not, FP8, NVFP4.
func compressed(t *tensors, raw json.RawMessage) error {
	var c compressedConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	if s := string(c.Cache); s != "" && s != "null" {
		return fmt.Errorf("kv_cache_scheme: a quantised cache cannot follow factors")
	}
	if f, _ := c.Sparsity["format"].(string); f != "" && f != "dense" {
		return fmt.Errorf("sparsity format %q", f)
	}
	if g, _ := c.Transform["config_groups"].(map[string]any); len(g) > 0 {
		return fmt.Errorf("transform_config: activations are rotated at run time")
	}
	// Which module is in which group is a matter of patterns; what any of them
	// does to activations is held to be done to all.
	var act activations
	var blocks [][2]int
	for name, g := range c.Groups {
		if g.Output != nil {
			return fmt.Errorf("%s: output_activations", name)
		}
		if g.Weights == nil || g.Weights.Type != "int" && g.Weights.Type != "float" {
			return fmt.Errorf("%s: weights of an unknown type", name)
		}
		act = act.meet(g.Input)
		b, err := g.Weights.block()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		blocks = append(blocks, b)
	}
	for _, base := range t.bases(".weight_scale") {
		var err error
		if _, ok := t.ck.Tensor(base + ".weight_global_scale"); ok {
			err = t.nvfp4(base, base+".weight_packed", base+".weight_global_scale", true, base+".input_global_scale", act)
		} else {
			err = t.scaled(base, base+".weight_scale", c.bits(), blocks, act)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return t.some()
}

// block returns how many rows and columns share a scale, 0 where the shape of
// the scales says it: one for all, or one for each.
func (s *scheme) block() (b [2]int, err error) {
	if s.Group != nil && *s.Group > 0 {
		b[1] = *s.Group
	}
	if raw := string(s.Block); raw != "" && raw != "null" {
		if json.Unmarshal(s.Block, &b) != nil || b[0] < 1 || b[1] < 1 {
			return b, fmt.Errorf("block_structure %s", raw)
		}
	}
	return b, nil
}

// bits lists the widths of packed integers that the groups have.
func (c *compressedConfig) bits() []int {
	var out []int
	for _, g := range c.Groups {
		if g.Weights.Type == "int" && !slices.Contains(out, g.Weights.Bits) {
			out = append(out, g.Weights.Bits)
		}
	}
	return out
}

// meet adds what a group does to activations.
func (a activations) meet(s *scheme) activations {
	if s == nil {
		return a
	}
	if dynamic, _ := s.Dynamic.(bool); !dynamic {
		a.still = true // a stored scale, or one for blocks under a stored one
		return a
	}
	switch {
	case s.Strategy == "group" && s.Group != nil && *s.Group > 0 && a.block >= 0:
		a.block = lcm(max(a.block, 1), *s.Group)
	default:
		a.block = -1
	}
	return a
}

func lcm(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// apply restricts a weight of [out, in] to what its activations allow.
func (a activations) apply(w *Weight) {
	in := w.Shape[1]
	w.Still = w.Still || a.still
	w.Dynamic = a.block != 0
	switch {
	case a.block < 0 || a.block > in:
		w.Parts = append(w.Parts, gauge.Partition{Axis: 1, Block: in})
	case a.block > 0:
		w.Parts = append(w.Parts, gauge.Partition{Axis: 1, Block: a.block})
	}
}

// scaled reads a weight [out, in] of integers or FP8 whose scales are [out, in/g],
// [out, 1], [out/b, in/c], [1] or [].
func (t *tensors) scaled(base, scaleName string, widths []int, blocks [][2]int, act activations) error {
	scale, _ := t.own(scaleName)
	t.own(base + ".weight_shape")
	input, static := t.own(base + ".input_scale")
	t.own(base + ".input_zero_point") // an integer: it stays whatever the scale is
	codes, packed := t.own(base + ".weight_packed")
	if !packed {
		var ok bool
		if codes, ok = t.own(base + ".weight"); !ok {
			return fmt.Errorf("no weight beside its scales")
		}
	}
	if len(codes.Shape) != 2 {
		return fmt.Errorf("weight of shape %v", codes.Shape)
	}
	r := &scaledRows{codes: codes, scale: scale, out: codes.Shape[0], in: codes.Shape[1]}
	w := &Weight{Name: base + ".weight"}
	high, low, err := r.kind(t, w, base, packed, widths)
	if err != nil {
		return err
	}
	w.Shape = []int{r.out, r.in}
	if err := r.layout(t, w, base, blocks); err != nil {
		return err
	}
	w.Scales[0].High, w.Scales[0].Low = high, low
	switch {
	case static && input.Elements() == 1 && input.DType.Scalable():
		w.Input = input.Name
		w.Parts = append(w.Parts, gauge.Partition{Axis: 1, Block: r.in})
		act = activations{}
	case static:
		act.still = true
	}
	act.apply(w)
	w.rows = r.read
	t.found = append(t.found, w)
	return nil
}

// scaledRows dequantises rows of a weight that is stored row by row.
type scaledRows struct {
	codes, scale   checkpoint.Tensor
	zeros          checkpoint.Tensor
	hasZeros       bool
	out, in        int
	width          int // bits of packed integers; 0: a byte each
	rows, parts    int // of the scales
	rowOf, partOf  int // elements that share one; groups instead of partOf
	group          []int32
	packedZeroRows bool
}

// kind finds out what the codes are, and bounds their magnitude.
func (r *scaledRows) kind(t *tensors, w *Weight, base string, packed bool, widths []int) (high, low int, err error) {
	r.zeros, r.hasZeros = t.own(base + ".weight_zero_point")
	switch {
	case packed:
		if r.codes.DType != dtype.I32 || len(widths) != 1 || widths[0] != 4 && widths[0] != 8 {
			return 0, 0, fmt.Errorf("packed integers of %v bits in %v", widths, r.codes.DType)
		}
		r.width = widths[0]
		if r.in, err = t.logicalWidth(base, r.codes, r.width); err != nil {
			return 0, 0, err
		}
		w.Format = fmt.Sprintf("compressed-tensors int%d", r.width)
		return r.width, 0, nil
	case r.codes.DType == dtype.I8:
		w.Format = "compressed-tensors int8"
		return 8, 0, nil
	case r.codes.DType == dtype.F8E4M3 && !r.hasZeros:
		w.Format = "FP8"
		return 9, -9, nil
	}
	return 0, 0, fmt.Errorf("weight of %v", r.codes.DType)
}

// logicalWidth reads weight_shape, the shape before packing.
func (t *tensors) logicalWidth(base string, codes checkpoint.Tensor, width int) (int, error) {
	shape, ok := t.ck.Tensor(base + ".weight_shape")
	if !ok || shape.Elements() != 2 || shape.DType != dtype.I64 && shape.DType != dtype.I32 {
		return 0, fmt.Errorf("weight_shape is missing or of another type")
	}
	p, err := t.bytes(shape, 16)
	if err != nil {
		return 0, err
	}
	step := shape.DType.Bits() / 32
	out, in := int(word(p, 0)), int(word(p, step))
	if out != codes.Shape[0] || (in*width+31)/32 != codes.Shape[1] {
		return 0, fmt.Errorf("weight_shape says [%d %d], the codes are %v", out, in, codes.Shape)
	}
	return in, nil
}

// layout finds out which elements share a scale.
func (r *scaledRows) layout(t *tensors, w *Weight, base string, blocks [][2]int) error {
	s := Scale{Tensor: r.scale.Name, Axis: []int{0, 1}}
	shape := r.scale.Shape
	if n := r.scale.Elements(); len(shape) < 2 {
		switch n {
		case 1:
			shape = []int{1, 1}
		case int64(r.out):
			shape = []int{r.out, 1}
		}
	}
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 1 || shape[0] > r.out || shape[1] > r.in {
		return fmt.Errorf("scales %v for a weight of [%d %d]", r.scale.Shape, r.out, r.in)
	}
	r.rows, r.parts = shape[0], shape[1]
	s.View = []int{r.rows, r.parts}
	var err error
	if r.rowOf, err = blockFor(r.out, r.rows, blocks, 0); err != nil {
		return err
	}
	if r.partOf, err = blockFor(r.in, r.parts, blocks, 1); err != nil {
		return err
	}
	if r.group, err = t.groups(base, r.in, r.parts); err != nil {
		return err
	}
	w.Parts = []gauge.Partition{{Axis: 0, Block: r.rowOf}, {Axis: 1, Block: r.partOf, Of: r.group}}
	w.Scales = []Scale{s}
	if !r.hasZeros {
		return nil
	}
	r.packedZeroRows = r.width != 0 && r.zeros.DType == dtype.I32
	want := []int{r.rows, r.parts}
	if r.packedZeroRows {
		want[0] = (r.rows*r.width + 31) / 32
	}
	if !slices.Equal(r.zeros.Shape, want) || !r.packedZeroRows && r.zeros.DType != dtype.I8 {
		return fmt.Errorf("zero points %v of %v, expected %v", r.zeros.Shape, r.zeros.DType, want)
	}
	return nil
}

// blockFor returns the length of the blocks that cut n elements of an axis into
// so many parts, the last perhaps shorter. Where it is neither one for all nor
// one for each, the config must name it.
func blockFor(n, parts int, blocks [][2]int, axis int) (int, error) {
	if parts == 1 {
		return n, nil
	}
	if parts == n {
		return 1, nil
	}
	found := 0
	for _, b := range blocks {
		if k := b[axis]; k > 0 && (n+k-1)/k == parts && k != found {
			if found != 0 {
				return 0, fmt.Errorf("%d elements in blocks of %d or %d", n, found, k)
			}
			found = k
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("%d elements in %d blocks, which the config does not explain", n, parts)
	}
	return found, nil
}

func (r *scaledRows) read(src Source, first, n int, dst []float32) error {
	stride := r.in // bytes of a row
	if r.width != 0 {
		stride = 4 * r.codes.Shape[1]
	}
	p, err := bytesOf(src, r.codes.Name, first*stride, n*stride)
	if err != nil {
		return err
	}
	for o := range n {
		row := p[o*stride : (o+1)*stride]
		line := (first + o) / r.rowOf
		s, err := floats(src, r.scale, line*r.parts, r.parts)
		if err != nil {
			return err
		}
		z, err := r.zeroRow(src, line)
		if err != nil {
			return err
		}
		out := dst[o*r.in : (o+1)*r.in]
		for i := range out {
			g := i / r.partOf
			if r.group != nil {
				g = int(r.group[i])
			}
			x := r.number(row, i)
			if z != nil {
				x -= z[g]
			}
			out[i] = x * s[g]
		}
	}
	return nil
}

// number reads one code.
func (r *scaledRows) number(row []byte, i int) float32 {
	switch {
	case r.width != 0:
		return float32(code(row, i, r.width) - 1<<(r.width-1))
	case r.codes.DType == dtype.I8:
		return float32(int8(row[i]))
	}
	return e4m3.number[row[i]]
}

// zeroRow reads the zero points of one row of scales.
func (r *scaledRows) zeroRow(src Source, line int) ([]float32, error) {
	if !r.hasZeros {
		return nil, nil
	}
	out := make([]float32, r.parts)
	if !r.packedZeroRows {
		p, err := bytesOf(src, r.zeros.Name, line*r.parts, r.parts)
		for i := range p {
			out[i] = float32(int8(p[i]))
		}
		return out, err
	}
	per := 32 / r.width // rows in a word
	p, err := bytesOf(src, r.zeros.Name, 4*(line/per)*r.parts, 4*r.parts)
	if err != nil {
		return nil, err
	}
	for i := range out {
		v := int(word(p, i)>>(line%per*r.width)) & (1<<r.width - 1)
		out[i] = float32(v - 1<<(r.width-1))
	}
	return out, nil
}
