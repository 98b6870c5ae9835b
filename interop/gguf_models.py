"""Write tiny models in GGUF, from the fixtures of the Go tests.

    python gguf_models.py FIXTURES OUT [NAME[:TYPE] ...]

For each family that llama.cpp knows, OUT/NAME.gguf holds the weights of
FIXTURES/NAME, a small checkpoint as transformers wrote it, with the metadata,
the names and the layouts that llama.cpp's convert_hf_to_gguf.py gives them:
rotary pairs of Llama side by side, norms of Gemma as 1+w, fused projections in
the order [q; k; v], experts in one tensor, -exp(A_log). Matrices are F32, so
that the logits in FIXTURES/NAME/reference.json hold for the file too; with a
TYPE, OUT/NAME-TYPE.gguf has the matrices in that type, by gguf-py's quantiser.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
SANDWICH = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
WIDE = {"mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}

# fixture: architecture, names of layers, prefix, names of the rest
FAMILIES = {
    "llama": ("llama", LAYER), "llama-tied": ("llama", LAYER), "llama-head-dim": ("llama", LAYER), "llama-mqa": ("llama", LAYER),
    "llama-rope-llama3": ("llama", LAYER), "llama-rope-linear": ("llama", LAYER), "llama-rope-yarn": ("llama", LAYER),
    "mixtral": ("llama", LAYER | {"block_sparse_moe.gate": "ffn_gate_inp"}),
    "qwen2": ("qwen2", LAYER), "qwen3": ("qwen3", LAYER), "qwen3_moe-normed": ("qwen3moe", LAYER | {"mlp.gate": "ffn_gate_inp"}),
    "gemma": ("gemma", LAYER), "gemma2": ("gemma2", LAYER | SANDWICH), "gemma3": ("gemma3", LAYER | SANDWICH),
    "phi3": ("phi3", LAYER | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}),
    "phi3-longrope": ("phi3", LAYER | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}),
    "olmo2": ("olmo2", LAYER | SANDWICH),
    "starcoder2": ("starcoder2", LAYER | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}),
    "gpt_oss": ("gpt-oss", LAYER | {"post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp"}),
    "deepseek_v2": ("deepseek2", None), "deepseek_v2-lite": ("deepseek2", None), "deepseek_v3": ("deepseek2", None),
    "gpt2": ("gpt2", {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_1": "attn_norm", "ln_2": "ffn_norm",
                      "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}),
    "falcon7b": ("falcon", WIDE | {"input_layernorm": "attn_norm", "self_attention.dense": "attn_output"}),
    "falcon40b": ("falcon", WIDE | {"ln_mlp": "attn_norm", "ln_attn": "attn_norm_2", "self_attention.dense": "attn_output"}),
    "gpt_neox": ("gptneox", WIDE | {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "attention.dense": "attn_output"}),
    "mamba": ("mamba", {"norm": "attn_norm", "mixer.in_proj": "ssm_in", "mixer.conv1d": "ssm_conv1d", "mixer.x_proj": "ssm_x",
                        "mixer.dt_proj": "ssm_dt", "mixer.D": "ssm_d", "mixer.out_proj": "ssm_out"}),
    "bert-bare": ("bert", {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
                           "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
                           "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}),
}  # fmt: skip
PLACES = {
    "gpt2": ("transformer.h.", {"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}),
    "falcon": ("transformer.h.", {"transformer.word_embeddings": "token_embd", "transformer.ln_f": "output_norm", "lm_head": "output"}),
    "gptneox": ("gpt_neox.layers.", {"gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output"}),
    "mamba": ("backbone.layers.", {"backbone.embeddings": "token_embd", "backbone.norm_f": "output_norm"}),
    "bert": ("encoder.layer.", {"embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
                                "embeddings.position_embeddings": "position_embd", "embeddings.LayerNorm": "token_embd_norm"}),
}  # fmt: skip
DEEPSEEK = LAYER | {
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip


def load(path):
    """The tensors of a safetensors file in F32 or BF16, as F32."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        raw = data[8 + size :][slice(*t["data_offsets"])]
        if t["dtype"] == "BF16":
            x = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            x = np.frombuffer(raw, {"F32": np.float32}[t["dtype"]])
        out[name] = x.reshape(t["shape"])
    return out


