"""State space models, recurrent ones, encoders, encoder-decoders, vision and speech."""

from dataclasses import dataclass

import torch
from variant import COMMON, HIDDEN, LAYERS, VOCAB, Variant

FREE_DIMS = {
    "mamba": 114,
    "falcon_mamba": 112,
    "mamba2": 224,
    "jamba": 257,
    "rwkv": 160,
    "t5": 464,
    "t5v11": 464,
    "bert": 80,
    "vit": 144,
    "dinov2": 192,
    "clip": 254,
    "whisper": 368,
}

@dataclass(frozen=True)
class Biased(Variant):
    """A variant whose logits get a bias that is no parameter and starts at zero."""

    def build(self):
        model = super().build()
        with torch.no_grad():
            noise = torch.randn(model.final_logits_bias.shape, generator=torch.Generator().manual_seed(5))
            model.final_logits_bias.copy_(0.3 * noise)
        return model


@dataclass(frozen=True)
class Corrected(Variant):
    """A variant whose routers choose by a correction, which is no parameter and starts at zero."""

    def build(self):
        model = super().build()
        with torch.no_grad():
            for i, (name, b) in enumerate(model.named_buffers()):
                if name.endswith("e_score_correction_bias"):
                    b.copy_(0.1 * torch.randn(b.shape, generator=torch.Generator().manual_seed(i)))
        return model


@dataclass(frozen=True)
class Untied(Variant):
    """A variant with a head of its own although its class ties it, as published T5 1.1 has."""

    def build(self):
        model = super().build()
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        return model


_SSM = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, state_size=5,
            expand=2, conv_kernel=4)  # fmt: skip
_T5 = dict(vocab_size=VOCAB, d_model=HIDDEN, d_kv=4, d_ff=24, num_layers=LAYERS, num_heads=4,
           decoder_start_token_id=0, relative_attention_num_buckets=8,
           relative_attention_max_distance=16)  # fmt: skip
_ENCODER = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
                intermediate_size=24, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
                eos_token_id=2)  # fmt: skip
_VISION = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
               intermediate_size=24, image_size=8, patch_size=4)  # fmt: skip
_CLIP_TEXT = dict(vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=24, num_hidden_layers=LAYERS,
                  num_attention_heads=4, max_position_embeddings=64, projection_dim=8,
                  eos_token_id=2, bos_token_id=1, pad_token_id=0)  # fmt: skip
_CLIP_VISION = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=LAYERS,
                    num_attention_heads=3, image_size=8, patch_size=4, projection_dim=8)  # fmt: skip
_SEQ2SEQ = dict(vocab_size=VOCAB, d_model=HIDDEN, encoder_layers=LAYERS, decoder_layers=LAYERS,
                encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=24,
                decoder_ffn_dim=24, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                decoder_start_token_id=1)  # fmt: skip
_WHISPER = dict(_SEQ2SEQ, num_mel_bins=8, max_source_positions=20, max_target_positions=64)
_JAMBA = {k: v for k, v in COMMON.items() if k != "max_position_embeddings"} | dict(
    num_experts=4, num_experts_per_tok=2, attn_layer_period=2, attn_layer_offset=1,
    expert_layer_period=2, expert_layer_offset=1, mamba_d_state=5, mamba_dt_rank=3, mamba_expand=2,
)  # fmt: skip
_MAMBA2 = _SSM | dict(state_size=6, num_heads=8, head_dim=4, n_groups=2, chunk_size=4,
                      tie_word_embeddings=False)  # fmt: skip


def _mamba(**changes):
    return Variant("MambaConfig", "MambaForCausalLM", _SSM | dict(time_step_rank=3) | changes)


def _falcon_mamba(**changes):
    args = _SSM | dict(time_step_rank=3, tie_word_embeddings=False)
    return Variant("FalconMambaConfig", "FalconMambaForCausalLM", args | changes)


def _mamba2(**changes):
    return Variant("Mamba2Config", "Mamba2ForCausalLM", _MAMBA2 | changes)


def _jamba(**changes):
    return Variant("JambaConfig", "JambaForCausalLM", _JAMBA | changes)


def _rwkv(**changes):
    args = dict(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS,
                attention_hidden_size=HIDDEN, intermediate_size=24, context_length=64,
                rescale_every=0)  # fmt: skip
    return Variant("RwkvConfig", "RwkvForCausalLM", args | changes)


