"""Saving, loading and evaluating the tiny checkpoints of the interop suite."""

import json
from pathlib import Path

import numpy as np
import torch
from offline import transformers

TOKENS = [5, 17, 3, 28, 11, 9, 22, 4, 14, 26, 7, 19]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(folder, dtype=torch.float32, attn="eager", **options):
    """The model in folder as a user would load it.

    Any parameter that the files lack, carry in excess or give another shape
    raises: transformers itself would only warn and fill in random numbers.
    """
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attn, output_loading_info=True, **options)  # fmt: skip
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if wrong:
        raise ValueError(f"{folder}: transformers did not load every tensor: {wrong}")
    return model.eval()


def logits(model, tokens):
    """Logits [batch, tokens, vocab] of one forward pass without a cache."""
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(tokens), use_cache=False).logits


def shortest(values):
    """Floats whose JSON is the shortest decimal that reads back as the same float32."""
    return [float(str(v)) for v in np.asarray(values, dtype=np.float32).ravel()]


def write_reference(folder):
    """Write folder/reference.json: tokens and the fp32 logits of the stored weights.

    Attention and experts run eagerly, one operation of the modeling code at a
    time, because that is what a reader of the modeling code would build.
    """
    model = load(folder, torch.float32, "eager")
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    out = logits(model, [TOKENS])[0]
    if not torch.isfinite(out).all():
        raise ValueError(f"{folder}: the reference logits are not finite")
    record = {"tokens": TOKENS, "shape": list(out.shape), "logits": shortest(out)}
    Path(folder, "reference.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def save(model, folder, dtype, **options):
    """Save model in dtype, with its reference; model itself is converted and stays so."""
    model.to(dtype).save_pretrained(folder, **options)
    write_reference(folder)
