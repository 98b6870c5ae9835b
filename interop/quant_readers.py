"""Let other people's readers dequantise quantised checkpoints and their seals, and compare the numbers.

    quant_readers.py ORIGINAL SEALED [ORIGINAL SEALED ...]

Readers: MLX on a CPU (mx.dequantize), compressed-tensors (decompression to plain weights) and GPTQModel's linear map in
PyTorch, where they are installed. One JSON object a line, pair and reader: in how many weights, of how many, some number
of the seal is not the original's times a power of two, exactly, that is the same along each group of 16 columns; or why
the reader could not be used.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

GROUP = 16


def fp32(x):
    return x.detach().to(torch.float32).numpy()


def by_mlx(folder, config):
    import mlx.core as mx

    q = config["quantization"]
    state = mx.load(str(folder / "model.safetensors"))
    for name in sorted(state):
        if name.endswith(".scales"):
            base = name.removesuffix(".scales")
            w = mx.dequantize(state[base + ".weight"], state[name], state[base + ".biases"], group_size=q["group_size"], bits=q["bits"])
            yield base, np.array(w.astype(mx.float32))  # computed in the scales' own precision


def by_compressed_tensors(folder, config):
    import logging

    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    logging.disable(logging.WARNING)
    conf = config["quantization_config"]
    group = next(iter(conf["config_groups"].values()))
    scheme = QuantizationScheme(**{k: group.get(k) for k in ("targets", "weights", "input_activations", "output_activations")})
    state = load_file(folder / "model.safetensors")
    compressor = BaseCompressor.get_value_from_registry(group.get("format") or conf["format"])
    for base in sorted({k.removesuffix(".weight_scale") for k in state if k.endswith(".weight_scale")}):
        part = {k.removeprefix(base + "."): v for k, v in state.items() if k.startswith(base + ".")}
        yield base, fp32(compressor.decompress(part, scheme)["weight"])


def by_gptqmodel(folder, config):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    conf = config["quantization_config"]
    state = load_file(folder / "model.safetensors")
    for base in sorted(k.removesuffix(".qweight") for k in state if k.endswith(".qweight")):
        w = state[base + ".qweight"]
        module = TorchLinear(
            bits=conf["bits"], group_size=conf["group_size"], sym=conf["sym"], desc_act=conf["desc_act"],
            in_features=w.shape[0] * 32 // conf["bits"], out_features=w.shape[1], bias=False, pack_dtype=torch.int32,
        )  # fmt: skip
        for k in ("qweight", "qzeros", "scales", "g_idx"):
            setattr(module, k, state[f"{base}.{k}"])
        yield base, fp32(module.dequantize_weight().T)


READERS = {"mlx": ("MLX", by_mlx), "compressed-tensors": ("compressed-tensors", by_compressed_tensors), "gptq": ("GPTQModel", by_gptqmodel)}


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
    pairs = [Path(p) for p in sys.argv[1:]]
    for original, sealed in zip(pairs[0::2], pairs[1::2]):
        config = json.loads((original / "config.json").read_text())
        method = config.get("quantization_config", {}).get("quant_method") or ("mlx" if "quantization" in config else "")
        name, read = READERS[method]
        line = {"reader": name, "format": original.name, "sealed": str(sealed)}
        try:
            weights = other = moved = 0
            for (base, a), (same, b) in zip(read(original, config), read(sealed, config), strict=True):
                assert base == same
                weights, other, moved = weights + 1, other + (not powers(a, b)), moved + (not np.array_equal(a, b))
            line |= {"weights": weights, "other": other, "moved": moved}
        except Exception as e:  # whatever a reader may raise
            line["error"] = re.sub(r"\s+", " ", f"{type(e).__name__}: {str(e)[:160]}")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
