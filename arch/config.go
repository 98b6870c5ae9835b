package arch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// config reads a model's config.json and remembers which keys were read, so
// that a key nobody knows is found: it might change the function.
type config struct {
	raw  map[string]json.RawMessage
	used map[string]bool
	path string // prefix for messages, as in "rope_scaling."
	errs *[]string

	sections []*config // nested configurations of parts of the model
}

func parseConfig(data []byte) (*config, error) {
	c := &config{used: map[string]bool{}, errs: &[]string{}}
	if err := json.Unmarshal(PlainJSON(data), &c.raw); err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "config.json: not a JSON object")
	}
	return c, nil
}

// PlainJSON replaces the bare Infinity and NaN that Python writes, and no JSON
// parser reads, by strings of the same length, so that offsets stay.
func PlainJSON(data []byte) []byte {
	if json.Valid(data) {
		return data
	}
	out := bytes.Clone(data)
	quoted := false
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted:
			for word, str := range map[string]string{"Infinity": infinite, "NaN": `"N"`} {
				if bytes.HasPrefix(out[i:], []byte(word)) {
					if i > 0 && out[i-1] == '-' { // no number: the sign goes inside
						i--
						word, str = "-"+word, str[:1]+"-"+str[1:]
					}
					copy(out[i:], str)
					i += len(word) - 1
				}
			}
		}
	}
	return out
}

// infinite is what PlainJSON makes of Infinity.
const infinite = `"Infini"`

func (c *config) has(key string) bool {
	v, ok := c.raw[key]
	return ok && string(v) != "null"
}

func (c *config) failf(format string, args ...any) {
	*c.errs = append(*c.errs, fmt.Sprintf(format, args...))
}

// get decodes a key into v; it reports whether the key is there and not null.
func (c *config) get(key string, v any) bool {
	c.used[key] = true
	if !c.has(key) {
		return false
	}
	if err := json.Unmarshal(c.raw[key], v); err != nil {
		c.failf("config.json: %s%s is %s, which has the wrong type", c.path, key, abbreviate(c.raw[key]))
		return false
	}
	return true
}

func abbreviate(raw json.RawMessage) string {
	if len(raw) > 60 {
		return string(raw[:60]) + "…"
	}
	return string(raw)
}

// dimLimit bounds every size that a config may name; real ones stay far below.
const dimLimit = 1 << 24

// dim reads a positive size.
func (c *config) dim(key string, def int) int {
	n := def
	c.get(key, &n)
	if n <= 0 || n > dimLimit {
		c.failf("config.json: %s%s is %d; it must be between 1 and %d", c.path, key, n, dimLimit)
		return 1
	}
	return n
}

// count reads a number that may be zero.
func (c *config) count(key string, def int) int {
	n := def
	c.get(key, &n)
	if n < 0 || n > dimLimit {
		c.failf("config.json: %s%s is %d; it must be between 0 and %d", c.path, key, n, dimLimit)
		return 0
	}
	return n
}

func (c *config) number(key string, def float64) float64 {
	c.get(key, &def)
	return def
}

func (c *config) boolean(key string, def bool) bool {
	c.get(key, &def)
	return def
}

func (c *config) text(key, def string) string {
	c.get(key, &def)
	return def
}

// only refuses a key that has any other value than those allowed.
func (c *config) only(key string, allowed ...string) {
	c.used[key] = true
	if !c.has(key) {
		return
	}
	if got := strings.TrimSpace(string(c.raw[key])); !slices.Contains(allowed, got) {
		c.failf("config.json: %s%s is %s; supported: %s", c.path, key, abbreviate(c.raw[key]), strings.Join(allowed, ", "))
	}
}

// sub returns a nested object, or nil when it is absent or null.
func (c *config) sub(key string) *config {
	n := &config{used: map[string]bool{}, path: c.path + key + ".", errs: c.errs}
	if !c.get(key, &n.raw) {
		return nil
	}
	return n
}

// section returns the nested configuration of a part of the model, an empty one
// when it is absent. Its unknown keys count as the whole's.
func (c *config) section(key string) *config {
	n := c.sub(key)
	if n == nil {
		n = &config{used: map[string]bool{}, path: c.path + key + ".", errs: c.errs}
	}
	n.generic()
	n.only("is_encoder_decoder", "false")
	c.sections = append(c.sections, n)
	return n
}

// unknown returns the keys that nobody read and that are not known to leave
// the function alone, sorted.
func (c *config) unknown() []string {
	var out []string
	for k := range c.raw {
		if !c.used[k] && !inert[k] {
			out = append(out, c.path+k)
		}
	}
	for _, s := range c.sections {
		out = append(out, s.unknown()...)
	}
	sort.Strings(out)
	return out
}

// inert holds the config keys that do not change what the network computes at
// inference: names, dtypes, training-time settings, generation defaults.
var inert = func() map[string]bool {
	m := map[string]bool{}
	for _, k := range strings.Fields(`
		_name_or_path _commit_hash _attn_implementation _attn_implementation_autoset attn_implementation
		_experts_implementation _from_model_config
		architectures model_type auto_map transformers_version torch_dtype dtype use_cache cache_implementation
		bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id decoder_start_token_id
		initializer_range initializer_factor
		attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop dropout
		output_attentions output_hidden_states output_router_logits router_aux_loss_coef router_jitter_noise
		return_dict torchscript use_bfloat16 tf_legacy_loss tokenizer_class prefix problem_type
		id2label label2id num_labels finetuning_task task_specific_params pretraining_tp
		max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty
		temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
		encoder_no_repeat_ngram_size bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id
		forced_decoder_ids output_scores return_dict_in_generate
		remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
		gradient_checkpointing use_return_dict unsloth_fixed unsloth_version
		transformers.js_config is_llama_config max_sequence_length
		attention_probs_dropout_prob hidden_dropout_prob classifier_dropout activation_dropout dropout_rate
		encoder_layerdrop decoder_layerdrop layerdrop drop_path_rate init_std output_past
	`) {
		m[k] = true
	}
	return m
}()

// generic refuses the keys that every transformers config may carry and that
// would change the function.
func (c *config) generic() {
	c.only("pruned_heads", "{}", "null")
	c.only("add_cross_attention", "false")
	c.only("cross_attention_hidden_size", "null")
	c.only("chunk_size_feed_forward", "0")
	c.only("is_decoder", "false", "true")
	c.only("tie_encoder_decoder", "false")
	if c.has("quantization_config") {
		c.used["quantization_config"] = true
		var q struct {
			Method string `json:"quant_method"`
		}
		_ = json.Unmarshal(c.raw["quantization_config"], &q)
		c.failf("config.json: quantization_config names a quantised checkpoint (%s); seal the unquantised one", q.Method)
	}
}
