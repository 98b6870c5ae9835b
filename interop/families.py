"""Tiny configurations of every family that NeuroSeal has a builder for.

A variant is a name, the transformers config class, the model class and the
constructor arguments. The variants in FREE_DIMS carry the configuration for
which the number of free dimensions of the gauge is known; the others vary one
or two things that a config.json can say and that change the function.
"""

import re

import families_decoders
import families_mixtures
import families_others
import torch
from variant import COMMON, Variant

# Free dimensions of the gauge (every epsilon fixed) of the variant so named.
FREE_DIMS = {
    "llama": 152,
    "mistral": 176,
    "qwen2": 152,
    "qwen3": 168,
    "gemma": 96,
    "gemma2": 96,
    "gemma3": 80,
    "phi3": 152,
    "mixtral": 296,
    "qwen3_moe": 248,
}


_FAMILIES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", dict(attention_bias=True, mlp_bias=True)),
    "mistral": ("MistralConfig", "MistralForCausalLM", dict(head_dim=8, sliding_window=4)),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", dict(head_dim=8)),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", dict(tie_word_embeddings=True, head_dim=8)),
    "gemma2": (
        "Gemma2Config", "Gemma2ForCausalLM",
        dict(tie_word_embeddings=True, head_dim=8, query_pre_attn_scalar=8, sliding_window=4,
             attn_logit_softcapping=5.0, final_logit_softcapping=3.0),
    ),
    "gemma3": (
        "Gemma3TextConfig", "Gemma3ForCausalLM",
        dict(tie_word_embeddings=True, head_dim=8, query_pre_attn_scalar=8, sliding_window=4,
             layer_types=["sliding_attention", "full_attention"]),
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {}),
    "mixtral": (
        "MixtralConfig", "MixtralForCausalLM", dict(num_local_experts=4, num_experts_per_tok=2),
    ),
    "qwen3_moe": (
        "Qwen3MoeConfig", "Qwen3MoeForCausalLM",
        dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    ),
}  # fmt: skip


def _family(name, *, shards=None, fp16=False, **changes):
    config, model, args = _FAMILIES[name]
    return Variant(config, model, {**COMMON, **args, **changes}, shards, fp16)


def _rope(rope_type, theta=10000.0, **more):
    return dict(rope_type=rope_type, rope_theta=theta, **more)


def _llama(**changes):
    return _family("llama", **{"attention_bias": False, "mlp_bias": False, **changes})


