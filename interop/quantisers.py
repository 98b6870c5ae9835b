"""Quantises the matrices of two checkpoints with other people's quantisers and compares the results.

    quantisers.py ORIGINAL SEALED

One JSON object a line and quantiser: how many blocks there are, in how many the integer codes differ, and in how many
a scale differs by something else than a power of two. gguf-py's blocks of 32 have fp16 scales (d, and m in Q4_1);
bitsandbytes' NF4 has blocks of 64 with an fp32 absmax.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch

from bitsandbytes import functional
from gguf import GGMLQuantizationType as Type, quants
from gguf.constants import GGML_QUANT_SIZES

from safetensors.torch import load_file


def powers(before, after):
    """Per block: does every scale differ by a power of two?"""
    with np.errstate(all="ignore"):
        mantissa, _ = np.frexp(np.where(before == 0, 1, after / before))
    return ((np.abs(mantissa) == 0.5) | (before == 0) & (after == 0)).all(1)


def ggml(kind, scales, a, b):
    size = GGML_QUANT_SIZES[kind][1]
    with np.errstate(all="ignore"):
        x, y = (quants.quantize(t.float().numpy(), kind).reshape(-1, size) for t in (a, b))
    dx, dy = (v[:, : 2 * scales].copy().view(np.float16).astype(np.float64) for v in (x, y))
    return len(x), (x[:, 2 * scales :] != y[:, 2 * scales :]).any(1).sum(), (~powers(dx, dy)).sum()


def nf4(a, b):
    block = 64
    (qa, sa), (qb, sb) = (functional.quantize_4bit(t.float().contiguous(), blocksize=block, quant_type="nf4") for t in (a, b))
    codes = (qa != qb).reshape(-1, block // 2).any(1).sum().item()
    return len(sa.absmax), codes, (~powers(sa.absmax.double().numpy()[:, None], sb.absmax.double().numpy()[:, None])).sum()


def main():
    original, sealed = ({k: v for f in Path(d).glob("*.safetensors") for k, v in load_file(f).items()} for d in sys.argv[1:3])
    kinds = {k.name: (lambda a, b, k=k, n=n: ggml(k, n, a, b)) for k, n in
             ((Type.Q8_0, 1), (Type.Q4_0, 1), (Type.Q5_0, 1), (Type.Q4_1, 2))}
    kinds["NF4"] = nf4
    for name, compare in kinds.items():
        total = np.zeros(3, dtype=np.int64)
        for key, value in original.items():
            if value.dim() == 2 and value.shape[1] % 64 == 0:
                total += np.array(compare(value, sealed[key]), dtype=np.int64)
        blocks, codes, scales = total.tolist()
        print(json.dumps({"quantiser": name, "blocks": blocks, "other_codes": codes, "other_scales": scales}))


if __name__ == "__main__":
    with torch.no_grad():
        main()
