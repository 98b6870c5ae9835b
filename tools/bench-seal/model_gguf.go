package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/gguf"
)

// The shape of the model in GGUF: a Llama of about eight billion parameters as
// llama.cpp quantises it to Q4_K_M, with as many layers as the size asks for.
const (
	ggufHidden, ggufFFN, ggufVocab = 4096, 14336, 32000
	ggufHeads, ggufKV, ggufDim     = 32, 8, 128
)

// ggufTensor is one tensor of the model.
type ggufTensor struct {
	name string
	typ  gguf.Type
	dims []uint64
}

func (t ggufTensor) size() int64 {
	n, _ := t.typ.Size(t.dims)
	return n
}

// ggufLayer lists the tensors of a layer. llama.cpp gives values and down
// projections six bits in about half of the layers.
func ggufLayer(i, layers int) []ggufTensor {
	wide := gguf.Q4_K
	if i < layers/8 || i >= 7*layers/8 || i%3 == 2 {
		wide = gguf.Q6_K
	}
	at := fmt.Sprintf("blk.%d.", i)
	return []ggufTensor{
		{at + "attn_norm.weight", gguf.F32, []uint64{ggufHidden}},
		{at + "attn_q.weight", gguf.Q4_K, []uint64{ggufHidden, ggufHeads * ggufDim}},
		{at + "attn_k.weight", gguf.Q4_K, []uint64{ggufHidden, ggufKV * ggufDim}},
		{at + "attn_v.weight", wide, []uint64{ggufHidden, ggufKV * ggufDim}},
		{at + "attn_output.weight", gguf.Q4_K, []uint64{ggufHeads * ggufDim, ggufHidden}},
		{at + "ffn_norm.weight", gguf.F32, []uint64{ggufHidden}},
		{at + "ffn_gate.weight", gguf.Q4_K, []uint64{ggufHidden, ggufFFN}},
		{at + "ffn_up.weight", gguf.Q4_K, []uint64{ggufHidden, ggufFFN}},
		{at + "ffn_down.weight", wide, []uint64{ggufFFN, ggufHidden}},
	}
}

// ggufTensors lists all tensors of a model of so many layers.
func ggufTensors(layers int) []ggufTensor {
	all := []ggufTensor{{"token_embd.weight", gguf.Q4_K, []uint64{ggufHidden, ggufVocab}}}
	for i := range layers {
		all = append(all, ggufLayer(i, layers)...)
	}
	return append(all, ggufTensor{"output_norm.weight", gguf.F32, []uint64{ggufHidden}},
		ggufTensor{"output.weight", gguf.Q6_K, []uint64{ggufHidden, ggufVocab}})
}

func ggufSize(layers int) (n int64) {
	for _, t := range ggufTensors(layers) {
		n += t.size()
	}
	return n
}

// makeGGUF writes dir/model.gguf of about gb·10^9 bytes. Its weights are random,
// and the same in every run.
func makeGGUF(dir string, gb float64) (err error) {
	layer := float64(ggufSize(9)-ggufSize(1)) / 8
	layers := max(1, int(math.Round((gb*1e9-float64(ggufSize(0)))/layer)))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.gguf"))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	tensors := ggufTensors(layers)
	head := ggufHeader(tensors, layers)
	if _, err := w.Write(head); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(20, 1))
	for _, t := range tensors {
		if err := writeBlocks(w, random, t); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// ggufHeader encodes metadata and tensor table, padded to the alignment. Every
// tensor's size is a multiple of it.
func ggufHeader(tensors []ggufTensor, layers int) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	numbers := []struct {
		key   string
		value uint32
	}{
		{"block_count", uint32(layers)}, {"context_length", 4096}, {"embedding_length", ggufHidden}, {"feed_forward_length", ggufFFN},
		{"attention.head_count", ggufHeads}, {"attention.head_count_kv", ggufKV}, {"vocab_size", ggufVocab},
	}
	b := le.AppendUint32(nil, gguf.Magic)
	b = le.AppendUint32(b, 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(numbers)+2))
	b = text(le.AppendUint32(text(b, "general.architecture"), uint32(gguf.String)), "llama")
	for _, n := range numbers {
		b = le.AppendUint32(le.AppendUint32(text(b, "llama."+n.key), uint32(gguf.Uint32)), n.value)
	}
	b = le.AppendUint32(text(b, "llama.attention.layer_norm_rms_epsilon"), uint32(gguf.Float32))
	b = le.AppendUint32(b, math.Float32bits(1e-5))
	var at int64
	for _, t := range tensors {
		b = le.AppendUint32(text(b, t.name), uint32(len(t.dims)))
		for _, d := range t.dims {
			b = le.AppendUint64(b, d)
		}
		b = le.AppendUint64(le.AppendUint32(b, uint32(t.typ)), uint64(at))
		at += t.size()
	}
	return append(b, make([]byte, (gguf.DefaultAlignment-len(b)%gguf.DefaultAlignment)%gguf.DefaultAlignment)...)
}

// writeBlocks writes a tensor of random codes with scales of ordinary size.
func writeBlocks(w io.Writer, random *rand.Rand, t ggufTensor) error {
	le := binary.LittleEndian
	_, size := t.typ.Block()
	buf := make([]byte, 4096*size)
	for left := t.size(); left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		for i := 0; i+8 <= len(b); i += 8 {
			le.PutUint64(b[i:], random.Uint64())
		}
		for at := 0; at < len(b); at += size {
			x, fraction := b[at:], uint16(random.Uint32()&1023)
			switch t.typ {
			case gguf.F32:
				le.PutUint32(x, math.Float32bits(1+float32(fraction)/4096))
			case gguf.Q4_K: // d and dmin, about 2^-14 and 2^-11
				le.PutUint16(x, 1<<10|fraction)
				le.PutUint16(x[2:], 4<<10|fraction)
			case gguf.Q6_K: // d, about 2^-16, which is subnormal, as is usual
				le.PutUint16(x[208:], 256|fraction>>2)
			}
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	return nil
}
