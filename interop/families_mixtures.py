"""Mixtures of experts and hybrids of recent years."""

from dataclasses import dataclass

import torch
from variant import COMMON, Variant

FREE_DIMS = {
    "qwen2_moe": 280,
    "deepseek_v2": 308,
    "deepseek_v3": 308,
    "gpt_oss": 128,
    "olmoe": 296,
}

# Names of further variants with a committed fixture.
FIXTURES = []


@dataclass(frozen=True)
class Routed(Variant):
    """A variant whose routers choose by a correction, which is no parameter and starts at zero."""

    def build(self):
        model = super().build()
        with torch.no_grad():
            for i, (name, b) in enumerate(model.named_buffers()):
                if name.endswith(("e_score_correction_bias", "expert_bias")):
                    b.copy_(0.1 * torch.randn(b.shape, generator=torch.Generator().manual_seed(i)))
        return model


_MOE = dict(num_experts=4, num_experts_per_tok=2)
_NO_EPS = {k: v for k, v in COMMON.items() if k != "rms_norm_eps"}
_YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=1024,
             mscale=0.7, mscale_all_dim=1.1)  # fmt: skip
_LATENT = COMMON | dict(
    num_key_value_heads=4, moe_intermediate_size=16, q_lora_rank=10, kv_lora_rank=6, qk_rope_head_dim=4,
    qk_nope_head_dim=6, v_head_dim=5, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1,
    first_k_dense_replace=1,
)  # fmt: skip
del _LATENT["rms_norm_eps"]


def _qwen2_moe(**changes):
    args = COMMON | _MOE | dict(moe_intermediate_size=16, shared_expert_intermediate_size=24)
    return Variant("Qwen2MoeConfig", "Qwen2MoeForCausalLM", args | changes)


def _olmoe(**changes):
    return Variant("OlmoeConfig", "OlmoeForCausalLM", COMMON | _MOE | changes)


def _deepseek_v2(**changes):
    args = _LATENT | dict(n_group=1, topk_group=1)
    return Variant("DeepseekV2Config", "DeepseekV2ForCausalLM", args | changes)


def _deepseek_v3(**changes):
    args = _LATENT | dict(n_group=2, topk_group=1)
    return Routed("DeepseekV3Config", "DeepseekV3ForCausalLM", args | changes)


def _gpt_oss(**changes):
    args = COMMON | dict(head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=4)
    return Variant("GptOssConfig", "GptOssForCausalLM", args | changes)


_GROUPS = dict(n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1, norm_topk_prob=True,
               n_shared_experts=1, first_k_dense_replace=1, moe_intermediate_size=16,
               routed_scaling_factor=1.7)  # fmt: skip


def _glm4_moe(**changes):
    return Routed("Glm4MoeConfig", "Glm4MoeForCausalLM", COMMON | _GROUPS | dict(head_dim=8) | changes)


def _dots1(**changes):
    return Routed("Dots1Config", "Dots1ForCausalLM", COMMON | _GROUPS | changes)


def _llama4(**changes):
    args = COMMON | dict(
        num_hidden_layers=3, head_dim=8, intermediate_size=16, intermediate_size_mlp=24, num_local_experts=4,
        no_rope_layer_interval=2, interleave_moe_layer_step=2, attention_chunk_size=5, floor_scale=3, attn_scale=0.4)
    return Variant("Llama4TextConfig", "Llama4ForCausalLM", args | changes)


_DELTA = COMMON | dict(
    head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=4, linear_value_head_dim=6,
    layer_types=["linear_attention", "full_attention"],
)  # fmt: skip


def _qwen3_next(**changes):
    args = _DELTA | _MOE | dict(moe_intermediate_size=8, shared_expert_intermediate_size=12)
    return Variant("Qwen3NextConfig", "Qwen3NextForCausalLM", args | changes)


def _qwen3_5(**changes):
    return Variant("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", _DELTA | changes)


def _qwen3_5_moe(**changes):
    args = _DELTA | _MOE | dict(moe_intermediate_size=8, shared_expert_intermediate_size=12)
    del args["intermediate_size"]
    return Variant("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM", args | changes)


_GRANITE = COMMON | dict(
    num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=3.0, logits_scaling=2.0,
    residual_multiplier=0.3, attention_multiplier=0.4,
)  # fmt: skip


def _granitemoe(config="GraniteMoeConfig", model="GraniteMoeForCausalLM", **changes):
    return Variant(config, model, _GRANITE | changes)


_MAMBA = dict(mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=2, mamba_d_state=5, mamba_expand=1, mamba_chunk_size=4)


