"""Loads pairs of quantised checkpoints in the runtimes that are installed, on the CPU, and compares what they compute.

    quant_runtime.py ORIGINAL SEALED [ORIGINAL SEALED ...]

transformers loads what it can (GPTQ and AWQ through GPTQModel's linear maps, GPTQ through optimum too), GPTQModel runs its
own formats with the kernel that it picks and with the one in plain PyTorch, MLX-LM those of MLX. One JSON object a line,
pair and runtime: whether all logits are equal, the largest difference and the largest logit, or why the runtime does not
load the format here. Where a loader of transformers offers to dequantise, for want of a GPU, it is asked to.
"""

import importlib.util
import json
import logging
import os
import re
import sys
import tempfile
from pathlib import Path

import torch

IDS = [[i % 31 for i in range(12)], [i % 31 for i in range(12, 24)]]


def method(folder):
    config = json.loads(Path(folder, "config.json").read_text())
    return config.get("quantization_config", {}).get("quant_method") or ("mlx" if "quantization" in config else "")


def dequantised(folder):
    """What asks transformers to dequantise a format that it otherwise runs on a GPU."""
    from transformers import FineGrainedFP8Config, Mxfp4Config

    kind = {"fp8": FineGrainedFP8Config, "mxfp4": Mxfp4Config}.get(method(folder))
    return {"quantization_config": kind(dequantize=True)} if kind else {}


def with_transformers(folder):
    from transformers import AutoModelForCausalLM
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    if not any(known.startswith(method(folder)) for known in AUTO_QUANTIZER_MAPPING):  # it would multiply by codes, without scales
        raise ValueError(f"transformers knows no quant_method {method(folder)!r}")
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", attn_implementation="eager", **dequantised(folder))
    return model.eval()(input_ids=torch.tensor(IDS)).logits.float(), kernels(model)


def with_gptqmodel(backend):
    def run(folder):
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it wants two on any machine
        from gptqmodel import BACKEND, GPTQModel
        from quant_writers import tokenizer

        kind = "AUTO" if backend == "AUTO" else f"{method(folder).upper()}_{backend}"
        with tempfile.TemporaryDirectory() as beside:
            for file in Path(folder).resolve().iterdir():
                Path(beside, file.name).symlink_to(file)
            tokenizer(beside)
            model = GPTQModel.load(beside, backend=BACKEND[kind], device="cpu").model
        return model(input_ids=torch.tensor(IDS)).logits.float(), kernels(model)

    return run


def with_mlx(folder):
    import mlx.core as mx
    import numpy as np
    from mlx_lm.utils import load_model

    model, _ = load_model(Path(folder))
    model.eval()
    logits = model(mx.array(IDS))
    return torch.from_numpy(np.array(logits.astype(mx.float32))), "in " + str(logits.dtype).rpartition(".")[2]


def kernels(model):
    """The quantised linear maps that a model was loaded with."""
    names = {type(m).__name__ for m in model.modules() if "linear" in type(m).__name__.lower()}
    return ", ".join(sorted(names - {"Linear", "NonDynamicallyQuantizableLinear"}))


def runtimes(folder):
    """What is there to run a checkpoint with."""
    kind = method(folder)
    if kind == "mlx":
        if importlib.util.find_spec("mlx_lm"):
            yield "MLX-LM, CPU", with_mlx
            return
    how = ", dequantised on loading" if dequantised(folder) else ""
    yield f"transformers, CPU{how}", with_transformers
    if kind in ("gptq", "awq") and importlib.util.find_spec("gptqmodel"):
        yield "GPTQModel, CPU", with_gptqmodel("AUTO")
        yield "GPTQModel, CPU, PyTorch", with_gptqmodel("TORCH")


def main():
    logging.disable(logging.WARNING)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some loaders print
    for original, sealed in zip(sys.argv[1::2], sys.argv[2::2]):
        for name, run in runtimes(original):
            line = {"runtime": name, "format": Path(original).name, "sealed": str(sealed)}
            try:
                (a, kernel), (b, _) = run(original), run(sealed)
                line |= {"equal": torch.equal(a, b), "max_diff": (a - b).abs().max().item(), "max": a.abs().max().item(), "kernels": kernel}
            except Exception as e:  # whatever a loader may raise
                line["error"] = re.sub(r"\s+", " ", f"{type(e).__name__}: {str(e)[:160]}")
            print(json.dumps(line), file=out, flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
