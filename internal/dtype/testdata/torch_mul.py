"""Writes torch_mul.json: what PyTorch's w *= s and w /= s give.

For the 16-bit types every one of the 65,536 patterns is multiplied; for F32 and
F64, 65,536 patterns of a linear congruential generator (see patterns). A case
holds the SHA-256 of the little-endian results, in which every NaN is replaced by
the type's quiet NaN without sign or payload, and the results at a few indices.
"""

import hashlib
import json
import sys

import numpy as np
import torch

FACTORS = [100.0, 0.1, 1 / 3, 37.123456789, -1.5, 1e-3, 99.99, 3.0e38, 1e-40]
TYPES = {
    "BF16": (torch.bfloat16, torch.int16, "<u2", 0x7FC0),
    "F16": (torch.float16, torch.int16, "<u2", 0x7E00),
    "F32": (torch.float32, torch.int32, "<u4", 0x7FC00000),
    "F64": (torch.float64, torch.int64, "<u8", 0x7FF8000000000000),
}
SAMPLES = [1, 2, 127, 128, 300, 1024, 12345, 16256, 31743, 32513, 40000, 65000]


def patterns(np_type):
    if np_type == "<u2":
        return np.arange(65536, dtype="<u2")
    state, out = 1, []
    for _ in range(65536):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(state if np_type == "<u8" else state >> 32)
    return np.array(out, dtype=np_type)


def main(path):
    cases = []
    for name, (dtype, int_type, np_type, nan) in TYPES.items():
        bits = patterns(np_type)
        for op in ("mul", "div"):
            for s in FACTORS:
                signed = bits.view(np_type.replace("u", "i")).copy()
                w = torch.from_numpy(signed).view(dtype)
                if op == "mul":
                    w *= s
                else:
                    w /= s
                out = w.view(int_type).numpy().view(np_type).copy()
                out[torch.isnan(w).numpy()] = nan
                cases.append({
                    "dtype": name, "op": op, "factor": s,
                    "sha256": hashlib.sha256(out.tobytes()).hexdigest(),
                    "at": SAMPLES, "bits": [hex(int(out[i])) for i in SAMPLES],
                })
    with open(path, "w") as f:
        lines = ",\n".join("  " + json.dumps(c) for c in cases)
        f.write('{"torch": "%s", "cases": [\n%s\n]}\n' % (torch.__version__.split("+")[0], lines))


main(sys.argv[1])
