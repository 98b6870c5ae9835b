package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// The shape of the model: that of a Llama of about a billion parameters, with
// as many layers as the size asks for.
const (
	hidden, ffn, vocab = 2048, 5632, 32000
	heads, kvHeads     = 16, 8
	headDim            = 128
	shards             = 3
	layerBytes         = 2 * (2*hidden*heads*headDim + 2*hidden*kvHeads*headDim + 3*hidden*ffn + 2*hidden)
	otherBytes         = 2 * (2*vocab*hidden + hidden)
)

// makeModel writes a Llama of about gb·10^9 bytes in three shards. Its weights
// are random, and the same in every run.
func makeModel(dir string, gb float64) error {
	layers := max(1, int(math.Round((gb*1e9-otherBytes)/layerBytes)))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var split [shards][]safetensors.TensorInfo
	add := func(shard int, name string, shape ...int) {
		split[shard] = append(split[shard], safetensors.TensorInfo{Name: name, DType: dtype.BF16, Shape: shape})
	}
	add(0, "model.embed_tokens.weight", vocab, hidden)
	for l := range layers {
		shard, prefix := l*shards/layers, fmt.Sprintf("model.layers.%d.", l)
		add(shard, prefix+"input_layernorm.weight", hidden)
		add(shard, prefix+"post_attention_layernorm.weight", hidden)
		add(shard, prefix+"self_attn.q_proj.weight", heads*headDim, hidden)
		add(shard, prefix+"self_attn.k_proj.weight", kvHeads*headDim, hidden)
		add(shard, prefix+"self_attn.v_proj.weight", kvHeads*headDim, hidden)
		add(shard, prefix+"self_attn.o_proj.weight", hidden, heads*headDim)
		add(shard, prefix+"mlp.gate_proj.weight", ffn, hidden)
		add(shard, prefix+"mlp.up_proj.weight", ffn, hidden)
		add(shard, prefix+"mlp.down_proj.weight", hidden, ffn)
	}
	add(shards-1, "model.norm.weight", hidden)
	add(shards-1, "lm_head.weight", vocab, hidden)

	weights := map[string]string{}
	for i, tensors := range split {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, shards)
		for _, t := range tensors {
			weights[t.Name] = name
		}
		if err := writeShard(filepath.Join(dir, name), tensors, uint64(i)); err != nil {
			return err
		}
	}
	total := int64(layers)*layerBytes + otherBytes
	index := map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weights}
	if err := writeJSON(filepath.Join(dir, "model.safetensors.index.json"), index); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "config.json"), config(layers))
}

func config(layers int) map[string]any {
	return map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "torch_dtype": "bfloat16",
		"hidden_size": hidden, "intermediate_size": ffn, "vocab_size": vocab, "num_hidden_layers": layers,
		"num_attention_heads": heads, "num_key_value_heads": kvHeads, "head_dim": headDim,
		"rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 4096, "rope_theta": 10000.0,
		"tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
		"bos_token_id": 1, "eos_token_id": 2,
	}
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o666)
}

// writeShard streams one shard to the disk.
func writeShard(path string, tensors []safetensors.TensorInfo, seed uint64) error {
	h, err := safetensors.NewHeader(map[string]string{"format": "pt"}, tensors)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(h.Raw); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(20, seed))
	matrix, gain := gaussian(0, 0.02), gaussian(1, 0.1)
	for _, i := range h.Order {
		t := h.Tensors[i]
		table := matrix
		if len(t.Shape) == 1 {
			table = gain
		}
		if err := writeWeights(w, random, table, t.Size()); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// quantiles are the 65,536 quantiles of a distribution, as bf16.
type quantiles [1 << 16]uint16

// gaussian returns the quantiles of N(mean, sigma²).
func gaussian(mean, sigma float64) *quantiles {
	t := new(quantiles)
	for i := range t {
		p := (float64(i) + 0.5) / float64(len(t))
		x := mean + sigma*math.Sqrt2*math.Erfinv(2*p-1)
		t[i] = uint16((math.Float32bits(float32(x)) + 0x8000) >> 16)
	}
	return t
}

// writeWeights writes size bytes of random elements, size a multiple of 8.
func writeWeights(w io.Writer, random *rand.Rand, table *quantiles, size int64) error {
	var buf [1 << 16]byte
	for size > 0 {
		n := min(size, int64(len(buf)))
		for i := int64(0); i+8 <= n; i += 8 {
			r := random.Uint64()
			v := uint64(table[uint16(r)]) | uint64(table[uint16(r>>16)])<<16 |
				uint64(table[uint16(r>>32)])<<32 | uint64(table[r>>48])<<48
			binary.LittleEndian.PutUint64(buf[i:], v)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// hashFolder prints the SHA-256 of every file below dir, one after the other.
func hashFolder(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.CopyBuffer(h, onlyReader{f}, make([]byte, 1<<20)); err != nil {
			return err
		}
		_, err = fmt.Printf("%x  %s\n", h.Sum(nil), strings.TrimPrefix(path, dir+string(filepath.Separator)))
		return err
	})
}

// onlyReader hides that a file can write itself, so that the buffer is used.
type onlyReader struct{ io.Reader }