# With head_dim 8 there are four frequencies, of wavelengths 2π, 20π, 200π and
# 2000π: the original lengths below put one at least into each band of the
# piecewise scalings (llama3: kept, blended, divided; YaRN: 0, 1/3, 2/3, 1).
VARIANTS = {
    "llama": _family("llama", shards="4KB", fp16=True),
    "llama-plain": _llama(),
    "llama-tied": _llama(tie_word_embeddings=True),
    "llama-attention-bias": _llama(attention_bias=True),
    "llama-mlp-bias": _llama(mlp_bias=True),
    "llama-head-dim": _llama(head_dim=8),
    "llama-mqa": _llama(num_key_value_heads=1),
    "llama-mha": _llama(num_key_value_heads=4),
    "llama-gelu": _llama(hidden_act="gelu"),
    "llama-theta": _llama(rope_parameters=_rope("default", 500000.0)),
    "llama-rope-llama3": _llama(
        head_dim=8,
        rope_parameters=_rope("llama3", factor=8.0, low_freq_factor=0.25, high_freq_factor=4.0,
                              original_max_position_embeddings=48)),
    "llama-rope-linear": _llama(head_dim=8, rope_parameters=_rope("linear", factor=2.5)),
    "llama-rope-yarn": _llama(
        head_dim=8, max_position_embeddings=4096,
        rope_parameters=_rope("yarn", factor=4.0, original_max_position_embeddings=1024)),
    "llama-rope-yarn-mscale": _llama(
        head_dim=8, max_position_embeddings=4096,
        rope_parameters=_rope("yarn", factor=4.0, original_max_position_embeddings=1024,
                              beta_fast=24.0, beta_slow=0.5, mscale=0.7, mscale_all_dim=1.1,
                              truncate=False)),
    # Twelve reference tokens are more than eight positions: the scaling is live.
    "llama-rope-dynamic": _llama(
        head_dim=8, max_position_embeddings=8, rope_parameters=_rope("dynamic", factor=2.0)),
    "mistral": _family("mistral"),
    "mistral-full": _family("mistral", sliding_window=None),
    "mistral-tied": _family("mistral", tie_word_embeddings=True),
    "qwen2": _family("qwen2"),
    "qwen2-tied": _family("qwen2", tie_word_embeddings=True),
    "qwen2-sliding": _family(
        "qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen2-yarn": _family(
        "qwen2", num_attention_heads=2, max_position_embeddings=4096,
        rope_parameters=_rope("yarn", 1e6, factor=4.0, original_max_position_embeddings=1024)),
    "qwen3": _family("qwen3"),
    "qwen3-bias": _family("qwen3", attention_bias=True),
    "qwen3-tied": _family("qwen3", tie_word_embeddings=True),
    "qwen3-sliding": _family(
        "qwen3", use_sliding_window=True, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"]),
    "gemma": _family("gemma"),
    "gemma-mqa": _family("gemma", num_key_value_heads=1),
    "gemma-untied": _family("gemma", tie_word_embeddings=False),
    "gemma2": _family("gemma2"),
    "gemma2-uncapped": _family("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None),
    "gemma2-scalar": _family("gemma2", query_pre_attn_scalar=13, num_hidden_layers=3),
    "gemma3": _family("gemma3"),
    "gemma3-pattern": _family("gemma3", num_hidden_layers=7, layer_types=None),
    "gemma3-scaled": _family(
        "gemma3",
        rope_parameters={"full_attention": _rope("linear", 1e6, factor=8.0),
                         "sliding_attention": _rope("default")}),
    "gemma3-capped": _family("gemma3", final_logit_softcapping=3.0, query_pre_attn_scalar=13),
    "phi3": _family("phi3"),
    "phi3-partial": _family(
        "phi3", num_attention_heads=2, rope_parameters=_rope("default", partial_rotary_factor=0.5)),
    "phi3-sliding": _family("phi3", sliding_window=4),
    "phi3-tied": _family("phi3", tie_word_embeddings=True),
    "phi3-longrope": _family(
        "phi3", original_max_position_embeddings=32,
        rope_parameters=_rope("longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 7.0],
                              original_max_position_embeddings=32)),
    # The same, but the twelve reference tokens are more than eight: long factors.
    "phi3-longrope-long": _family(
        "phi3", original_max_position_embeddings=8,
        rope_parameters=_rope("longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 7.0],
                              original_max_position_embeddings=8)),
    "mixtral": _family("mixtral"),
    "mixtral-sliding": _family("mixtral", sliding_window=4, num_local_experts=3, num_experts_per_tok=1),
    "qwen3_moe": _family("qwen3_moe"),
    "qwen3_moe-normed": _family("qwen3_moe", norm_topk_prob=True),
    "qwen3_moe-step": _family("qwen3_moe", num_hidden_layers=3, decoder_sparse_step=2),
    "qwen3_moe-dense": _family("qwen3_moe", mlp_only_layers=[0], attention_bias=True),
    "qwen3_moe-sliding": _family("qwen3_moe", use_sliding_window=True, sliding_window=4),
    "qwen3_moe-tied": _family("qwen3_moe", tie_word_embeddings=True),
}  # fmt: skip

# Families without a builder, hosts of negative controls: a feed-forward with
# GELU and no gate, and clipped projections.
_NO_RMS = {k: v for k, v in COMMON.items() if k != "rms_norm_eps"}
CONTROL_HOSTS = {
    "phi": Variant("PhiConfig", "PhiForCausalLM", {**_NO_RMS, "partial_rotary_factor": 0.5}),
    "olmo-clipped": Variant("OlmoConfig", "OlmoForCausalLM", {**_NO_RMS, "clip_qkv": 1.0}),
}

# The variants that every run of the suite compares: those above, and one of
# every family whose free dimensions are known. INTEROP_VARIANTS=all asks for all.
USUAL = list(VARIANTS)

for _more in (families_decoders, families_mixtures, families_others):
    FREE_DIMS.update(_more.FREE_DIMS)
    VARIANTS.update(_more.VARIANTS)
    USUAL += list(_more.FREE_DIMS)


def variants(names=()):
    """The named variants, or all of them; an unknown name is an error."""
    unknown = [n for n in names if n not in VARIANTS]
    if unknown:
        raise SystemExit(f"unknown variant {', '.join(unknown)}; known: {', '.join(VARIANTS)}")
    return {n: VARIANTS[n] for n in (names or VARIANTS)}


def randomise(model, seed=1):
    """Replace every parameter by seeded noise in place.

    Matrices get 1.3/sqrt(fan in), so that no layer is negligible and logits
    are of order one; norm gains spread around their neutral value (1, or 0 for
    Gemma's 1+w), biases around 0. One generator per tensor, seeded by its
    position, keeps the result the same whatever the parameter's memory layout.
    """
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(1000 * seed + i))
            if p.dim() > 1:
                p.copy_(noise * 1.3 / p.shape[-1] ** 0.5)
            elif re.search(r"norm[^.]*\.weight$", name):
                p.add_(0.3 * noise)
            else:
                p.copy_(0.3 * noise)
    return model