def _bamba(**changes):
    args = COMMON | dict(attn_layer_indices=[1], mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=6, mamba_chunk_size=4)
    return Variant("BambaConfig", "BambaForCausalLM", args | changes)


def _nemotron_h(**changes):
    args = {k: v for k, v in COMMON.items() if k not in ("rms_norm_eps", "num_hidden_layers")} | dict(
        layers_block_type=["linear_attention", "mlp", "full_attention", "moe"], head_dim=8, mamba_num_heads=8,
        mamba_head_dim=4, n_groups=2, ssm_state_size=6, n_routed_experts=4, moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=24, chunk_size=4)  # fmt: skip
    return Corrected("NemotronHConfig", "NemotronHForCausalLM", args | changes)


def _t5(model="T5ForConditionalGeneration", **changes):
    return Variant("T5Config", model, _T5 | changes)


def _bert(model="BertForMaskedLM", **changes):
    return Variant("BertConfig", model, _ENCODER | changes)


def _modernbert(model="ModernBertForMaskedLM", **changes):
    return Variant("ModernBertConfig", model, _ENCODER | changes)


def _vit(model="ViTForImageClassification", **changes):
    return Variant("ViTConfig", model, _VISION | changes)


def _dinov2(model="Dinov2Model", **changes):
    args = {k: v for k, v in _VISION.items() if k != "intermediate_size"}
    return Variant("Dinov2Config", model, args | dict(mlp_ratio=2, layerscale_value=0.7) | changes)


def _clip(text=(), vision=(), **changes):
    args = dict(text_config=_CLIP_TEXT | dict(text), vision_config=_CLIP_VISION | dict(vision), projection_dim=8)
    return Variant("CLIPConfig", "CLIPModel", args | changes)


def _whisper(model="WhisperForConditionalGeneration", **changes):
    return Variant("WhisperConfig", model, _WHISPER | changes)


def _bart(model="BartForConditionalGeneration", config="BartConfig", kind=Biased, **changes):
    return kind(config, model, _SEQ2SEQ | dict(max_position_embeddings=64) | changes)


