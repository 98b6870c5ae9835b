//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// adapterCase is an adapter that PEFT trains on a model and on its seal.
type adapterCase struct {
	name, model string
	config      map[string]any
	lock        []string // options; nil: --profile max --signs
	refused     string   // what the command says; "": it converts
}

var adapterCases = []adapterCase{
	{name: "all linear", model: "llama", config: map[string]any{"target_modules": "all-linear", "r": 4, "use_rslora": true, "rank_pattern": map[string]int{"q_proj": 2}}},
	{name: "portable", model: "llama", config: map[string]any{"target_modules": "all-linear"}, lock: []string{"--profile", "portable"}},
	{name: "permuted", model: "llama", config: map[string]any{"target_modules": "all-linear"}, lock: []string{"--profile", "max", "--signs", "--permute"}},
	{name: "embedding and head", model: "llama", config: map[string]any{"target_modules": []string{"embed_tokens", "lm_head", "up_proj"}}},
	{name: "saved modules", model: "llama", config: map[string]any{"target_modules": []string{"v_proj"}, "modules_to_save": []string{"lm_head", "norm"}}},
	{name: "tokens", model: "llama", config: map[string]any{"target_modules": []string{"v_proj"}, "trainable_token_indices": []int{3, 5, 7}}},
	{name: "own biases", model: "qwen2", config: map[string]any{"target_modules": []string{"q_proj", "v_proj"}, "bias": "lora_only"}},
	{name: "all biases", model: "qwen2", config: map[string]any{"target_modules": []string{"q_proj", "o_proj"}, "bias": "all"}},
	{name: "bias of B", model: "qwen2", config: map[string]any{"target_modules": []string{"q_proj", "v_proj", "down_proj"}, "lora_bias": true}},
	{name: "transposed", model: "gpt2", config: map[string]any{"target_modules": []string{"c_attn", "c_proj", "c_fc"}, "fan_in_fan_out": true}},
	{name: "fused", model: "phi3", config: map[string]any{"target_modules": []string{"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}}},
	{name: "experts", model: "gpt_oss", config: map[string]any{"target_modules": []string{"q_proj"}, "target_parameters": []string{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}},
	{name: "joined experts", model: "mixtral", config: map[string]any{"target_modules": []string{"q_proj"}, "target_parameters": []string{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}},
	{name: "joined experts, other names", model: "qwen3_moe", config: map[string]any{"target_parameters": []string{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}},
	{name: "IA3", model: "llama", config: map[string]any{"peft_type": "IA3", "target_modules": []string{"k_proj", "v_proj", "down_proj"}, "feedforward_modules": []string{"down_proj"}}},
	{name: "IA3 permuted", model: "llama", config: map[string]any{"peft_type": "IA3", "target_modules": []string{"k_proj", "v_proj", "down_proj"}, "feedforward_modules": []string{"down_proj"}}, lock: []string{"--profile", "max", "--permute"}},
	{name: "DoRA on rows", model: "llama", config: map[string]any{"target_modules": []string{"q_proj", "k_proj"}, "use_dora": true}, lock: []string{"--profile", "max", "--signs", "--include", "qk"}},
	{name: "DoRA", model: "llama", config: map[string]any{"target_modules": []string{"q_proj"}, "use_dora": true}, refused: "sizes of whole rows"},
	{name: "PiSSA", model: "llama", config: map[string]any{"target_modules": []string{"q_proj"}, "init_lora_weights": "pissa"}, refused: "pissa"},
	{name: "OFT", model: "llama", config: map[string]any{"peft_type": "OFT", "target_modules": []string{"q_proj"}, "r": 2, "oft_block_size": 0}, refused: "peft_type OFT"},
}

// adapterJobs runs jobs of adapters.py and decodes a line for each.
func adapterJobs[T any](t *testing.T, s *shared, mode string, jobs any, results []T) {
	t.Helper()
	in, _ := json.Marshal(jobs)
	cmd := exec.Command(s.python, "adapters.py", mode)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for i := range results {
		if err := dec.Decode(&results[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAdapters: PEFT's adapters, trained on the original and on the sealed
// model, do to the other one, once converted, what they do to their own: the
// same logits in fp32, bit for bit. Converting back gives the same bytes.
func TestAdapters(t *testing.T) {
	s := needPython(t)
	work := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{work}, parts...)...) }
	type training struct {
		Model  string         `json:"model"`
		Config map[string]any `json:"config"`
		Rate   float64        `json:"rate"`
		Out    string         `json:"out"`
	}
	// The sealed model is made not to survive a usual rate; whatever the rate
	// does to it, the converted adapter must do to the original.
	const rate, gentle = 1e-2, 1e-6
	var trainings []training
	for _, c := range adapterCases {
		lock := c.lock
		if lock == nil {
			// With all of max's range, adapters that were trained on the sealed
			// model leave fp32's range on the way back: refused, or infinite.
			lock = []string{"--profile", "max", "--scale", "274877906944", "--signs"}
		}
		source := filepath.Join("..", "arch", "testdata", c.model)
		s.neuroseal(t, append([]string{"lock", source, at(c.name, "sealed")}, lock...)...)
		if c.config["peft_type"] == nil {
			c.config["peft_type"] = "LORA"
		}
		trainings = append(trainings, training{source, c.config, rate, at(c.name, "of-original")}, training{at(c.name, "sealed"), c.config, gentle, at(c.name, "of-sealed")})
	}
	trained := make([]struct{ Error string }, len(trainings))
	adapterJobs(t, s, "train", trainings, trained)
	type comparison struct {
		Models   [2]string `json:"models"`
		Adapters [2]string `json:"adapters"`
		c        *adapterCase
	}
	var list []comparison
	for i := range adapterCases {
		c := &adapterCases[i]
		t.Run(c.name, func(t *testing.T) {
			for k, to := range []string{"sealed", "original"} {
				if e := trained[2*i+k].Error; e != "" {
					t.Fatal(e)
				}
				own := at(c.name, []string{"of-original", "of-sealed"}[k])
				args := []string{"adapter", own, own + "-to-" + to, "--sealed", at(c.name, "sealed"), "--to", to}
				if c.refused != "" {
					out, err := exec.Command(s.command, args...).CombinedOutput()
					if err == nil || !strings.Contains(string(out), c.refused) {
						t.Fatalf("%s, %v; want %q", out, err, c.refused)
					}
					continue
				}
				s.neuroseal(t, args...)
				from := []string{"original", "sealed"}[k]
				s.neuroseal(t, "adapter", own+"-to-"+to, own+"-back", "--sealed", at(c.name, "sealed"), "--to", from)
				for _, f := range []string{"adapter_config.json", "adapter_model.safetensors"} {
					a, err1 := os.ReadFile(filepath.Join(own, f))
					b, err2 := os.ReadFile(filepath.Join(own+"-back", f))
					if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
						t.Errorf("%s differs there and back (%v, %v)", f, err1, err2)
					}
				}
				models := [2]string{filepath.Join("..", "arch", "testdata", c.model), at(c.name, "sealed")}
				adapters := [2]string{at(c.name, "of-original"), at(c.name, "of-original-to-sealed")}
				if k == 1 {
					adapters = [2]string{at(c.name, "of-sealed-to-original"), at(c.name, "of-sealed")}
				}
				list = append(list, comparison{models, adapters, c})
			}
		})
	}
	control := at("portable", "of-original")
	list = append(list, comparison{[2]string{filepath.Join("..", "arch", "testdata", "llama"), at("portable", "sealed")}, [2]string{control, control}, nil})
	compared := make([]struct {
		Equal                            bool
		Difference, Largest, Moved, Peak float64
		Error                            string
	}, len(list))
	adapterJobs(t, s, "compare", list, compared)
	far := 0
	for i, r := range compared {
		c := list[i].c
		reordered := c != nil && strings.Contains(strings.Join(c.lock, " "), "--permute")
		switch {
		case c != nil && r.Error != "":
			t.Errorf("%s: %s", c.name, r.Error)
		case r.Moved == 0:
			t.Errorf("%s: the adapter does nothing", c.name)
		case c == nil:
			if r.Equal {
				t.Error("an adapter that was not converted fits as well")
			}
			continue
		case r.Peak > 2e18 && !r.Equal: // sums of its squares overflow
			far++
		case reordered && r.Difference > 1e-4*r.Largest, !reordered && !r.Equal:
			t.Errorf("%s: the logits differ by %g of %g", c.name, r.Difference, r.Largest)
		}
		t.Logf("%s: equal %v, difference %g of %g, peak %g; the adapter moves them by %g", c.name, r.Equal, r.Difference, r.Largest, r.Peak, r.Moved)
	}
	if far > len(compared)/4 {
		t.Errorf("%d of %d comparisons leave the range of fp32", far, len(compared))
	}
}
