"""Dense decoders beyond those of families.py."""

from dataclasses import dataclass

from variant import COMMON, HIDDEN, LAYERS, VOCAB, Variant

# Free dimensions of the gauge (every epsilon fixed) of the variant so named.
FREE_DIMS = {
    "stablelm": 156,
    "phi": 76,
    "gpt_neox": 136,
    "gptj": 104,
    "gpt2": 128,
    "gpt_bigcode": 80,
    "gpt_neo": 128,
    "bloom": 128,
    "falcon7b": 44,
    "falcon40b": 88,
    "falconrw": 128,
    "opt": 176,
    "starcoder2": 104,
    "nemotron": 76,
    "olmo": 72,
    "olmo2": 88,
    "cohere": 104,  # the finder that found the others took a gain of [heads, dim] for rows and columns: 102
}


@dataclass(frozen=True)
class Bare(Variant):
    """A variant saved without the prefix of its decoder, as some publishers do."""

    def build(self):
        model = super().build()
        save, prefix = model.save_pretrained, model.base_model_prefix + "."

        def save_bare(folder, **options):
            state = {k.removeprefix(prefix): v for k, v in model.state_dict().items() if k != "lm_head.weight"}
            save(folder, state_dict=state, **options)

        model.save_pretrained = save_bare
        return model


@dataclass(frozen=True)
class Fused(Variant):
    """A variant whose eager attention is not what its checkpoints were trained with.

    Falcon's adds ALiBi twice, once in the mask; the fused one, which is the default, once.
    """

    attn: str = "sdpa"  # of the reference


_NO_RMS = {k: v for k, v in COMMON.items() if k != "rms_norm_eps"}
_UNTIED_DEFAULT = {k: v for k, v in _NO_RMS.items() if k != "tie_word_embeddings"}
_NO_GROUPS = {k: v for k, v in _UNTIED_DEFAULT.items() if k not in ("num_key_value_heads", "intermediate_size")}
# The reference and compare.py read up to 33 tokens.
_GPT = dict(vocab_size=VOCAB, n_embd=HIDDEN, n_layer=LAYERS, n_head=4, n_positions=64,
            bos_token_id=1, eos_token_id=2)  # fmt: skip
_NEO = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_layers=LAYERS, num_heads=4, max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]], window_size=4, bos_token_id=1, eos_token_id=2)  # fmt: skip
_OPT = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4, ffn_dim=24,
            max_position_embeddings=64, word_embed_proj_dim=HIDDEN, pad_token_id=0, bos_token_id=1,
            eos_token_id=2)  # fmt: skip
_BLOOM = dict(vocab_size=VOCAB, hidden_size=HIDDEN, n_layer=LAYERS, n_head=4)