VARIANTS = {
    "mamba": _mamba(use_bias=True, tie_word_embeddings=True),
    "mamba-untied": _mamba(use_bias=False, use_conv_bias=False, tie_word_embeddings=False, time_step_rank="auto"),
    "mamba-bare": Variant("MambaConfig", "MambaModel", _SSM | dict(time_step_rank=3)),
    "falcon_mamba": _falcon_mamba(),
    "falcon_mamba-tied": _falcon_mamba(tie_word_embeddings=True, use_bias=True, use_conv_bias=False, mixer_rms_eps=1e-4),
    "mamba2": _mamba2(),
    "mamba2-tied": _mamba2(tie_word_embeddings=True, use_bias=True, use_conv_bias=False, n_groups=1),
    "mamba2-limited": _mamba2(time_step_limit=[0.3, 0.9], chunk_size=256),
    "jamba": _jamba(),
    "jamba-bias": _jamba(mamba_conv_bias=False, mamba_proj_bias=True, tie_word_embeddings=True, num_experts=1,
                         num_experts_per_tok=1),
    "rwkv": _rwkv(),
    "rwkv-rescaled": _rwkv(rescale_every=1, tie_word_embeddings=True),
    "bamba": _bamba(),
    "bamba-bias": _bamba(mamba_conv_bias=False, mamba_proj_bias=True, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "nemotron_h": _nemotron_h(),
    "nemotron_h-groups": _nemotron_h(n_group=2, topk_group=1, norm_topk_prob=False, routed_scaling_factor=2.5, mlp_bias=False,
                                     use_bias=True, tie_word_embeddings=True, layers_block_type=["moe", "full_attention", "linear_attention"]),
    "t5": _t5(),
    "t5v11": _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5-untied": Untied("T5Config", "T5ForConditionalGeneration", _T5 | dict(
        feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "t5-encoder": _t5("T5EncoderModel", feed_forward_proj="gated-silu"),
    "t5-bare": _t5("T5Model", num_decoder_layers=1, feed_forward_proj="gelu"),
    "bert": _bert(),
    "bert-bare": _bert("BertModel"),
    "bert-pretraining": _bert("BertForPreTraining", hidden_act="relu"),
    "bert-classifier": _bert("BertForSequenceClassification", num_labels=3),
    "roberta": Variant("RobertaConfig", "RobertaForMaskedLM", _ENCODER | dict(type_vocab_size=1, max_position_embeddings=66)),
    "roberta-bare": Variant("XLMRobertaConfig", "XLMRobertaModel", _ENCODER | dict(max_position_embeddings=66)),
    "distilbert": Variant("DistilBertConfig", "DistilBertForMaskedLM", dict(
        vocab_size=VOCAB, dim=HIDDEN, n_layers=LAYERS, n_heads=4, hidden_dim=24, max_position_embeddings=64)),
    "modernbert": _modernbert(local_attention=4, global_attn_every_n_layers=2, num_hidden_layers=3),
    "modernbert-bias": _modernbert(
        "ModernBertForSequenceClassification", local_attention=4, norm_bias=True, attention_bias=True, mlp_bias=True,
        classifier_bias=True, classifier_pooling="mean", hidden_activation="silu", num_labels=3),
    "modernbert-bare": _modernbert("ModernBertModel"),
    "vit": _vit(),
    "vit-bare": _vit("ViTModel", qkv_bias=False, hidden_act="gelu_new"),
    "dinov2": _dinov2(),
    "dinov2-swiglu": _dinov2(use_swiglu_ffn=True, qkv_bias=False),
    "dinov2-classifier": _dinov2("Dinov2ForImageClassification", num_labels=3),
    "clip": _clip(),
    "clip-eos": _clip(text=dict(eos_token_id=9, hidden_act="gelu")),
    "clip-text": Variant("CLIPTextConfig", "CLIPTextModel", _CLIP_TEXT),
    "clip-vision": Variant("CLIPVisionConfig", "CLIPVisionModel", _CLIP_VISION),
    "clip-text-projection": Variant("CLIPTextConfig", "CLIPTextModelWithProjection", _CLIP_TEXT),
    "siglip": Variant("SiglipConfig", "SiglipModel", dict(
        text_config={k: v for k, v in _CLIP_TEXT.items() if k != "projection_dim"},
        vision_config={k: v for k, v in _CLIP_VISION.items() if k != "projection_dim"} | dict(hidden_size=16, num_attention_heads=4))),
    "whisper": _whisper(),
    "whisper-bare": _whisper("WhisperModel", scale_embedding=True, activation_function="relu"),
    "bart": _bart(),
    "bart-bare": _bart("BartModel", kind=Variant, scale_embedding=True, activation_function="relu"),
    "mbart": _bart("MBartForConditionalGeneration", "MBartConfig", scale_embedding=True),
    "marian": _bart("MarianMTModel", "MarianConfig", scale_embedding=True, activation_function="swish"),
}  # fmt: skip


def _endless(config):
    """Bounds that are infinite, as JSON with Python's own literal."""
    config["time_step_limit"] = [float(x["__float__"]) if isinstance(x, dict) else x for x in config["time_step_limit"]]
    return config


def _tied_by_hand(config):
    """T5's tie also says whether the decoder's output is scaled."""
    config["tie_word_embeddings"] = config.pop("scale_decoder_outputs")
    return config


def _two_thetas(config):
    """One rotary base for the layers that see all, one for the others."""
    rope = config.pop("rope_parameters")
    config.pop("layer_types")
    config["global_rope_theta"] = rope["full_attention"]["rope_theta"]
    config["local_rope_theta"] = rope["sliding_attention"]["rope_theta"]
    return config


def _bamba_v4(config):
    """The rotary base on top; half of each head is rotated whatever the config says."""
    rope = config.pop("rope_parameters")
    return _endless(config | {"rope_theta": rope["rope_theta"], "rope_scaling": None})


def _pattern(config):
    """One letter a layer."""
    letters = {"linear_attention": "M", "moe": "E", "full_attention": "*", "mlp": "-"}
    config["hybrid_override_pattern"] = "".join(letters[k] for k in config.pop("layers_block_type"))
    return _endless(config)


SPELLINGS = {"bamba": _bamba_v4, "nemotron_h": _pattern, "mamba2": _endless, "t5": _tied_by_hand, "modernbert": _two_thetas}
