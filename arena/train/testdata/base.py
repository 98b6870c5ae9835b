#!/usr/bin/env python3
"""Writes base.json: what bitsandbytes makes of weights on the CPU, for the test of
Options.Base to compare with, bit for bit.

    python3 arena/train/testdata/base.py

Needs torch, safetensors and bitsandbytes. Values come from the demo model and from
the generator of curves.py: uniform in [-1, 1), each row times a power of two.
"""

import hashlib
import json

import bitsandbytes
import numpy as np
import torch
from bitsandbytes import functional as F
from safetensors.torch import load_file

from curves import HERE, MODEL, units

SHAPES = {"one block": (4, 16), "part of a block": (7, 30), "many": (130, 130), "two blocks of scales": (300, 64)}
DEMO = ["model.layers.0.self_attn.q_proj.weight", "model.layers.2.mlp.down_proj.weight"]


def made(name, shape, spread):
    x = 2 * units(name, int(np.prod(shape))).reshape(shape) - 1
    e = np.floor(units(name + ".rows", shape[0]) * (2 * spread + 1)) - spread
    return torch.from_numpy((x * 2.0 ** e[:, None]).astype(np.float32))


def inputs():
    for name, shape in SHAPES.items():
        for spread in 0, 8, 60:
            yield {"name": name, "shape": shape, "spread": spread}, made(name, shape, spread)
    for fill in 0.0, float("inf"), float("nan"):
        x = made("special", (6, 64), 0)
        x[2], x[3, 5] = 0, fill
        yield {"name": "special", "shape": (6, 64), "spread": 0, "fill": str(fill)}, x
    tensors = load_file(MODEL / "model.safetensors")
    for name in DEMO:
        yield {"name": name, "shape": tensors[name].shape, "demo": True}, tensors[name].float()


def quantised(x, base):
    """Returns the dequantised values and the offset of the scales."""
    if base == "int8":
        code, scale, _ = F.int8_vectorwise_quant(x.to(torch.float16))
        return code.to(x.dtype).mul_(scale.unsqueeze(1).mul(1.0 / 127.0)), None
    packed, state = F.quantize_4bit(x, blocksize=64, compress_statistics=base == "nf4-dq", quant_type="nf4")
    return F.dequantize_4bit(packed, state), state.offset


def digest(x):
    x = x.float().contiguous()
    bits = x.view(torch.int32).clone()
    bits[torch.isnan(x)] = 0x7FC00000
    return hashlib.sha256(bits.numpy().astype("<i4").tobytes()).hexdigest()


def main():
    out = {"made_with": {m.__name__: m.__version__ for m in (torch, bitsandbytes)}, "cases": []}
    for case, x in inputs():
        for base in "nf4", "nf4-dq", "int8":
            for dtype in torch.float32, torch.bfloat16:
                y, offset = quantised(x.to(dtype), base)
                row = dict(case, base=base, bf16=dtype == torch.bfloat16, sha256=digest(y))
                if offset is not None and torch.isfinite(offset):
                    row["offset"] = offset.item()
                out["cases"].append(row)
    lines = ",\n  ".join(json.dumps(c) for c in out["cases"])
    (HERE / "base.json").write_text('{"made_with": %s,\n "cases": [\n  %s\n ]}\n' % (json.dumps(out["made_with"]), lines))


if __name__ == "__main__":
    main()
