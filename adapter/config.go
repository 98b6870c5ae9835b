// Package adapter reads adapters of PEFT: which of their tensors belongs to
// which weight of the model, and along which axes. A seal multiplies a weight's
// rows and columns by powers of two, W' = R·W·C. An update B·A of W is one of
// W', once R is put on B and C on A:
//
//	W' + s·(R·B)·(A·C) = R·(W + s·B·A)·C
//
// so that the network computes the same, bit for bit, with the sealed weight
// and the converted adapter as with the original and its own.
package adapter

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// The files of an adapter.
const (
	ConfigName  = "adapter_config.json"
	WeightsName = "adapter_model.safetensors"
)

// The types of adapters that can be converted.
const (
	LoRA = "LORA"
	IA3  = "IA3"
)

// Config is what of adapter_config.json decides how an adapter is converted.
type Config struct {
	Type        string // LoRA or IA3
	Base        string // base_model_name_or_path
	Rank        int    // of LoRA; 0 if the config does not say
	Ranks       []int  // those of rank_pattern
	Uneven      bool   // ranks or alphas differ between modules
	FanInFanOut bool   // weights are stored as (in, out)
	DoRA        bool
	Parameters  []string // target_parameters
}

// rawConfig has the fields that Config is made of.
type rawConfig struct {
	PeftType    string         `json:"peft_type"`
	Base        *string        `json:"base_model_name_or_path"`
	R           *int           `json:"r"`
	RankPattern map[string]int `json:"rank_pattern"`
	Alpha       map[string]any `json:"alpha_pattern"`
	FanInFanOut bool           `json:"fan_in_fan_out"`
	UseDoRA     bool           `json:"use_dora"`
	Parameters  []string       `json:"target_parameters"`
	Init        any            `json:"init_lora_weights"`
}

// known are the options that change nothing about a conversion, whatever they
// say, or that Config holds.
var known = map[string][]string{
	"": {"peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "task_type", "inference_mode",
		"target_modules", "exclude_modules", "modules_to_save", "fan_in_fan_out", "layers_to_transform", "layers_pattern"},
	LoRA: {"r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias",
		"target_parameters", "trainable_token_indices", "ensure_weight_tying", "alora_invocation_tokens", "runtime_config",
		"init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config", "megatron_core", "qalora_group_size"},
	IA3: {"feedforward_modules", "init_ia3_weights"},
}

// reasons say why an option that is set cannot be converted.
var reasons = map[string]string{
	"layer_replication": "its layers are not those of the sealed model",
	"use_qalora":        "it averages inputs that the seal scales apart",
	"kasa_config":       "it takes singular values out of the base's weights, which are others in the sealed model",
	"use_bdlora":        "its matrices are blocks",
	"monteclora_config": "it draws its weights at random",
	"arrow_config":      "it chooses among adapters by their singular vectors",
	"megatron_config":   "it belongs to another implementation",
}

// harmless are the starts of LoRA that leave the base's weights alone.
var harmless = []string{"gaussian", "eva", "orthogonal", "mica"}

// ReadConfig reads adapter_config.json. Types and options that cannot be
// converted give fault.Unsupported, by name; what is no config, fault.Mismatch.
func ReadConfig(data []byte) (*Config, error) {
	var all map[string]json.RawMessage
	var raw rawConfig
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s is not a JSON object", ConfigName)
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", ConfigName)
	}
	c := &Config{Type: raw.PeftType, FanInFanOut: raw.FanInFanOut, DoRA: raw.UseDoRA, Parameters: raw.Parameters}
	if c.Type != LoRA && c.Type != IA3 {
		return nil, refuseType(c.Type)
	}
	if raw.Base != nil {
		c.Base = *raw.Base
	}
	if raw.R != nil {
		c.Rank = *raw.R
	}
	c.Ranks = slices.Collect(maps.Values(raw.RankPattern))
	c.Uneven = len(raw.RankPattern)+len(raw.Alpha) > 0
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(known[""], key) || slices.Contains(known[c.Type], key) || unset(all[key]) {
			continue
		}
		why := reasons[key]
		if why == "" {
			why = "this version does not know what it does"
		}
		return nil, fault.New(fault.Unsupported, "%s: option %s is set: %s", ConfigName, key, why).
			WithHint("an adapter that was trained without it can be converted")
	}
	if err := checkInit(raw.Init); err != nil {
		return nil, err
	}
	return c, nil
}

// refuseType says why a type of adapters is not converted.
func refuseType(t string) error {
	switch t {
	case "":
		return fault.New(fault.Mismatch, "%s has no peft_type", ConfigName)
	case "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT":
		return fault.New(fault.Unsupported, "peft_type %s puts vectors among the activations, not on weights; they are not converted", t).
			WithHint("adapters of type LORA and IA3 are")
	case "OFT", "BOFT", "HRA", "ROAD", "PSOFT":
		return fault.New(fault.Unsupported, "peft_type %s turns the weights' channels into each other; scaled ones turn otherwise, and no rotation corresponds", t).
			WithHint("merge the adapter into the unsealed model; adapters of type LORA and IA3 can be converted")
	}
	return fault.New(fault.Unsupported, "peft_type %s is not converted", t).
		WithHint("adapters of type LORA and IA3 are")
}

// unset reports whether an option has the value of one that is not given.
func unset(v json.RawMessage) bool {
	var s bytes.Buffer
	if json.Compact(&s, v) != nil {
		return false
	}
	return slices.Contains([]string{"null", "false", "{}", "[]", `""`}, s.String())
}

// checkInit refuses starts of LoRA that move a part of the base's weights into
// the adapter: what is left in the base depends on how it is scaled.
func checkInit(v any) error {
	s, ok := v.(string)
	if v == nil || !ok || slices.Contains(harmless, strings.ToLower(s)) {
		return nil
	}
	return fault.New(fault.Unsupported, "%s: init_lora_weights %q took a part out of the base's weights, which is another in the sealed model", ConfigName, s).
		WithHint("save the adapter with path_initial_model_for_weight_conversion, which turns it into a plain LoRA, and convert that")
}