_FAMILIES = {
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", {**_NO_RMS, "partial_rotary_factor": 0.5}),
    "phi": ("PhiConfig", "PhiForCausalLM", {**_NO_RMS, "partial_rotary_factor": 0.5}),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", dict(_NO_GROUPS, intermediate_size=24, rotary_pct=0.5)),
    "gptj": ("GPTJConfig", "GPTJForCausalLM", dict(_GPT, n_head=2, rotary_dim=4, tie_word_embeddings=False)),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT),
    "gpt_bigcode": ("GPTBigCodeConfig", "GPTBigCodeForCausalLM", dict(_GPT, multi_query=True)),
    "gpt_neo": ("GPTNeoConfig", "GPTNeoForCausalLM", _NEO),
    "bloom": ("BloomConfig", "BloomForCausalLM", _BLOOM),
    "falcon7b": ("FalconConfig", "FalconForCausalLM",
                 dict(_NO_GROUPS, multi_query=True, parallel_attn=True, bias=False,
                      new_decoder_architecture=False, alibi=False)),
    "falcon40b": ("FalconConfig", "FalconForCausalLM",
                  dict(_NO_GROUPS, num_kv_heads=2, new_decoder_architecture=True, alibi=False)),
    "falconrw": ("FalconConfig", "FalconForCausalLM",
                 dict(_NO_GROUPS, multi_query=False, parallel_attn=False, bias=True,
                      new_decoder_architecture=False, alibi=True)),
    "opt": ("OPTConfig", "OPTForCausalLM", _OPT),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", _NO_RMS),
    "nemotron": ("NemotronConfig", "NemotronForCausalLM", {**_NO_RMS, "partial_rotary_factor": 0.5}),
    "olmo": ("OlmoConfig", "OlmoForCausalLM", _NO_RMS),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", COMMON),
    "olmo3": ("Olmo3Config", "Olmo3ForCausalLM", dict(COMMON, num_hidden_layers=4, sliding_window=4)),
    "cohere": ("CohereConfig", "CohereForCausalLM", dict(_UNTIED_DEFAULT, use_qk_norm=True)),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM",
                dict(_UNTIED_DEFAULT, sliding_window=4, layer_types=["sliding_attention", "full_attention"])),
    "glm": ("GlmConfig", "GlmForCausalLM", dict(COMMON, head_dim=8)),
    "glm4": ("Glm4Config", "Glm4ForCausalLM", dict(COMMON, head_dim=8)),
    "granite": ("GraniteConfig", "GraniteForCausalLM",
                dict(COMMON, embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.3,
                     logits_scaling=4.0)),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", dict(COMMON, no_rope_layer_interval=2)),
    "exaone4": ("Exaone4Config", "Exaone4ForCausalLM",
                dict(COMMON, sliding_window=4, layer_types=["sliding_attention", "full_attention"])),
    "helium": ("HeliumConfig", "HeliumForCausalLM", dict(COMMON, head_dim=4)),
    "arcee": ("ArceeConfig", "ArceeForCausalLM", COMMON),
    "seed_oss": ("SeedOssConfig", "SeedOssForCausalLM", dict(COMMON, head_dim=8)),
    "ernie4_5": ("Ernie4_5Config", "Ernie4_5ForCausalLM", dict(COMMON, head_dim=8)),
    "ministral": ("MinistralConfig", "MinistralForCausalLM",
                  dict(COMMON, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"])),
    "ministral3": ("Ministral3Config", "Ministral3ForCausalLM",
                   dict(COMMON, head_dim=8, rope_parameters=dict(
                       rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=8,
                       beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
                       llama_4_scaling_beta=0.1))),
    "apertus": ("ApertusConfig", "ApertusForCausalLM",
                dict(COMMON, rope_parameters=dict(
                    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=0.25,
                    high_freq_factor=4.0, original_max_position_embeddings=48))),
    "hunyuan": ("HunYuanDenseV1Config", "HunYuanDenseV1ForCausalLM",
                dict(COMMON, head_dim=8, rope_parameters=dict(
                    rope_type="dynamic", rope_theta=10000.0, factor=1.0, alpha=1000.0, beta_fast=32, beta_slow=1,
                    mscale=1.0, mscale_all_dim=1.0))),
}  # fmt: skip


def _family(name, *, kind=None, **changes):
    config, model, args = _FAMILIES[name]
    kind = kind or (Fused if {**args, **changes}.get("alibi") else Variant)
    return kind(config, model, {**args, **changes})


_YARN = dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, original_max_position_embeddings=16)