def pairs(w, heads):
    """Rotary pairs (i, i + dim/2) side by side."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def defused(w, kv, n, dim):
    """Rows by key/value head as [q; k; v]."""
    x = w.reshape(kv, n + 2, dim, *w.shape[1:])
    return np.concatenate([p.reshape(-1, *w.shape[1:]) for p in (x[:, :n], x[:, n : n + 1], x[:, n + 1 :])])


def tensors(arch, c, weights, layer_names):
    """The file's tensors, by name."""
    out = {}
    prefix, whole = PLACES.get(arch, ("model.layers.", WHOLE))
    heads = c.get("num_attention_heads") or c.get("n_head")
    kv = c.get("num_key_value_heads") or heads
    for name, w in weights.items():
        if name.startswith(prefix):
            i, rest = name.removeprefix(prefix).split(".", 1)
            if int(i) < c.get("num_hidden_layers", c.get("n_layer")):
                layer(out, arch, c, f"blk.{i}.", rest, w, layer_names, heads, kv)
            continue
        base, _, end = name.rpartition(".")
        if base in whole:
            if arch.startswith("gemma") and base.endswith("norm"):
                w = w + 1
            out[f"{whole[base]}.{end}"] = w
        else:
            assert base.startswith("pooler"), name
    return out


def layer(out, arch, c, at, rest, w, names, heads, kv):
    base, _, end = rest.rpartition(".")
    if "experts." in rest and "shared" not in rest:
        expert(out, arch, at, rest, w)
        return
    if rest == "self_attn.sinks":
        out[at + "attn_sinks.weight"] = w
    elif rest == "mixer.A_log":
        out[at + "ssm_a"] = -np.exp(w)
    elif rest == "mixer.D":
        out[at + "ssm_d"] = w
    elif rest == "mlp.gate.e_score_correction_bias":
        out[at + "exp_probs_b.bias"] = w
    elif base.endswith("query_key_value"):
        dim = c["hidden_size"] // heads
        group = heads if arch == "gptneox" else (c["num_kv_heads"] if c["new_decoder_architecture"] else 1)
        out[at + "attn_qkv." + end] = defused(w, group, heads // group, dim)
    elif arch == "deepseek2" and base == "self_attn.kv_b_proj" and c["model_type"] == "deepseek_v3":
        x = w.reshape(heads, c["qk_nope_head_dim"] + c["v_head_dim"], -1)
        out[at + "attn_k_b.weight"] = x[:, : c["qk_nope_head_dim"]].swapaxes(1, 2)
        out[at + "attn_v_b.weight"] = x[:, c["qk_nope_head_dim"] :]
    else:
        if arch == "llama" and base in ("self_attn.q_proj", "self_attn.k_proj"):
            w = pairs(w, heads if base.endswith("q_proj") else kv)
        if arch.startswith("gemma") and base.endswith("norm"):
            w = w + 1
        if arch == "gpt2" and w.ndim == 2:
            w = w.T
        if base == "mixer.conv1d" and w.ndim == 3:
            w = w[:, 0]
        out[at + names[base] + "." + end] = w


def expert(out, arch, at, rest, w):
    if arch == "gpt-oss":
        part = rest.removeprefix("mlp.experts.")
        end = ".bias" if part.endswith("_bias") else ".weight"
        part = part.removesuffix("_bias")
        if part == "down_proj":
            out[at + "ffn_down_exps" + end] = w.swapaxes(1, 2) if w.ndim == 3 else w
            return
        w = w.swapaxes(1, 2) if w.ndim == 3 else w
        out[at + "ffn_gate_exps" + end], out[at + "ffn_up_exps" + end] = w[:, 0::2], w[:, 1::2]
        return
    _, _, i, part, _ = rest.split(".")
    part = {"w1": "gate", "w3": "up", "w2": "down"}.get(part, part.removesuffix("_proj"))
    out.setdefault(at + f"ffn_{part}_exps.weight", {})[int(i)] = w


def metadata(w, arch, c, weights):
    heads = c.get("num_attention_heads") or c.get("n_head") or 0
    width = c.get("hidden_size") or c["n_embd"]
    w.add_block_count(c.get("num_hidden_layers") or c["n_layer"])
    w.add_context_length(c.get("max_position_embeddings") or c.get("n_positions") or 1 << 20)
    w.add_embedding_length(width)
    w.add_feed_forward_length(c.get("intermediate_size") or c.get("ffn_hidden_size") or c.get("n_inner") or 4 * width)
    w.add_head_count(heads)
    eps = next(c[k] for k in ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon") if k in c)
    if arch in ("gpt2", "falcon", "gptneox", "starcoder2", "bert"):
        w.add_layer_norm_eps(eps)
    else:
        w.add_layer_norm_rms_eps(eps)
    if arch == "mamba":
        w.add_ssm_conv_kernel(c["conv_kernel"])
        w.add_ssm_inner_size(c["intermediate_size"])
        w.add_ssm_state_size(c["state_size"])
        w.add_ssm_time_step_rank(c["time_step_rank"])
        return
    dim = c.get("head_dim") or width // heads
    if arch == "falcon":
        w.add_head_count_kv(c["num_kv_heads"] if c["new_decoder_architecture"] else 1)
    elif "num_key_value_heads" in c and arch != "deepseek2":
        w.add_head_count_kv(c["num_key_value_heads"])
    if c.get("head_dim") and arch != "deepseek2":
        w.add_key_length(dim)
        w.add_value_length(dim)
    if arch == "bert":
        w.add_causal_attention(False)
    if arch == "gptneox":
        w.add_parallel_residual(c["use_parallel_residual"])
        w.add_rope_dimension_count(int(dim * c["rope_parameters"]["partial_rotary_factor"]))
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if arch in ("gemma2", "gemma3", "gpt-oss"):
        w.add_sliding_window(c["sliding_window"])
    if arch == "gemma3":
        w.add_uint32("gemma3.attention.sliding_window_pattern", 1 + c["layer_types"].index("full_attention"))
    experts = c.get("num_local_experts") or c.get("n_routed_experts")
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(c["num_experts_per_tok"])
    if "moe_intermediate_size" in c:
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    if arch == "deepseek2":
        deepseek(w, c)
    rope(w, c, dim)


def deepseek(w, c):
    turned = c["qk_rope_head_dim"]
    w.add_rope_dimension_count(turned)
    w.add_kv_lora_rank(c["kv_lora_rank"])
    if c["q_lora_rank"]:
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    if c["model_type"] == "deepseek_v3":
        w.add_head_count_kv(1)
        w.add_key_length(c["kv_lora_rank"] + turned)
        w.add_value_length(c["kv_lora_rank"])
        w.add_key_length_mla(c["qk_nope_head_dim"] + turned)
        w.add_value_length_mla(c["v_head_dim"])
        w.add_expert_weights_norm(c["norm_topk_prob"])
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        w.add_expert_group_count(c["n_group"])
        w.add_expert_group_used_count(c["topk_group"])
    else:
        w.add_head_count_kv(c["num_key_value_heads"])
        w.add_key_length(c["qk_nope_head_dim"] + turned)
        w.add_value_length(c["v_head_dim"])


def rope(w, c, dim):
    r = c.get("rope_parameters")
    if not r:
        return
    if "full_attention" in r:
        r = r["full_attention"]
    w.add_rope_freq_base(r["rope_theta"])
    kind = r["rope_type"]
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(r["factor"])
    if kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(r["factor"])
        w.add_rope_scaling_orig_ctx_len(r.get("original_max_position_embeddings") or c["max_position_embeddings"])
    if kind == "llama3":
        f = r["rope_theta"] ** (np.arange(0, dim, 2) / dim)
        low, high = (r["original_max_position_embeddings"] / r[k] for k in ("low_freq_factor", "high_freq_factor"))
        wave = 2 * np.pi * f
        smooth = (r["original_max_position_embeddings"] / wave - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
        factor = np.where(wave < high, 1, np.where(wave > low, r["factor"], 1 / ((1 - smooth) / r["factor"] + smooth)))
        w.add_tensor("rope_freqs.weight", factor.astype(np.float32))
    if kind == "longrope":
        w.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
        scale = c["max_position_embeddings"] / c["original_max_position_embeddings"]
        w.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(c["original_max_position_embeddings"]))) if scale > 1 else 1.0)
        for which in ("long", "short"):
            w.add_tensor(f"rope_factors_{which}.weight", np.array(r[which + "_factor"], dtype=np.float32))
        w.add_rope_dimension_count(int(dim * r.get("partial_rotary_factor", 1)))


