package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
)

// benchConfig is a Llama of 6.45 million parameters, as testdata/bench.py has it.
const benchConfig = `{"model_type":"llama","hidden_size":256,"num_hidden_layers":6,"num_attention_heads":8,"num_key_value_heads":4,
"head_dim":32,"intermediate_size":688,"vocab_size":4096,"rms_norm_eps":1e-5,"hidden_act":"silu","tie_word_embeddings":false,
"max_position_embeddings":512,"rope_theta":10000.0}`

func benchShapes() map[string][]int {
	s := map[string][]int{"model.embed_tokens.weight": {4096, 256}, "lm_head.weight": {4096, 256}, "model.norm.weight": {256}}
	for i := range 6 {
		p := fmt.Sprintf("model.layers.%d.", i)
		for name, shape := range map[string][]int{
			"self_attn.q_proj": {256, 256}, "self_attn.k_proj": {128, 256}, "self_attn.v_proj": {128, 256}, "self_attn.o_proj": {256, 256},
			"mlp.gate_proj": {688, 256}, "mlp.up_proj": {688, 256}, "mlp.down_proj": {256, 688}, "input_layernorm": {256}, "post_attention_layernorm": {256},
		} {
			s[p+name+".weight"] = shape
		}
	}
	return s
}

// BenchmarkTrain is a step of 4 × 128 tokens with AdamW.
func BenchmarkTrain(b *testing.B) {
	for _, kind := range []Kind{Full, LoRA} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", kind, workers), func(b *testing.B) { benchTrain(b, kind, workers) })
		}
	}
}

func benchTrain(b *testing.B, kind Kind, workers int) {
	m, err := arch.Build([]byte(benchConfig), benchShapes(), arch.Options{Tokens: 128})
	if err != nil {
		b.Fatal(err)
	}
	e, err := New(context.Background(), m.Graph, memory{m.Graph, 1, 0.02}, Options{Batch: 4, Workers: workers,
		Trainable: Trainable{Kind: kind, Modules: someModules, Rank: 16, Alpha: 32}})
	if err != nil {
		b.Fatal(err)
	}
	tr, err := NewTrainer(e, TrainOptions{LR: 2e-4, Optimizer: Optimizer{WeightDecay: 0.01}})
	if err != nil {
		b.Fatal(err)
	}
	data := batchOf(rand.New(rand.NewPCG(1, 2)), 4, 128, 512)
	if _, err := tr.Step(data); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	began := cpuSeconds(b)
	for b.Loop() {
		if _, err := tr.Step(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(512*b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64(512*b.N)/(cpuSeconds(b)-began), "tokens/cpu-s")
	b.ReportMetric(float64(e.Memory().Total()+tr.StateBytes())/1e6, "planned-MB")
	b.ReportMetric(peakMB(), "process-peak-MB")
}

// cpuSeconds is what the process has used: on a busy machine it tells more than
// the clock.
func cpuSeconds(b *testing.B) float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// peakMB is the largest resident size of the process so far.
func peakMB() float64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	var kb float64
	fmt.Sscan(rest, &kb)
	return kb / 1024
}
