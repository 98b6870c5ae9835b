package quant

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

// What plain scales do not tell of the original is kept as a safetensors file:
// headers and the index as they were, the tensors of the second level, and the
// codes that are not the first to stand for their number, with their places.
// All other codes are found again from the scales.
const (
	keptFile   = "file/"   // then the path; of a shard, the header
	keptSize   = "size/"   // then the path of a shard: 8 bytes
	keptTensor = "tensor/" // then the name
	keptPlace  = "place/"  // then the name: 8 bytes each
	keptCode   = "code/"   // then the name: a byte each
)

// MaxKept bounds what Kept returns and Renest reads, in bytes.
const MaxKept = 1 << 30

// Kept returns what Renest needs besides the plain scales: about as much as the
// scales of the second level.
func (n *Nested) Kept() ([]byte, error) {
	var out []safetensors.Tensor
	keep := func(name string, data []byte) {
		info := safetensors.TensorInfo{Name: name, DType: dtype.U8, Shape: []int{len(data)}}
		out = append(out, safetensors.Tensor{TensorInfo: info, Data: data})
	}
	for _, s := range n.ck.Shards() {
		keep(keptFile+s.Path, s.Header.Raw)
		keep(keptSize+s.Path, binary.LittleEndian.AppendUint64(nil, uint64(s.Size)))
	}
	if n.files.files[indexName] != nil {
		text, err := n.ck.ReadFile(indexName, safetensors.MaxHeader)
		if err != nil {
			return nil, err
		}
		keep(keptFile+indexName, text)
	}
	t := &tensors{ck: n.ck}
	for _, x := range n.ck.Tensors() {
		if n.gone[x.Name] || n.states[x.Name] != nil {
			data, err := t.bytes(x, maxNested)
			if err != nil {
				return nil, err
			}
			keep(keptTensor+x.Name, data)
		}
		if s := n.scales[x.Name]; s != nil {
			places, codes, err := n.ambiguous(s)
			if err != nil {
				return nil, err
			}
			keep(keptPlace+x.Name, places)
			keep(keptCode+x.Name, codes)
		}
	}
	var b bytes.Buffer
	err := safetensors.Write(&b, nil, out)
	if err == nil && b.Len() > MaxKept {
		err = fault.New(fault.Unsupported, "the scales of the second level have %d bytes; at most %d are kept", b.Len(), MaxKept)
	}
	return b.Bytes(), err
}

// ambiguous lists the codes that their number does not tell.
func (n *Nested) ambiguous(s *nestedScales) (places, codes []byte, err error) {
	buf := make([]byte, 1<<20)
	for off := int64(0); off < s.codes.Size; {
		p := buf[:min(int64(len(buf)), s.codes.Size-off)]
		if err := n.ck.ReadAt(s.codes, p, off); err != nil {
			return nil, nil, err
		}
		for i, c := range p {
			at := off + int64(i)
			block := int(at) / s.block
			if found, ok := s.code(s.value(c, block), block); !ok || found != c {
				places = binary.LittleEndian.AppendUint64(places, uint64(at))
				codes = append(codes, c)
			}
		}
		off += int64(len(p))
	}
	return places, codes, nil
}

// renester puts the original's files together.
type renester struct {
	ck    *checkpoint.Checkpoint // with plain scales
	plain func(t checkpoint.Tensor, p []byte, off int64) error
	kept  map[string][]byte
}

// Renest returns the original's files, given the checkpoint with plain scales
// and what Kept has kept. plain reads scales, as they were before factors moved
// them; all other tensors come from ck as they are. scales says which tensors of
// the original are codes of scales. Scales that are none of the original's give
// fault.Mismatch when they are read.
func Renest(ck *checkpoint.Checkpoint, kept []byte, plain func(t checkpoint.Tensor, p []byte, off int64) error) (files fs.FS, scales map[string]bool, err error) {
	r := &renester{ck: ck, plain: plain, kept: map[string][]byte{}}
	h, err := safetensors.Parse(bytes.NewReader(kept), int64(len(kept)))
	if err != nil {
		return nil, nil, fault.Wrap(fault.Mismatch, err, "scales of the second level")
	}
	for _, t := range h.Tensors {
		r.kept[t.Name] = kept[h.DataStart+t.Begin : h.DataStart+t.End]
	}
	v := &view{files: map[string][]piece{}}
	scales = map[string]bool{}
	for _, s := range ck.Shards() {
		pieces, err := r.shard(s.Path, scales)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Mismatch, err, "%s", s.Path)
		}
		v.files[s.Path] = pieces
	}
	for _, f := range ck.OtherFiles() {
		v.files[f.Path] = copied(ck, f)
	}
	if text, ok := r.kept[keptFile+indexName]; ok {
		v.files[indexName] = []piece{bytesPiece(text)}
	}
	return v, scales, nil
}