def write(fixture, path, quantise=None):
    """Convert one checkpoint; quantise returns a tensor's type, F32 when nil."""
    arch, names = FAMILIES.get(fixture.name, ("llama", LAYER))
    c = json.loads((fixture / "config.json").read_text())
    out = tensors(arch, c, load(fixture / "model.safetensors"), names or DEEPSEEK)
    w = gguf.GGUFWriter(str(path), arch)
    w.add_name(fixture.name)
    w.add_tokenizer_model("none")  # llama.cpp then takes token ids
    w.add_vocab_size(out["token_embd.weight"].shape[0])
    metadata(w, arch, c, out)
    for name, x in out.items():
        if isinstance(x, dict):
            x = np.stack([x[i] for i in sorted(x)])
        x = np.ascontiguousarray(x, dtype=np.float32)
        kind = quantise(name, x) if quantise else None
        if kind is None:
            w.add_tensor(name, x)
        else:
            w.add_tensor(name, gguf.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def matrices(kind):
    """Quantise what llama.cpp's quantiser would: matrices, but not routers."""
    kind = gguf.GGMLQuantizationType[kind]

    def of(name, x):
        return kind if x.ndim > 1 and not name.endswith("gate_inp.weight") else None

    return of


def main():
    fixtures, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or FAMILIES:
        name, _, kind = name.partition(":")
        write(fixtures / name, out / f"{name}{kind and '-' + kind}.gguf", matrices(kind) if kind else None)


if __name__ == "__main__":
    main()