def _granite_hybrid(**changes):
    args = _GRANITE | _MAMBA | dict(shared_intermediate_size=12, layer_types=["linear_attention", "full_attention"])
    return Variant("GraniteMoeHybridConfig", "GraniteMoeHybridForCausalLM", args | changes)


def _falcon_h1(**changes):
    return Variant("FalconH1Config", "FalconH1ForCausalLM", COMMON | _MAMBA | dict(mamba_d_ssm=16, num_hidden_layers=1) | changes)


_LFM2 = _NO_EPS | dict(layer_types=["conv", "full_attention"], norm_eps=1e-5)


def _lfm2(**changes):
    return Variant("Lfm2Config", "Lfm2ForCausalLM", _LFM2 | dict(block_multiple_of=4) | changes)


def _lfm2_moe(**changes):
    args = _LFM2 | _MOE | dict(num_hidden_layers=3, moe_intermediate_size=8, num_dense_layers=1,
                               layer_types=["full_attention", "conv", "full_attention"])
    return Routed("Lfm2MoeConfig", "Lfm2MoeForCausalLM", args | changes)


def _phimoe(**changes):
    args = COMMON | dict(num_local_experts=4, num_experts_per_tok=2, router_jitter_noise=0.3)
    return Variant("PhimoeConfig", "PhimoeForCausalLM", args | changes)


def _minimax(**changes):
    args = COMMON | dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=16, block_size=5)
    return Variant("MiniMaxConfig", "MiniMaxForCausalLM", args | changes)


def _dbrx(attn=(), ffn=(), **changes):
    args = dict(
        vocab_size=29, d_model=16, n_layers=2, n_heads=4, max_seq_len=64,
        attn_config=dict(kv_n_heads=2, clip_qkv=1.5, rope_theta=10000.0) | dict(attn),
        ffn_config=dict(ffn_hidden_size=12, moe_num_experts=4, moe_top_k=2) | dict(ffn))
    return Variant("DbrxConfig", "DbrxForCausalLM", args | changes)


def _ernie4_5_moe(**changes):
    args = COMMON | dict(moe_intermediate_size=8, moe_k=2, moe_num_experts=4, moe_num_shared_experts=2)
    return Variant("Ernie4_5_MoeConfig", "Ernie4_5_MoeForCausalLM", args | changes)


def _hunyuan_moe(**changes):
    args = COMMON | dict(num_experts=4, moe_topk=2, head_dim=8)
    return Variant("HunYuanMoEV1Config", "HunYuanMoEV1ForCausalLM", args | changes)


