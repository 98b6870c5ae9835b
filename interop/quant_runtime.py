"""Loads pairs of quantised checkpoints in transformers, on the CPU, and compares what they compute.

    quant_runtime.py ORIGINAL SEALED [ORIGINAL SEALED ...]

One JSON object a line and pair: whether all logits are equal, the largest difference and the largest logit, or why the
runtime does not load the format here. Where a loader offers to dequantise, for want of a GPU, it is asked to, and the
line says so.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, Mxfp4Config

IDS = torch.arange(24).view(2, 12) % 31


def logits(folder):
    method = json.loads(Path(folder, "config.json").read_text()).get("quantization_config", {}).get("quant_method")
    extra = {"fp8": lambda: FineGrainedFP8Config(dequantize=True), "mxfp4": lambda: Mxfp4Config(dequantize=True)}.get(method)
    kwargs = {"quantization_config": extra()} if extra else {}
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", attn_implementation="eager", **kwargs)
    model.eval()
    return model(input_ids=IDS).logits.float(), bool(extra)


def main():
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
    for original, sealed in pairs:
        line = {"format": Path(original).name, "sealed": str(sealed)}
        try:
            (a, dequantised), (b, _) = logits(original), logits(sealed)
            line |= {"equal": torch.equal(a, b), "max_diff": (a - b).abs().max().item(), "max": a.abs().max().item()}
            if dequantised:
                line["dequantised"] = True
        except Exception as e:  # whatever a loader may raise
            line["error"] = f"{type(e).__name__}: {str(e)[:160]}"
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