VARIANTS = {name: _family(name) for name in _FAMILIES} | {
    "stablelm-parallel": _family("stablelm", qk_layernorm=True, use_parallel_residual=True),
    "stablelm-bias": _family("stablelm", use_qkv_bias=True),
    "stablelm-normed": _family("stablelm", qk_layernorm=True, use_qkv_bias=True),
    "phi-normed": _family("phi", qk_layernorm=True, num_key_value_heads=4),
    "gpt_neox-serial": _family("gpt_neox", use_parallel_residual=False, attention_bias=False),
    "gpt_neox-tied": _family("gpt_neox", tie_word_embeddings=True, rotary_pct=1.0),
    "gptj-tied": _family("gptj", tie_word_embeddings=True, n_inner=24),
    "gpt2-bare": _family("gpt2", kind=Bare, scale_attn_by_inverse_layer_idx=True, n_inner=24),
    "gpt2-unscaled": _family("gpt2", scale_attn_weights=False, tie_word_embeddings=False),
    "gpt_bigcode-heads": _family("gpt_bigcode", multi_query=False, n_inner=24),
    "gpt_neo-untied": _family("gpt_neo", tie_word_embeddings=False, intermediate_size=24),
    "bloom-bare": _family("bloom", kind=Bare, n_head=2),
    "bloom-post": _family("bloom", apply_residual_connection_post_layernorm=True),
    # Six heads: slopes beyond the powers of two.
    "falconrw-six": _family("falconrw", hidden_size=12, num_attention_heads=6, bias=False),
    "falcon7b-alibi": _family("falcon7b", alibi=True, bias=True, tie_word_embeddings=False),
    "falcon40b-one-norm": _family(
        "falcon40b", num_ln_in_parallel_attn=1, ffn_hidden_size=24, tie_word_embeddings=False),
    "opt-350m": _family("opt", do_layer_norm_before=False, word_embed_proj_dim=8),
    "opt-plain": _family("opt", enable_bias=False, layer_norm_elementwise_affine=False, tie_word_embeddings=False),
    "opt-gelu": _family("opt", activation_function="gelu", _remove_final_layer_norm=True),
    "starcoder2-sliding": _family("starcoder2", sliding_window=4, use_bias=False, tie_word_embeddings=True),
    "nemotron-bias": _family("nemotron", attention_bias=True, mlp_bias=True, head_dim=8),
    "olmo-clipped": _family("olmo", clip_qkv=0.8, tie_word_embeddings=True),
    "olmo-bias": _family("olmo", attention_bias=True),
    "olmo2-bias": _family("olmo2", attention_bias=True, num_key_value_heads=4),
    "olmo3-yarn": _family(
        "olmo3", max_position_embeddings=64,
        rope_parameters={"full_attention": _YARN,
                         "sliding_attention": dict(rope_type="default", rope_theta=500000.0)}),
    "cohere-plain": _family("cohere", use_qk_norm=False, attention_bias=True, logit_scale=0.25),
    "cohere2-full": _family("cohere2", layer_types=["full_attention", "full_attention"], attention_bias=True),
    "glm-plain": _family("glm", attention_bias=False, tie_word_embeddings=True),
    "glm4-plain": _family("glm4", attention_bias=False, tie_word_embeddings=True),
    "granite-bias": _family("granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "smollm3-sliding": _family(
        "smollm3", use_sliding_window=True, sliding_window=4, no_rope_layers=[0, 1], attention_bias=True,
        mlp_bias=True, tie_word_embeddings=True),
    "exaone4-full": _family(
        "exaone4", sliding_window=None, layer_types=["full_attention", "full_attention"],
        tie_word_embeddings=True),
    "helium-bias": _family("helium", attention_bias=True, mlp_bias=True),
    "arcee-bias": _family("arcee", attention_bias=True, mlp_bias=True),
    "seed_oss-bias": _family("seed_oss", attention_bias=False, attention_out_bias=True, mlp_bias=True),
    "ernie4_5-bias": _family("ernie4_5", use_bias=True, tie_word_embeddings=True),
    "ministral-full": _family("ministral", layer_types=["full_attention", "full_attention"]),
    "apertus-bias": _family("apertus", attention_bias=True),
    "hunyuan-plain": _family("hunyuan", rope_parameters=None, attention_bias=True, tie_word_embeddings=True),
}  # fmt: skip


def _top_level_rope(config):
    """rope_parameters as transformers 4 wrote them, beside each other on top."""
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return config
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return config


def _neox(config):
    config = _top_level_rope(config)
    config["rotary_emb_base"] = config.pop("rope_theta")
    config["rotary_pct"] = config.pop("partial_rotary_factor")
    return config


def _olmo3(config):
    rope = config["rope_parameters"]
    return _top_level_rope(config | {"rope_parameters": rope["full_attention"]})


def _bloom(config):
    config["n_embed"] = config.pop("hidden_size")
    config["num_attention_heads"] = config.pop("n_head")
    return config


# How transformers 4 spelled a family's config.json, by model_type: a function
# of what transformers 5 wrote. What is not named here is left to fixtures.py.
SPELLINGS = {
    "gpt_neox": _neox,
    "olmo3": _olmo3,
    "bloom": _bloom,
    **dict.fromkeys(["gpt2", "gpt_bigcode", "gpt_neo", "gptj", "opt", "falcon"], _top_level_rope),
}
