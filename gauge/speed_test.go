package gauge_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// llama70B is the shape of Llama 3 70B.
const llama70B = `{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":8192,
	"intermediate_size":28672,"num_attention_heads":64,"num_key_value_heads":8,"num_hidden_layers":80,
	"vocab_size":128256,"rms_norm_eps":1e-5,"rope_theta":500000,"hidden_act":"silu",
	"max_position_embeddings":8192,"tie_word_embeddings":false}`

// BenchmarkSolve solves networks of real size, all layers, from their configs.
func BenchmarkSolve(b *testing.B) {
	configs := map[string][]byte{"llama-3-70b": []byte(llama70B)}
	files, err := filepath.Glob("../arch/testdata/configs/*.json")
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range files {
		conf, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		configs[strings.TrimSuffix(filepath.Base(f), ".json")] = conf
	}
	for name, conf := range configs {
		b.Run(name, func(b *testing.B) {
			g := fullSize(b, conf)
			b.ReportAllocs()
			for b.Loop() {
				sol, err := gauge.Solve(g)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(sol.FreeDims), "dims")
				b.ReportMetric(float64(len(g.Nodes)), "nodes")
			}
		})
	}
}

// fullSize builds the graph of a config without a checkpoint. The shapes that
// the builder is shown agree with nothing; the graph that it returns beside its
// error says which ones would.
func fullSize(b *testing.B, conf []byte) *graph.Graph {
	b.Helper()
	fake := map[string][]int{}
	for i := range 1 << 17 {
		fake[fmt.Sprint(i)] = []int{1 << 24}
	}
	m, err := arch.Build(conf, fake, arch.Options{Tokens: 1})
	for _, head := range []string{"lm_head.weight", "embed_out.weight"} {
		if m == nil && strings.Contains(err.Error(), strings.Split(head, ".")[0]) {
			with := maps.Clone(fake)
			with[head] = nil
			m, err = arch.Build(conf, with, arch.Options{Tokens: 1})
		}
	}
	if m == nil {
		b.Skip(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	shapes := map[string][]int{}
	for name, id := range m.Graph.Weights() {
		shapes[name] = m.Graph.Shape(id)
	}
	if m, err = arch.Build(conf, shapes, arch.Options{Tokens: 4}); err != nil {
		b.Skip(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	return m.Graph
}
