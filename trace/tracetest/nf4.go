package tracetest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// nf4 are the sixteen numbers of NormalFloat4. Source: bitsandbytes'
// functional.py, create_normal_map.
var nf4 = [16]float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
	0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

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
		codes, scales := quantiseNF4(t.Data)
		state, err := json.Marshal(map[string]any{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": t.Shape})
		if err != nil {
			return err
		}
		add(t.Name, dtype.U8, []int{len(codes), 1}, codes)
		add(t.Name+".absmax", dtype.F32, []int{len(scales)}, floats(scales))
		add(t.Name+".quant_map", dtype.F32, []int{16}, floats(nf4[:]))
		add(t.Name+".quant_state.bitsandbytes__nf4", dtype.U8, []int{len(state)}, state)
	}
	return write(dir, config, list)
}

// quantiseNF4 codes blocks of 64, two codes to a byte, the first in its upper
// half.
func quantiseNF4(x []float32) (codes []byte, scales []float32) {
	codes = make([]byte, (len(x)+1)/2)
	for at := 0; at < len(x); at += 64 {
		block := x[at:min(at+64, len(x))]
		most := float32(0)
		for _, v := range block {
			most = max(most, float32(math.Abs(float64(v))))
		}
		scales = append(scales, most)
		for i, v := range block {
			best := 7
			if most > 0 {
				for c, q := range nf4 {
					if math.Abs(float64(v/most-q)) < math.Abs(float64(v/most-nf4[best])) {
						best = c
					}
				}
			}
			codes[(at+i)/2] |= byte(best << (4 * (1 - (at+i)%2)))
		}
	}
	return codes, scales
}

func floats(x []float32) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
		panic(fmt.Sprint("writing to memory: ", err))
	}
	return b.Bytes()
}