// shard puts one of the original's shards together.
func (r *renester) shard(path string, scales map[string]bool) ([]piece, error) {
	raw, length := r.kept[keptFile+path], r.kept[keptSize+path]
	if len(length) != 8 {
		return nil, fault.New(fault.Mismatch, "its header was not kept")
	}
	h, err := safetensors.Parse(bytes.NewReader(raw), int64(binary.LittleEndian.Uint64(length)))
	if err != nil {
		return nil, err
	}
	var bad error
	pieces := shard(h, func(t safetensors.TensorInfo) piece {
		p, err := r.tensor(t, scales)
		if err == nil && p.size != t.Size() {
			err = fault.New(fault.Mismatch, "tensor %s has %d bytes, the original's has %d", t.Name, p.size, t.Size())
		}
		if bad == nil {
			bad = err
		}
		return p
	})
	return pieces, bad
}

func (r *renester) tensor(t safetensors.TensorInfo, scales map[string]bool) (piece, error) {
	if data, ok := r.kept[keptTensor+t.Name]; ok {
		return bytesPiece(data), nil
	}
	x, ok := r.ck.Tensor(t.Name)
	if !ok {
		return piece{}, fault.New(fault.Mismatch, "tensor %s is missing", t.Name)
	}
	if _, ok := r.kept[keptPlace+t.Name]; !ok {
		return tensorPiece(r.ck, x), nil
	}
	if x.DType != dtype.F32 {
		return piece{}, fault.New(fault.Mismatch, "scales %s are %v, expected F32", t.Name, x.DType)
	}
	s, err := r.second(x)
	if err != nil {
		return piece{}, err
	}
	scales[t.Name] = true
	return r.codes(x, s)
}

// second reads the second level of scales from what was kept.
func (r *renester) second(x checkpoint.Tensor) (*nestedScales, error) {
	name := strings.TrimSuffix(x.Name, ".absmax")
	for _, kind := range []string{"nf4", "fp4"} {
		if state, ok := r.kept[keptTensor+name+stateMark+kind]; ok {
			s, _, err := secondLevel(state, r.kept[keptTensor+name+".nested_absmax"], r.kept[keptTensor+name+".nested_quant_map"], x.Elements())
			return s, err
		}
	}
	return nil, fault.New(fault.Mismatch, "the state of %s was not kept", name)
}

// codes is the piece of a scale tensor's codes.
func (r *renester) codes(x checkpoint.Tensor, s *nestedScales) (piece, error) {
	places, codes := r.kept[keptPlace+x.Name], r.kept[keptCode+x.Name]
	if len(places) != 8*len(codes) {
		return piece{}, fault.New(fault.Mismatch, "%d bytes of places for %d codes of %s", len(places), len(codes), x.Name)
	}
	odd := make(map[int64]byte, len(codes))
	for i, c := range codes {
		odd[int64(binary.LittleEndian.Uint64(places[8*i:]))] = c
	}
	return piece{x.Elements(), func(p []byte, off int64) error {
		raw := make([]byte, 4*len(p))
		if err := r.plain(x, raw, 4*off); err != nil {
			return err
		}
		numbers := make([]float32, len(p))
		dtype.ToFloat32(dtype.F32, numbers, raw)
		for i, v := range numbers {
			at := off + int64(i)
			c, ok := odd[at]
			if !ok {
				c, ok = s.code(v, int(at)/s.block)
			}
			if !ok {
				return fault.New(fault.Mismatch, "scale %d of %s is %g, which is none of the original's", at, x.Name, v)
			}
			p[i] = c
		}
		return nil
	}}, nil
}
