package quant

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// gptqConfig is what decides how GPTQ's and AWQ's tensors are read.
type gptqConfig struct {
	Bits     int             `json:"bits"`
	WBits    int             `json:"w_bit"` // AWQ's older name
	Format   string          `json:"checkpoint_format"`
	Version  string          `json:"version"`
	Lead     string          `json:"meta_quantizer"`
	Dynamic  json.RawMessage `json:"dynamic"`
	ZeroFlag *bool           `json:"zero_point"`
}

// gptq reads GPTQ of two, four or eight bits, in the format of AutoGPTQ, whose
// zero points are stored less one, or in gptq_v2.
func gptq(t *tensors, raw json.RawMessage) error {
	var c gptqConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	offset := 1
	switch c.Format {
	case "", "gptq":
	case "gptq_v2":
		offset = 0
	default:
		return fmt.Errorf("checkpoint_format %q", c.Format)
	}
	if d := string(c.Dynamic); d != "" && d != "null" && d != "{}" {
		return fmt.Errorf("modules with bits of their own (dynamic)")
	}
	if c.Bits != 2 && c.Bits != 4 && c.Bits != 8 {
		return fmt.Errorf("%d bits; 2, 4 and 8 are known", c.Bits)
	}
	for _, base := range t.bases(".qweight") {
		if err := t.transposed(base, fmt.Sprintf("GPTQ int%d", c.Bits), c.Bits, offset, nil); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return t.some()
}

// awq reads AWQ's gemm layout of four bits.
func awq(t *tensors, raw json.RawMessage) error {
	var c gptqConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	if v := c.Version; v != "" && v != "gemm" && v != "GEMM" {
		return fmt.Errorf("version %q; gemm is known", v)
	}
	if b := max(c.Bits, c.WBits); b != 4 {
		return fmt.Errorf("%d bits; 4 are known", b)
	}
	for _, base := range t.bases(".qweight") {
		if err := t.transposed(base, "AWQ int4", 4, 0, awqOrder); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return t.some()
}

// awqOrder is where in a word of AWQ the code of column 8j+i stands.
var awqOrder = []int{0, 4, 1, 5, 2, 6, 3, 7}

// some demands that a weight was found.
func (t *tensors) some() error {
	if len(t.found) == 0 {
		return fmt.Errorf("no weight is quantised")
	}
	return nil
}

// transposed reads a weight whose scales are [groups, out] and whose zero points
// are packed along out. Codes are packed along in, or, where order is set, along
// out in that order.
func (t *tensors) transposed(base, format string, bitsOf, offset int, order []int) error {
	codes, _ := t.own(base + ".qweight")
	zeros, ok1 := t.own(base + ".qzeros")
	scale, ok2 := t.own(base + ".scales")
	if !ok1 || !ok2 || codes.DType != dtype.I32 || zeros.DType != dtype.I32 || len(codes.Shape) != 2 || len(zeros.Shape) != 2 || len(scale.Shape) != 2 {
		return fmt.Errorf("qweight, qzeros or scales are missing or of another type")
	}
	per := 32 / bitsOf
	groups, out := scale.Shape[0], scale.Shape[1]
	in := codes.Shape[0] * per
	if order != nil {
		in = codes.Shape[0]
	}
	w := &Weight{Name: base + ".weight", Shape: []int{out, in}, Format: format}
	wide := codes.Shape[1] == out
	if order != nil {
		wide = codes.Shape[1]*per == out
	}
	if groups < 1 || in%groups != 0 || !wide || zeros.Shape[0] != groups || zeros.Shape[1]*per != out {
		return fmt.Errorf("qweight %v, qzeros %v and scales %v do not fit together", codes.Shape, zeros.Shape, scale.Shape)
	}
	group, err := t.groups(base, in, groups)
	if err != nil {
		return err
	}
	w.Parts = []gauge.Partition{{Axis: 1, Block: in / groups, Of: group}}
	w.Scales = []Scale{{Tensor: scale.Name, View: []int{groups, out}, Axis: []int{1, 0}, High: magnitude(1<<bitsOf + offset), Half: true}}
	r := transposedRows{codes, zeros, scale, bitsOf, offset, order, group, in, out, groups}
	w.rows = r.read
	t.found = append(t.found, w)
	return nil
}

// groups reads g_idx: the group of every column where they are not in order;
// nil where they are.
func (t *tensors) groups(base string, in, groups int) ([]int32, error) {
	for _, ending := range []string{".g_idx", ".weight_g_idx"} {
		idx, ok := t.own(base + ending)
		if !ok {
			continue
		}
		if idx.DType != dtype.I32 || idx.Elements() != int64(in) {
			return nil, fmt.Errorf("g_idx is %v of %v, expected %d numbers", idx.Shape, idx.DType, in)
		}
		p, err := t.bytes(idx, 1<<28)
		if err != nil {
			return nil, err
		}
		of, straight := make([]int32, in), true
		seen := make([]bool, groups)
		for i := range of {
			of[i] = int32(word(p, i))
			if of[i] < 0 || int(of[i]) >= groups {
				return nil, fmt.Errorf("g_idx: column %d is in group %d of %d", i, of[i], groups)
			}
			seen[of[i]] = true
			straight = straight && int(of[i]) == i/(in/groups)
		}
		if straight {
			return nil, nil
		}
		if slices.Contains(seen, false) {
			return nil, fmt.Errorf("g_idx: a group has no column")
		}
		return of, nil
	}
	return nil, nil
}

// transposedRows dequantises rows of a weight that is stored by columns.
type transposedRows struct {
	codes, zeros, scale checkpoint.Tensor
	bits, offset        int
	order               []int
	group               []int32
	in, out, groups     int
}

func (r *transposedRows) read(src Source, first, n int, dst []float32) error {
	per := 32 / r.bits
	words := func(t checkpoint.Tensor, row, from, to int) ([]byte, error) { // of one stored row
		return bytesOf(src, t.Name, 4*(row*t.Shape[1]+from), 4*(to-from))
	}
	scales, zeros := make([]float32, r.groups*n), make([]float32, r.groups*n)
	zfrom, zto := first/per, (first+n+per-1)/per
	for g := range r.groups {
		s, err := floats(src, r.scale, g*r.out+first, n)
		if err != nil {
			return err
		}
		copy(scales[g*n:], s)
		p, err := words(r.zeros, g, zfrom, zto)
		if err != nil {
			return err
		}
		for o := range n {
			z := r.pick(p, first+o-zfrom*per)
			zeros[g*n+o] = float32((z + r.offset) & (1<<(r.bits+1) - 1))
		}
	}
	put := func(i, o, q int) {
		g := i / (r.in / r.groups)
		if r.group != nil {
			g = int(r.group[i])
		}
		dst[o*r.in+i] = (float32(q) - zeros[g*n+o]) * scales[g*n+o]
	}
	if r.order != nil {
		for i := range r.in {
			p, err := words(r.codes, i, zfrom, zto)
			if err != nil {
				return err
			}
			for o := range n {
				put(i, o, r.pick(p, first+o-zfrom*per))
			}
		}
		return nil
	}
	for k := range r.in / per {
		p, err := words(r.codes, k, first, first+n)
		if err != nil {
			return err
		}
		for o := range n {
			v := word(p, o)
			for j := range per {
				put(k*per+j, o, int(v>>(j*r.bits))&(1<<r.bits-1))
			}
		}
	}
	return nil
}

// pick reads the i-th code of packed words.
func (r *transposedRows) pick(p []byte, i int) int {
	per := 32 / r.bits
	at := i % per
	if r.order != nil {
		at = r.order[at]
	}
	return int(word(p, i/per)>>(at*r.bits)) & (1<<r.bits - 1)
}
