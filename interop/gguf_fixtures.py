"""Write the small committed GGUF files of the Go tests.

    python gguf_fixtures.py OUT

OUT/metadata.gguf has a value of every type, arrays and nested arrays;
OUT/types.gguf a tensor of every quantised type, with scales of ordinary size;
OUT/aligned.gguf another alignment; OUT/types.json what the reader of the gguf
package finds in types.gguf, OUT/numbers.json how it dequantises the tensors: the
first numbers, and the SHA-256 of all as fp32.
"""

import hashlib
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

# Types that stand in files; the others are withdrawn or only used in memory.
SKIPPED = {"Q8_1", "Q8_K", "Q1_0"}
# Places of fp16 scales in a block.
F16 = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0],
    "IQ3_S": [0], "IQ1_S": [0], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
}  # fmt: skip


def blocks(kind, n, rng):
    """n blocks of random codes, whose scales are ordinary numbers."""
    _, size = GGML_QUANT_SIZES[kind]
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    scale = (rng.uniform(1, 2, n) * np.exp2(rng.integers(-8, -2, n)) * rng.choice([-1, 1], n)).astype(np.float16)
    for at in F16.get(kind.name, []):
        b[:, at : at + 2] = scale.view(np.uint8).reshape(n, 2)
    if kind.name == "IQ1_M":  # fp16 in the top nibbles of four words
        w = b[:, 48:56].copy().view(np.uint16).reshape(n, 4)
        bits = np.abs(scale).view(np.uint16)
        for i in range(4):
            w[:, i] = (w[:, i] & 0xFFF) | ((bits >> (4 * i)) & 0xF) << 12
        b[:, 48:56] = w.view(np.uint8).reshape(n, 8)
    if kind.name == "MXFP4":
        b[:, 0] = rng.integers(118, 126, n)
    if kind.name == "NVFP4":
        b[:, :4] = rng.integers(0x20, 0x50, (n, 4))
    return b


def types(path):
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "llama")
    for kind, (elems, size) in GGML_QUANT_SIZES.items():
        if kind.name in SKIPPED:
            continue
        if elems == 1:
            values = rng.standard_normal((2, 3))
            plain = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}
            if kind.name == "BF16":
                raw = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
                w.add_tensor(kind.name, raw, raw_dtype=kind)
            else:
                w.add_tensor(kind.name, (values * 10).astype(plain[kind.name]))
            continue
        w.add_tensor(kind.name, blocks(kind, 4, rng).reshape(2, 2 * size), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    r = gguf.GGUFReader(path)
    found = [
        {"name": t.name, "dims": [int(d) for d in t.shape], "type": t.tensor_type.name, "offset": int(t.data_offset), "size": int(t.n_bytes)}
        for t in r.tensors
    ]
    Path(path).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    numbers = {}
    for t in r.tensors:
        if GGML_QUANT_SIZES[t.tensor_type][0] > 1:
            x = np.ascontiguousarray(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32)
            numbers[t.name] = {"first": [float(v) for v in x.ravel()[:8]], "sha256": hashlib.sha256(x.tobytes()).hexdigest()}
    Path(path).with_name("numbers.json").write_text(json.dumps(numbers, indent=1) + "\n")


def metadata(path):
    w = gguf.GGUFWriter(path, "gpt2")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -3)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -300)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -70000)
    w.add_float32("t.f32", 1e-5)
    w.add_bool("t.bool", True)
    w.add_string("t.str", "grüße\nzwei")
    w.add_uint64("t.u64", 1 << 40)
    w.add_int64("t.i64", -(1 << 40))
    w.add_float64("t.f64", 0.1)
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.strings", ["a", "", "ccc"])
    w.add_array("t.nested", [[1, 2], [3]])
    w.add_tensor("a", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def aligned(path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_custom_alignment(256)
    w.add_tensor("a", np.arange(5, dtype=np.float32))
    w.add_tensor("b", np.arange(7, dtype=np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
types(str(out / "types.gguf"))
metadata(str(out / "metadata.gguf"))
aligned(str(out / "aligned.gguf"))
assert GGMLQuantizationType.NVFP4 == 40
