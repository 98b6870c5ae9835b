package tracetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// WriteQ4K makes a GGUF of a Llama as llama.cpp's converter and quantiser do:
// their names, rotary pairs of queries and keys side by side, matrices in Q4_K
// where their rows are whole blocks of 256 and in F16 elsewhere, vectors in F32.
func (m *Model) WriteQ4K(path string) error {
	var c struct {
		Hidden  int     `json:"hidden_size"`
		Layers  int     `json:"num_hidden_layers"`
		Heads   int     `json:"num_attention_heads"`
		KV      int     `json:"num_key_value_heads"`
		Dim     int     `json:"head_dim"`
		FFN     int     `json:"intermediate_size"`
		Context int     `json:"max_position_embeddings"`
		Eps     float64 `json:"rms_norm_eps"`
	}
	if err := json.Unmarshal(m.Config, &c); err != nil {
		return err
	}
	w := &ggufWriter{}
	w.text("general.architecture", "llama")
	for _, kv := range []struct {
		key string
		n   int
	}{
		{"block_count", c.Layers}, {"embedding_length", c.Hidden}, {"feed_forward_length", c.FFN}, {"attention.head_count", c.Heads},
		{"attention.head_count_kv", c.KV}, {"attention.key_length", c.Dim}, {"attention.value_length", c.Dim}, {"rope.dimension_count", c.Dim},
		{"context_length", c.Context},
	} {
		w.number("llama."+kv.key, uint32(kv.n))
	}
	w.float("llama.attention.layer_norm_rms_epsilon", float32(c.Eps))
	for _, t := range m.Tensors {
		name, err := ggufName(t.Name)
		if err != nil {
			return err
		}
		x := t.Data
		if strings.HasSuffix(name, "attn_q.weight") || strings.HasSuffix(name, "attn_k.weight") {
			x = sideBySide(x, t.Shape, c.Dim)
		}
		w.tensor(name, t.Shape, x)
	}
	return os.WriteFile(path, w.bytes(), 0o666)
}

// ggufName is llama.cpp's name of a Llama's tensor.
func ggufName(name string) (string, error) {
	for from, to := range map[string]string{"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"} {
		if name == from {
			return to, nil
		}
	}
	var layer int
	var rest string
	if _, err := fmt.Sscanf(name, "model.layers.%d.%s", &layer, &rest); err != nil {
		return "", fmt.Errorf("tensor %s is none of a Llama", name)
	}
	for from, to := range map[string]string{
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
		"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
	} {
		if rest == from+".weight" {
			return fmt.Sprintf("blk.%d.%s.weight", layer, to), nil
		}
	}
	return "", fmt.Errorf("tensor %s is none of a Llama", name)
}

// sideBySide moves rows i and i+dim/2 of every head to 2i and 2i+1.
func sideBySide(x []float32, shape []int, dim int) []float32 {
	width := shape[1]
	out := make([]float32, len(x))
	for r := range shape[0] {
		head, i := r/dim, r%dim
		to := head*dim + i%(dim/2)*2 + i/(dim/2)
		copy(out[to*width:(to+1)*width], x[r*width:(r+1)*width])
	}
	return out
}

// ggufWriter builds a file of version 3.
type ggufWriter struct {
	kvs, infos, data bytes.Buffer
	keys, tensors    uint64
}

func (w *ggufWriter) put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(fmt.Sprint("writing to memory: ", err))
	}
}

func (w *ggufWriter) str(b *bytes.Buffer, s string) {
	w.put(b, uint64(len(s)))
	b.WriteString(s)
}

func (w *ggufWriter) key(key string, t gguf.ValueType) {
	w.keys++
	w.str(&w.kvs, key)
	w.put(&w.kvs, uint32(t))
}

func (w *ggufWriter) text(key, v string) {
	w.key(key, gguf.String)
	w.str(&w.kvs, v)
}

func (w *ggufWriter) number(key string, v uint32) {
	w.key(key, gguf.Uint32)
	w.put(&w.kvs, v)
}

func (w *ggufWriter) float(key string, v float32) {
	w.key(key, gguf.Float32)
	w.put(&w.kvs, v)
}

func (w *ggufWriter) tensor(name string, shape []int, x []float32) {
	kind, data := encode(shape, x)
	w.tensors++
	w.str(&w.infos, name)
	w.put(&w.infos, uint32(len(shape)))
	for i := range shape {
		w.put(&w.infos, uint64(shape[len(shape)-1-i]))
	}
	w.put(&w.infos, uint32(kind))
	w.put(&w.infos, uint64(w.data.Len()))
	w.data.Write(data)
	pad(&w.data)
}

func pad(b *bytes.Buffer) {
	for b.Len()%gguf.DefaultAlignment != 0 {
		b.WriteByte(0)
	}
}

func (w *ggufWriter) bytes() []byte {
	var out bytes.Buffer
	w.put(&out, uint32(gguf.Magic))
	w.put(&out, uint32(3))
	w.put(&out, w.tensors)
	w.put(&out, w.keys)
	out.Write(w.kvs.Bytes())
	out.Write(w.infos.Bytes())
	pad(&out)
	out.Write(w.data.Bytes())
	return out.Bytes()
}

func encode(shape []int, x []float32) (gguf.Type, []byte) {
	switch {
	case len(shape) == 1:
		return gguf.F32, floats(x)
	case shape[len(shape)-1]%256 != 0:
		out := make([]byte, 2*len(x))
		dtype.FromFloat32(dtype.F16, out, x)
		return gguf.F16, out
	}
	var out []byte
	for ; len(x) > 0; x = x[256:] {
		out = append(out, blockQ4K(x[:256])...)
	}
	return gguf.Q4_K, out
}

// blockQ4K codes 256 numbers as q·scale − least in eight groups of 32, by
// rounding to nearest between the smallest and the largest. Layout: ggml's
// block_q4_K.
func blockQ4K(x []float32) []byte {
	var scale, least [8]float64
	for g := range 8 {
		lo, hi := 0.0, 0.0
		for _, v := range x[32*g : 32*g+32] {
			lo, hi = min(lo, float64(v)), max(hi, float64(v))
		}
		scale[g], least[g] = (hi-lo)/15, -lo
	}
	b := make([]byte, 144)
	d, s := sixBits(scale)
	dmin, m := sixBits(least)
	dtype.FromFloat32(dtype.F16, b, []float32{float32(d), float32(dmin)})
	half := make([]float32, 2)
	dtype.ToFloat32(dtype.F16, half, b[:4])
	for i := range 4 {
		b[4+i] = s[i] | s[4+i]>>4<<6
		b[8+i] = m[i] | m[4+i]>>4<<6
		b[12+i] = s[4+i]&15 | m[4+i]<<4
	}
	for i, v := range x {
		g := i / 32
		q := 0.0
		if step := float64(half[0]) * float64(s[g]); step > 0 && !math.IsInf(step, 0) {
			q = min(max(math.Round((float64(v)+float64(half[1])*float64(m[g]))/step), 0), 15)
		}
		b[16+i/64*32+i%32] |= byte(q) << (4 * (g % 2))
	}
	return b
}

// sixBits codes eight numbers that are not negative as multiples of one.
func sixBits(x [8]float64) (unit float64, codes [8]byte) {
	most := 0.0
	for _, v := range x {
		most = max(most, v)
	}
	if most == 0 || math.IsInf(most, 0) || math.IsNaN(most) {
		return 0, codes
	}
	unit = most / 63
	for i, v := range x {
		codes[i] = byte(math.Round(v / unit))
	}
	return unit, codes
}
