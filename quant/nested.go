package quant

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

// Nested is a checkpoint of bitsandbytes with double quantisation: the scales of
// its four-bit weights are codes of eight bits themselves, times a scale for
// every 256 of them, plus an offset that all of them share, which no factor
// passes. It shows the checkpoint with the plain F32 scales that bitsandbytes
// computes from them when it loads the model. It is immutable.
type Nested struct {
	ck     *checkpoint.Checkpoint
	scales map[string]*nestedScales // by the name of the tensor that holds their codes
	states map[string][]byte        // content of quant_state tensors, by name
	gone   map[string]bool          // tensors that plain scales do without
	files  *view
}

// nestedScales are the quantised scales of one weight.
type nestedScales struct {
	codes  checkpoint.Tensor // U8, one for each block of the weight
	table  [256]float32
	order  [256]byte // codes by their number in the table
	max    []float32 // scale of each block of codes
	block  int       // of codes
	offset float32
}

// maxNested bounds what is kept in memory of one weight's second scales, in
// bytes: those of a weight of 2^37 numbers.
const maxNested = 32 << 20

// OpenNested recognises double quantisation in a checkpoint that lies in a
// folder; nil if there is none. A checkpoint that is opened from its Files closes
// ck when it is closed.
func OpenNested(ck *checkpoint.Checkpoint) (*Nested, error) {
	n := &Nested{ck: ck, scales: map[string]*nestedScales{}, states: map[string][]byte{}, gone: map[string]bool{}}
	t := &tensors{ck: ck, set: &Set{owned: map[string]bool{}}}
	for _, x := range ck.Tensors() {
		name, _, ok := strings.Cut(x.Name, stateMark)
		if _, nested := ck.Tensor(name + ".nested_absmax"); !ok || !nested {
			continue
		}
		if err := n.add(t, x, name); err != nil {
			return nil, fault.Wrap(fault.Unsupported, err, "%s: double quantisation", name)
		}
	}
	if len(n.scales) == 0 {
		return nil, nil
	}
	return n, n.build()
}

// add reads the second level of one weight's scales.
func (n *Nested) add(t *tensors, state checkpoint.Tensor, name string) error {
	codes, ok1 := t.ck.Tensor(name + ".absmax")
	second, ok2 := t.ck.Tensor(name + ".nested_absmax")
	levels, ok3 := t.ck.Tensor(name + ".nested_quant_map")
	if !ok1 || !ok2 || !ok3 || codes.DType != dtype.U8 || second.DType != dtype.F32 || levels.DType != dtype.F32 {
		return fmt.Errorf("absmax, nested_absmax or nested_quant_map are missing or of another type")
	}
	var raw [3][]byte
	for i, x := range []checkpoint.Tensor{state, second, levels} {
		var err error
		if raw[i], err = t.bytes(x, maxNested); err != nil {
			return err
		}
	}
	s, plain, err := secondLevel(raw[0], raw[1], raw[2], codes.Size)
	if err != nil {
		return err
	}
	s.codes = codes
	n.scales[codes.Name], n.states[state.Name] = s, plain
	n.gone[second.Name], n.gone[levels.Name] = true, true
	return nil
}

// secondLevel reads the tensors quant_state, nested_absmax and nested_quant_map
// of a weight with so many scales. It also returns the quant_state that goes with
// plain scales.
func secondLevel(state, second, levels []byte, count int64) (*nestedScales, []byte, error) {
	var q quantState
	dec := json.NewDecoder(bytes.NewReader(state))
	dec.DisallowUnknownFields() // what is not known could not be taken over
	if err := dec.Decode(&q); err != nil {
		return nil, nil, fmt.Errorf("quant_state: %w", err)
	}
	if q.Nested < 1 || q.Offset == nil || q.NestedD != "float32" {
		return nil, nil, fmt.Errorf("quant_state: blocks of %d, dtype %q", q.Nested, q.NestedD)
	}
	s := &nestedScales{block: q.Nested, offset: float32(*q.Offset), max: make([]float32, len(second)/4)}
	if int64(len(s.max)) != (count+int64(q.Nested)-1)/int64(q.Nested) || len(levels) != 4*len(s.table) {
		return nil, nil, fmt.Errorf("%d scales in %d blocks of %d, table of %d bytes", count, len(s.max), q.Nested, len(levels))
	}
	dtype.ToFloat32(dtype.F32, s.max, second)
	dtype.ToFloat32(dtype.F32, s.table[:], levels)
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	for i := range s.order {
		s.order[i] = byte(i)
	}
	slices.SortStableFunc(s.order[:], func(a, b byte) int { return cmp.Compare(s.table[a], s.table[b]) })
	plain, err := plainState(q)
	return s, plain, err
}

// check refuses numbers that no quantiser writes and among which codes could not
// be found again.
func (s *nestedScales) check() error {
	finite := func(x float32) bool { return !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0) }
	bad := !finite(s.offset)
	for _, x := range s.table {
		bad = bad || !finite(x)
	}
	for _, x := range s.max {
		bad = bad || !finite(x) || x < 0
	}
	if bad {
		return fmt.Errorf("scales that are negative, infinite or not a number")
	}
	return nil
}

