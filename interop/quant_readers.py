"""Let other people's readers dequantise quantised checkpoints and their seals, and compare the numbers.

    quant_readers.py ORIGINAL SEALED [ORIGINAL SEALED ...]

Readers: MLX on a CPU (mx.dequantize), compressed-tensors (decompression to plain weights), GPTQModel's linear maps in
PyTorch and ModelOpt's tensors of NVFP4, where they are installed. One JSON object a line, pair and reader: in how many
weights, of how many, some number of the seal is not the original's times a power of two, exactly, that is the same along
each group of 16 columns; or why the reader could not be used.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

GROUP = 16


def fp32(x):
    return x.detach().to(torch.float32).numpy()


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


# Every reader yields names and numbers, in its own precision or, wide, in fp32, so that codes times scales round once.


def by_mlx(folder, wide=False):
    import mlx.core as mx

    q = config_of(folder)["quantization"]
    state = mx.load(str(folder / "model.safetensors"))
    for name in sorted(state):
        if name.endswith(".scales"):
            base = name.removesuffix(".scales")
            scales, biases = state[name], state.get(base + ".biases")
            if wide and biases is not None:
                scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            options = {"group_size": q["group_size"], "bits": q["bits"], "mode": q["mode"]}
            if biases is None:
                options["dtype"] = mx.float32 if wide else mx.bfloat16
            yield base, np.array(mx.dequantize(state[base + ".weight"], scales, biases, **options).astype(mx.float32))


def by_compressed_tensors(folder, wide=False):
    import logging

    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    logging.disable(logging.WARNING)
    conf = config_of(folder)["quantization_config"]
    group = next(iter(conf["config_groups"].values()))
    scheme = QuantizationScheme(**{k: group.get(k) for k in ("targets", "weights", "input_activations", "output_activations")})
    state = load_file(folder / "model.safetensors")
    compressor = BaseCompressor.get_value_from_registry(group.get("format") or conf["format"])
    for base in sorted({k.removesuffix(".weight_scale") for k in state if k.endswith(".weight_scale")}):
        part = {k.removeprefix(base + "."): v for k, v in state.items() if k.startswith(base + ".")}
        yield base, fp32(compressor.decompress(part, scheme)["weight"])


def by_gptqmodel(folder, wide=False):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

    conf = config_of(folder)["quantization_config"]
    state = load_file(folder / "model.safetensors")
    for base in sorted(k.removesuffix(".qweight") for k in state if k.endswith(".qweight")):
        w, zeros, scales = (state[f"{base}.{k}"] for k in ("qweight", "qzeros", "scales"))
        if wide:
            scales = scales.float()
        if conf["quant_method"] == "awq":
            yield base, fp32(dequantize_gemm(w, zeros, scales, conf["bits"], conf["group_size"]).T)
            continue
        module = TorchLinear(
            bits=conf["bits"], group_size=conf["group_size"], sym=conf["sym"], desc_act=conf["desc_act"],
            in_features=w.shape[0] * 32 // conf["bits"], out_features=w.shape[1], bias=False, pack_dtype=torch.int32,
        )  # fmt: skip
        module.qweight, module.qzeros, module.scales, module.g_idx = w, zeros, scales, state[base + ".g_idx"]
        if conf["checkpoint_format"] == "gptq":
            convert_gptq_v1_to_v2_format_module(module, bits=conf["bits"], pack_dtype=torch.int32)
        yield base, fp32(module.dequantize_weight().T)


def by_modelopt(folder, wide=False):
    state = load_file(folder / "model.safetensors")
    for base in sorted(k.removesuffix(".weight_scale") for k in state if k.endswith(".weight_scale")):
        w, scale = state[base + ".weight"], state[base + ".weight_scale"]
        if w.dtype == torch.float8_e4m3fn:
            yield base, fp32(w.to(torch.float32) * scale)
            continue
        from modelopt.torch.quantization.qtensor import NVFP4QTensor

        packed = NVFP4QTensor(torch.Size([w.shape[0], 2 * w.shape[1]]), torch.bfloat16, w)
        kind = torch.float32 if wide else torch.bfloat16
        x = packed.dequantize(dtype=kind, scale=scale, double_scale=state[base + ".weight_scale_2"], block_sizes={-1: 16})
        if wide:  # code 8 is -0 of E2M1, which ModelOpt's table has as 0
            negative = torch.stack([w & 8, w >> 4 & 8], -1).view(x.shape) > 0
            x = torch.where(negative, -x.abs(), x)
        yield base, fp32(x)


READERS = {
    "mlx": ("MLX", by_mlx), "compressed-tensors": ("compressed-tensors", by_compressed_tensors), "gptq": ("GPTQModel", by_gptqmodel),
    "awq": ("GPTQModel", by_gptqmodel), "modelopt": ("ModelOpt", by_modelopt),
}  # fmt: skip


def reader(folder):
    """The name of whose reader reads a checkpoint, and the reader."""
    config = config_of(folder)
    return READERS[config.get("quantization_config", {}).get("quant_method") or ("mlx" if "quantization" in config else "")]


def powers(a, b):
    """Is every number of b that of a times a power of two, the same along each group of columns?"""
    if a.shape != b.shape or not np.array_equal(a == 0, b == 0):
        return False
    with np.errstate(all="ignore"):
        ratio = np.where(a == 0, np.nan, b / a)
    ok = np.isnan(ratio) | (np.frexp(np.abs(ratio))[0] == 0.5) & (ratio > 0)
    groups = ratio.reshape(a.shape[0], -1, GROUP)
    with np.errstate(all="ignore"):
        low, high = np.fmin.reduce(groups, 2), np.fmax.reduce(groups, 2)
    return bool(ok.all() and ((low == high) | np.isnan(low)).all() and (b == a * np.where(np.isnan(ratio), 1, ratio)).all())


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some readers print
    pairs = [Path(p) for p in sys.argv[1:]]
    for original, sealed in zip(pairs[0::2], pairs[1::2]):
        name, read = reader(original)
        line = {"reader": name, "format": original.name, "sealed": str(sealed)}
        try:
            weights = other = moved = 0
            for (base, a), (same, b) in zip(read(original), read(sealed), strict=True):
                assert base == same
                weights, other, moved = weights + 1, other + (not powers(a, b)), moved + (not np.array_equal(a, b))
            line |= {"weights": weights, "other": other, "moved": moved}
        except Exception as e:  # whatever a reader may raise
            line["error"] = re.sub(r"\s+", " ", f"{type(e).__name__}: {str(e)[:160]}")
        print(json.dumps(line), file=out, flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
