package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// scriptMakeLoRA writes a LoRA of rank 2 for modules of a model, as PEFT saves
// it: mklora MODEL DST MODULE…
func scriptMakeLoRA(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(mklora(ts.MkAbs(args[0]), ts.MkAbs(args[1]), args[2:]))
}

func mklora(model, dst string, modules []string) error {
	ck, err := checkpoint.Open(model)
	if err != nil {
		return err
	}
	defer ck.Close()
	r := rand.New(rand.NewPCG(3, 4))
	var tensors []safetensors.Tensor
	for _, m := range modules {
		w, _ := ck.Tensor(m + ".weight")
		for i, part := range []string{"A", "B"} {
			shape := [][]int{{2, w.Shape[1]}, {w.Shape[0], 2}}[i]
			x := make([]float32, shape[0]*shape[1])
			for i := range x {
				x[i] = float32(r.NormFloat64()) / 64
			}
			data := make([]byte, 4*len(x))
			dtype.FromFloat32(dtype.F32, data, x)
			name := "base_model.model." + m + ".lora_" + part + ".weight"
			tensors = append(tensors, safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: name, DType: dtype.F32, Shape: shape}, Data: data})
		}
	}
	conf, err := json.MarshalIndent(map[string]any{
		"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": modules, "init_lora_weights": true,
		"base_model_name_or_path": "ann/base", "task_type": "CAUSAL_LM",
	}, "", "  ")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := safetensors.Write(&out, map[string]string{"format": "pt"}, tensors); err != nil {
		return err
	}
	if err := os.MkdirAll(dst, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dst, "adapter_config.json"), conf, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dst, "adapter_model.safetensors"), out.Bytes(), 0o666)
}
