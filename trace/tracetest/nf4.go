package tracetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// WriteNF4 makes a checkpoint as transformers saves one that bitsandbytes has
// quantised: the linear maps but the head in NF4, blocks of 64.
func (m *Model) WriteNF4(dir string) error {
	var conf map[string]any
	if err := json.Unmarshal(m.Config, &conf); err != nil {
		return err
	}
	conf["quantization_config"] = map[string]any{
		"quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
		"bnb_4bit_use_double_quant": false, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
	}
	config, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	numbers := train.NF4Numbers()
	var list []safetensors.Tensor
	add := func(name string, d dtype.DType, shape []int, data []byte) {
		list = append(list, safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: name, DType: d, Shape: shape}, Data: data})
	}
	for _, t := range m.Tensors {
		if !t.matrix() || !strings.HasSuffix(t.Name, "_proj.weight") {
			buf := make([]byte, len(t.Data)*t.DType.Bits()/8)
			dtype.FromFloat32(t.DType, buf, t.Data)
			add(t.Name, t.DType, t.Shape, buf)
			continue
		}
		codes, scales := packedNF4(t.Data)
		state, err := json.Marshal(map[string]any{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": t.Shape})
		if err != nil {
			return err
		}
		add(t.Name, dtype.U8, []int{len(codes), 1}, codes)
		add(t.Name+".absmax", dtype.F32, []int{len(scales)}, floats(scales))
		add(t.Name+".quant_map", dtype.F32, []int{16}, floats(numbers[:]))
		add(t.Name+".quant_state.bitsandbytes__nf4", dtype.U8, []int{len(state)}, state)
	}
	return write(dir, config, list)
}

// packedNF4 codes blocks of 64, two codes to a byte, the first in its upper half.
func packedNF4(x []float32) (packed []byte, scales []float32) {
	codes, scales := train.QuantiseNF4(x)
	packed = make([]byte, (len(codes)+1)/2)
	for i, c := range codes {
		packed[i/2] |= c << (4 * (1 - i%2))
	}
	return packed, scales
}

func floats(x []float32) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
		panic(fmt.Sprint("writing to memory: ", err))
	}
	return b.Bytes()
}
