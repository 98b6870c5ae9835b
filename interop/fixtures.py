"""Write the small committed fixtures of the Go tests.

    python fixtures.py OUT [NAME ...]

For each family of FREE_DIMS, and for the variants that change the forward pass
most, OUT/NAME holds one fp32 model, reference.json (see checkpoints.py) and
config-v4.json: the same configuration in the spelling of transformers 4, which
is what most published checkpoints carry. The script loads the model under that
spelling too and demands the same logits.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import families_decoders
import families_mixtures
import families_others
import torch
from checkpoints import TOKENS, load, logits, write_reference
from families import FREE_DIMS, randomise, variants

EXTRA = [
    "llama-tied", "llama-head-dim", "llama-mqa", "llama-rope-llama3", "llama-rope-linear",
    "llama-rope-yarn", "llama-rope-yarn-mscale", "llama-rope-dynamic", "qwen2-sliding",
    "qwen3-bias", "qwen3-sliding", "gemma2-scalar", "gemma3-scaled", "phi3-partial", "phi3-longrope",
    "phi3-longrope-long", "mixtral-sliding", "qwen3_moe-normed", "qwen3_moe-step",
    "qwen3_moe-dense",
]  # fmt: skip


# What main writes when it is given no names: the family modules list more.
COMMITTED = list(dict.fromkeys([
    *FREE_DIMS, *EXTRA, *families_decoders.VARIANTS, *families_mixtures.FIXTURES, *families_others.VARIANTS,
]))  # fmt: skip


def spelling_v4(config):
    """config as transformers 4 wrote it: rope keys on top, torch_dtype, num_experts."""
    config = dict(config, transformers_version="4.52.4", torch_dtype=config["dtype"])
    del config["dtype"]
    kind = config["model_type"]
    for module in (families_decoders, families_mixtures, families_others):
        if kind in getattr(module, "SPELLINGS", {}):
            return module.SPELLINGS[kind](config)
    rope = config.pop("rope_parameters", None)
    if rope is None:
        return config
    if kind == "gemma3_text":
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = config.pop("_sliding_window_pattern")
        rope = rope["full_attention"]
    rope = dict(rope)
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    if kind == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    return config


def write_config_v4(folder):
    """Write folder/config-v4.json and prove that it means the same model."""
    config = spelling_v4(json.loads((folder / "config.json").read_text()))
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(folder / "model.safetensors", copy)
        Path(copy, "config.json").write_text(text)
        if not torch.equal(logits(load(copy), [TOKENS]), logits(load(folder), [TOKENS])):
            raise ValueError(f"{folder}: the two spellings of the config give different logits")
    (folder / "config-v4.json").write_text(text)


def write_fixture(variant, folder):
    """Write one fixture, replacing an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    randomise(variant.build()).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_reference(folder, getattr(variant, "attn", "eager"))
    write_config_v4(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="variants to write (default: the committed set)")
    args = parser.parse_args()
    for name, variant in variants(args.names or COMMITTED).items():
        write_fixture(variant, args.out / name)
        print(args.out / name)


if __name__ == "__main__":
    main()