VARIANTS = {
    "qwen2_moe": _qwen2_moe(),
    "qwen2_moe-step": _qwen2_moe(num_hidden_layers=3, decoder_sparse_step=2, norm_topk_prob=True, qkv_bias=False),
    "qwen2_moe-sliding": _qwen2_moe(
        use_sliding_window=True, sliding_window=4, max_window_layers=1, mlp_only_layers=[0], tie_word_embeddings=True),
    "olmoe": _olmoe(),
    "olmoe-clipped": _olmoe(clip_qkv=0.7, norm_topk_prob=True, attention_bias=True, num_key_value_heads=4),
    "deepseek_v2": _deepseek_v2(),
    "deepseek_v2-lite": _deepseek_v2(q_lora_rank=None, attention_bias=True, n_shared_experts=2),
    "deepseek_v2-groups": _deepseek_v2(
        topk_method="group_limited_greedy", n_group=2, topk_group=1, routed_scaling_factor=1.7,
        rms_norm_eps=1e-5, max_position_embeddings=4096, rope_parameters=_YARN),
    "deepseek_v3": _deepseek_v3(),
    "deepseek_v3-yarn": _deepseek_v3(
        n_group=1, norm_topk_prob=False, q_lora_rank=None, rope_interleave=False, attention_bias=True,
        rms_norm_eps=1e-5, max_position_embeddings=4096, rope_parameters=_YARN),
    "gpt_oss": _gpt_oss(),
    "gpt_oss-plain": _gpt_oss(
        attention_bias=False, num_experts_per_tok=1, swiglu_limit=0.4, sliding_window=3,
        rope_parameters=dict(rope_type="linear", rope_theta=150000.0, factor=2.5)),
    "glm4_moe": _glm4_moe(attention_bias=True, use_qk_norm=True),
    "glm4_moe-air": _glm4_moe(n_group=1, norm_topk_prob=False, num_hidden_layers=3, first_k_dense_replace=2),
    "dots1": _dots1(),
    "dots1-sliding": _dots1(
        sliding_window=4, max_window_layers=1, attention_bias=True, norm_topk_prob=False, n_shared_experts=2),
    "llama4_text": _llama4(),
    "llama4_text-plain": _llama4(
        use_qk_norm=False, attn_temperature_tuning=False, attention_bias=True, moe_layers=[0], num_hidden_layers=2,
        no_rope_layers=[0, 1], num_experts_per_tok=2),
    "qwen3_next": _qwen3_next(),
    "qwen3_next-dense": _qwen3_next(
        norm_topk_prob=False, attention_bias=True, mlp_only_layers=[0], num_hidden_layers=3, layer_types=None,
        full_attention_interval=3, linear_num_value_heads=2, linear_conv_kernel_dim=3),
    "qwen3_5_text": _qwen3_5(),
    "qwen3_5_moe_text": _qwen3_5_moe(),
    "granitemoe": _granitemoe(),
    "granitemoe-bias": _granitemoe(attention_bias=True, tie_word_embeddings=True),
    "granitemoeshared": _granitemoe(
        "GraniteMoeSharedConfig", "GraniteMoeSharedForCausalLM", shared_intermediate_size=12),
    "granitemoehybrid": _granite_hybrid(position_embedding_type="rope"),
    "granitemoehybrid-dense": _granite_hybrid(
        num_local_experts=0, num_experts_per_tok=0, mamba_conv_bias=False, mamba_proj_bias=True,
        position_embedding_type=None, time_step_limit=[0.3, 0.9]),
    "falcon_h1": _falcon_h1(),
    "falcon_h1-scaled": _falcon_h1(
        num_hidden_layers=2, mamba_rms_norm=True, projectors_bias=True, attention_bias=True, mlp_bias=True,
        mamba_d_ssm=None, lm_head_multiplier=0.7, embedding_multiplier=3.0, mlp_multipliers=[0.6, 1.4],
        key_multiplier=0.7, attention_out_multiplier=0.8, attention_in_multiplier=1.3,
        ssm_multipliers=[0.5, 0.7, 1.2, 1.4, 0.8], ssm_in_multiplier=1.1, ssm_out_multiplier=0.9),
    "falcon_h1-late": _falcon_h1(
        mamba_rms_norm=True, mamba_norm_before_gate=False, mamba_proj_bias=True, mamba_conv_bias=False,
        tie_word_embeddings=True),
    "lfm2": _lfm2(),
    "lfm2-bias": _lfm2(conv_bias=True, block_auto_adjust_ff_dim=False, tie_word_embeddings=True, conv_L_cache=4),
    "lfm2_moe": _lfm2_moe(),
    "lfm2_moe-plain": _lfm2_moe(
        use_expert_bias=False, norm_topk_prob=False, conv_bias=True, routed_scaling_factor=1.7,
        tie_word_embeddings=True),
    "phimoe": _phimoe(attention_bias=True, lm_head_bias=True),
    "phimoe-longrope": _phimoe(
        sliding_window=4, original_max_position_embeddings=8,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.5], long_factor=[2.0, 7.0],
                             short_mscale=1.1, long_mscale=1.3, original_max_position_embeddings=8)),
    "minimax": _minimax(),
    "minimax-scaled": _minimax(
        num_local_experts=2, num_experts_per_tok=1, full_attn_alpha_factor=1.5, full_attn_beta_factor=0.5,
        linear_attn_alpha_factor=1.2, linear_attn_beta_factor=0.7, mlp_alpha_factor=0.9, mlp_beta_factor=1.1,
        sliding_window=4, layer_types=["linear_attention", "full_attention"]),
    "dbrx": _dbrx(),
    "dbrx-unnormed": _dbrx(attn=dict(clip_qkv=100.0, kv_n_heads=4), ffn=dict(moe_normalize_expert_weights=None)),
    "ernie4_5_moe": _ernie4_5_moe(),
    "ernie4_5_moe-bias": _ernie4_5_moe(
        use_bias=True, num_hidden_layers=3, moe_layer_start_index=0, moe_layer_end_index=1, moe_layer_interval=2,
        moe_num_shared_experts=0, tie_word_embeddings=True),
    "hunyuan_v1_moe": _hunyuan_moe(),
    "hunyuan_v1_moe-alpha": _hunyuan_moe(
        attention_bias=True, num_experts=2, moe_topk=1, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=1.0, alpha=1000.0)),
}  # fmt: skip

FIXTURES += [n for n in VARIANTS if n not in FREE_DIMS]
