"""Edits that look like inverse pairs and are not: each must change the logits.

    python controls.py

Every control makes a tiny model, scales slices of its stored tensors by powers
of two the wrong way, and measures the largest difference of the logits
relative to the largest logit. Where a right way exists, it is applied too and
must be exact: that shows that the edit, not the harness, made the difference.
One JSON line each; exit status 1 if a control was exact or a right way was not.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from checkpoints import TOKENS, load, logits
from families import CONTROL_HOSTS, VARIANTS, randomise
from safetensors.torch import load_file, save_file


class Checkpoint:
    """The tensors of a saved tiny model, with its config, edited in place."""

    def __init__(self, folder):
        self.file = Path(folder, "model.safetensors")
        self.config = json.loads(Path(folder, "config.json").read_text())
        self.tensors = load_file(self.file)

    def scale(self, name, axis, exponents):
        """Multiply slice i along axis of tensor name by 2^exponents[i]."""
        t = self.tensors[name]
        shape = [-1 if a == axis % t.dim() else 1 for a in range(t.dim())]
        t.mul_(torch.exp2(torch.as_tensor(exponents, dtype=t.dtype)).reshape(shape))

    def rows(self, linear, exponents, bias=True):
        """Scale the outputs of a linear layer, with its bias unless told not to."""
        self.scale(linear + ".weight", 0, exponents)
        if bias and linear + ".bias" in self.tensors:
            self.scale(linear + ".bias", 0, exponents)

    def columns(self, linear, exponents):
        """Divide the inputs of a linear layer."""
        self.scale(linear + ".weight", 1, -exponents)

    def save(self):
        save_file(self.tensors, self.file, metadata={"format": "pt"})


ATTN, MLP = "model.layers.0.self_attn.", "model.layers.0.mlp."
HEADS, KV_HEADS = 4, 2
N_REP = HEADS // KV_HEADS


def exponents(*shape):
    """Fixed exponents in -3..3, all different from zero."""
    random = torch.Generator().manual_seed(3)
    e = torch.randint(1, 4, shape, generator=random)
    return torch.where(torch.rand(shape, generator=random) < 0.5, -e, e)


def repeat(e):
    """Exponents [kv head, channel] for the query heads, as repeat_kv shares them."""
    return e.repeat_interleave(N_REP, dim=0)


def query_key(c, per_channel):
    """Scale q rows up and k rows down by exponents [kv head, channel]."""
    c.rows(ATTN + "q_proj", repeat(per_channel).flatten())
    c.rows(ATTN + "k_proj", -per_channel.flatten())


def rotary_halves(c, dim=4):
    half = exponents(KV_HEADS, dim // 2)
    query_key(c, torch.cat([half, half], dim=1))


def rotary_neighbours(c, dim=4):
    query_key(c, exponents(KV_HEADS, dim // 2).repeat_interleave(2, dim=1))


def rotary_untied(c, dim=4):
    query_key(c, exponents(KV_HEADS, dim))


def value_output(c, share=repeat, bias=True, dim=4):
    e = exponents(KV_HEADS, dim)
    c.rows(ATTN + "v_proj", e.flatten(), bias=bias)
    c.columns(ATTN + "o_proj", share(e).flatten())


def value_output_tiled(c):
    value_output(c, share=lambda e: e.repeat(N_REP, 1))


def value_output_no_bias(c):
    value_output(c, bias=False)


def value_output_large(c):
    e = torch.full((HEADS * 4,), 6)
    c.rows(ATTN + "v_proj", e[: KV_HEADS * 4])
    c.columns(ATTN + "o_proj", e)


def up_down(c, up="up_proj", down="down_proj"):
    e = exponents(c.config["intermediate_size"])
    c.rows(MLP + up, e)
    c.columns(MLP + down, e)


def up_down_gelu(c):
    up_down(c, "fc1", "fc2")


def norm_experts(c, router=True):
    moe = "model.layers.0.block_sparse_moe."
    e = exponents(c.config["hidden_size"])
    c.scale("model.layers.0.post_attention_layernorm.weight", 0, e)
    for i in range(c.config["num_local_experts"]):
        c.columns(f"{moe}experts.{i}.w1", e)
        c.columns(f"{moe}experts.{i}.w3", e)
    if router:
        c.columns(moe + "gate", e)


def norm_experts_no_router(c):
    norm_experts(c, router=False)


def norm_projections(c):
    e = exponents(c.config["hidden_size"])
    c.scale("model.layers.0.input_layernorm.weight", 0, e)
    for x in "qkv":
        c.columns(f"{ATTN}{x}_proj", e)


def final_norm(c):
    e = exponents(c.config["hidden_size"])
    c.scale("model.norm.weight", 0, e)
    c.columns("lm_head", e)


def final_norm_tied(c):
    e = exponents(c.config["hidden_size"])
    c.scale("model.norm.weight", 0, e)
    c.columns("model.embed_tokens", e)


def query_key_under_norm(c):
    rotary_halves(c, dim=8)


def norm_gains_of_query_key(c):
    half = exponents(4)
    c.scale(ATTN + "q_norm.weight", 0, torch.cat([half, half]))
    c.scale(ATTN + "k_norm.weight", 0, -torch.cat([half, half]))


@dataclass(frozen=True)
class Control:
    """A wrong edit on one variant, and the right one (on right_host, if another)."""

    host: str
    wrong: Callable
    right: Callable | None = None
    right_host: str | None = None


CONTROLS = {
    "untied rotary pair": Control("llama-plain", rotary_untied, rotary_halves),
    "wrong rotary layout": Control("llama-plain", rotary_neighbours, rotary_halves),
    "tiled instead of repeated GQA": Control("llama-plain", value_output_tiled, value_output),
    "forgotten bias": Control("llama", value_output_no_bias, value_output),
    "forgotten router": Control("mixtral", norm_experts_no_router, norm_experts),
    "up/down under GELU": Control("phi", up_down_gelu, up_down, "llama-gelu"),
    "tied final norm": Control("llama-tied", final_norm_tied, final_norm, "llama-plain"),
    "q/k rows under q/k norm": Control("qwen3", query_key_under_norm, norm_gains_of_query_key),
    "gain of a (1+w) norm": Control("gemma", norm_projections, norm_projections, "llama-plain"),
    "value/output under clip_qkv": Control(
        "olmo-clipped", value_output_large, value_output_large, "llama-plain"),
}  # fmt: skip


def effect(host, edit, folder):
    """Logits of the host before and after the edit on disk, in fp32."""
    shutil.rmtree(folder, ignore_errors=True)
    randomise((VARIANTS | CONTROL_HOSTS)[host].build()).save_pretrained(folder)
    before = logits(load(folder), [TOKENS])
    checkpoint = Checkpoint(folder)
    edit(checkpoint)
    checkpoint.save()
    return before, logits(load(folder), [TOKENS])


def main():
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, control in CONTROLS.items():
            before, after = effect(control.host, control.wrong, folder)
            difference = ((after - before).abs().max() / before.abs().max()).item()
            line = {"control": name, "max_rel_diff": difference}
            # Far above rounding, and false for NaN: a broken host is no control.
            failed |= not difference > 1e-3
            if control.right:
                right = torch.equal(*effect(control.right_host or control.host, control.right, folder))
                line["right_way_exact"] = right
                failed |= not right
            print(json.dumps(line), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