// plainState writes a quant_state as bitsandbytes does without nested scales.
func plainState(q quantState) ([]byte, error) {
	dims := make([]string, len(q.Shape))
	for i, d := range q.Shape {
		dims[i] = fmt.Sprint(d)
	}
	if q.Type != "nf4" && q.Type != "fp4" || strings.ContainsAny(q.DType, "\"\\\n") {
		return nil, fmt.Errorf("quant_type %q of dtype %q", q.Type, q.DType)
	}
	return fmt.Appendf(nil, `{"quant_type": "%s", "blocksize": %d, "dtype": "%s", "shape": [%s]}`, q.Type, q.Block, q.DType, strings.Join(dims, ", ")), nil
}

// value is the scale that a code of a block stands for, rounded as in
// bitsandbytes: the product first.
func (s *nestedScales) value(code byte, block int) float32 {
	return float32(s.table[code]*s.max[block]) + s.offset
}

// code finds the code of a scale: of several that stand for the same number, the
// first in the table's order. ok is false where there is none.
func (s *nestedScales) code(x float32, block int) (c byte, ok bool) {
	i, _ := slices.BinarySearchFunc(s.order[:], x, func(c byte, x float32) int { return cmp.Compare(s.value(c, block), x) })
	if i == len(s.order) {
		return 0, false
	}
	c = s.order[i]
	return c, math.Float32bits(s.value(c, block)) == math.Float32bits(x)
}

// expanded is the piece of plain F32 scales that stand in place of the codes.
func (n *Nested) expanded(s *nestedScales) piece {
	return piece{4 * s.codes.Size, func(p []byte, off int64) error {
		first, last := off/4, (off+int64(len(p))+3)/4
		codes := make([]byte, last-first)
		if err := n.ck.ReadAt(s.codes, codes, first); err != nil {
			return err
		}
		numbers := make([]float32, len(codes))
		for i, c := range codes {
			numbers[i] = s.value(c, int(first+int64(i))/s.block)
		}
		raw := make([]byte, 4*len(numbers))
		dtype.FromFloat32(dtype.F32, raw, numbers)
		copy(p, raw[off-4*first:])
		return nil
	}}
}

// build lays out the files with plain scales.
func (n *Nested) build() error {
	n.files = &view{files: map[string][]piece{}, ck: n.ck}
	for _, s := range n.ck.Shards() {
		infos := make([]safetensors.TensorInfo, 0, len(s.Header.Tensors))
		for _, t := range s.Header.Tensors {
			switch {
			case n.gone[t.Name]:
				continue
			case n.scales[t.Name] != nil:
				t.DType = dtype.F32
			case n.states[t.Name] != nil:
				t.Shape = []int{len(n.states[t.Name])}
			}
			infos = append(infos, t)
		}
		h, err := safetensors.NewHeader(s.Header.Metadata, infos)
		if err != nil {
			return err
		}
		n.files.files[s.Path] = shard(h, func(t safetensors.TensorInfo) piece {
			if x := n.scales[t.Name]; x != nil {
				return n.expanded(x)
			}
			if text := n.states[t.Name]; text != nil {
				return bytesPiece(text)
			}
			x, _ := n.ck.Tensor(t.Name)
			return tensorPiece(n.ck, x)
		})
	}
	for _, f := range n.ck.OtherFiles() {
		n.files.files[f.Path] = copied(n.ck, f)
	}
	return n.index()
}

const indexName = "model.safetensors.index.json"

// index takes the tensors that are gone out of the index, where there is one.
func (n *Nested) index() error {
	if n.files.files[indexName] == nil {
		return nil
	}
	text, err := n.ck.ReadFile(indexName, safetensors.MaxHeader)
	if err != nil {
		return err
	}
	var x struct {
		Metadata map[string]json.RawMessage `json:"metadata"`
		Map      map[string]string          `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &x); err != nil {
		return fault.Wrap(fault.Mismatch, err, "%s", indexName)
	}
	for name := range n.gone {
		delete(x.Map, name)
	}
	if _, ok := x.Metadata["total_size"]; ok {
		var total int64
		for _, s := range n.ck.Shards() {
			total += size(n.files.files[s.Path][1:])
		}
		x.Metadata["total_size"] = json.RawMessage(fmt.Sprint(total))
	}
	out, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	n.files.files[indexName] = []piece{bytesPiece(append(out, '\n'))}
	return nil
}

// Files returns the folder with plain scales, for checkpoint.OpenFS, once.
func (n *Nested) Files() fs.FS { return n.files }

// Original returns the checkpoint as it stands on the disk.
func (n *Nested) Original() *checkpoint.Checkpoint { return n.ck }

// Growth is by how many bytes the checkpoint grows with plain scales, and how
// many Kept has at least: more only where several codes stand for one number.
func (n *Nested) Growth() (scales, kept int64) {
	for _, pieces := range n.files.files {
		scales += size(pieces)
	}
	for _, t := range n.ck.Tensors() {
		if n.gone[t.Name] || n.states[t.Name] != nil {
			kept += t.Size
		}
	}
	for _, s := range n.ck.Shards() {
		kept += int64(len(s.Header.Raw))
	}
	return scales - n.ck.TotalBytes(), kept
}
