"""Lock a tiny Llama as the original Python tool did.

    python legacy.py ORIGINAL OUT [--password P] [--scale 100]

Its lock multiplied v_proj and up_proj of every layer by a factor and divided
o_proj and down_proj by it, in the type of the weights, which rounds. The factor
was the scale itself or, with a password, one draw a layer from Python's random.
"""

import argparse
import hashlib
import json
import random
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def factors(layers, scale, password):
    """The factor of every layer."""
    if password is None:
        return [scale] * layers
    random.seed(int(hashlib.sha256(password.encode()).hexdigest(), 16) % 10**8)
    return [random.uniform(0.1 * scale, scale) for _ in range(layers)]


def lock(folder, scale, password):
    """Lock the checkpoint in folder in place."""
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    tensors = load_file(folder / "model.safetensors")
    for i, factor in enumerate(factors(layers, scale, password)):
        layer = f"model.layers.{i}."
        tensors[layer + "self_attn.v_proj.weight"].mul_(factor)
        tensors[layer + "self_attn.o_proj.weight"].div_(factor)
        tensors[layer + "mlp.up_proj.weight"].mul_(factor)
        tensors[layer + "mlp.down_proj.weight"].div_(factor)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    record = {"sealed": True, "method": "dynamic" if password else "static", "timestamp": "2026-01-01T00:00:00"}
    (folder / "neuroseal_config.json").write_text(json.dumps(record) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--password")
    parser.add_argument("--scale", type=float, default=100.0)
    args = parser.parse_args()
    shutil.copytree(args.original, args.out)
    lock(args.out, args.scale, args.password)


if __name__ == "__main__":
    main()
