"""Saving, loading and evaluating the tiny checkpoints of the interop suite."""

import json
from pathlib import Path

import numpy as np
import inputs as feed
import torch
from offline import transformers

TOKENS = [5, 17, 3, 28, 11, 9, 22, 4, 14, 26, 7, 19]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load(folder, dtype=torch.float32, attn="eager", **options):
    """The model in folder as a user would load it: by the class that its config names.

    Any parameter that the files lack, carry in excess or give another shape
    raises: transformers itself would only warn and fill in random numbers.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    model, info = model_class(config).from_pretrained(
        folder, dtype=dtype, attn_implementation=attn, output_loading_info=True, **options)  # fmt: skip
    wrong = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if wrong:
        raise ValueError(f"{folder}: transformers did not load every tensor: {wrong}")
    return model.eval()


def model_class(config):
    """The class of a model: the automatic one of causal language models, else the one that wrote it."""
    name = config.architectures[0]
    if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and name.endswith(("ForCausalLM", "LMHeadModel")):
        return transformers.AutoModelForCausalLM
    return getattr(transformers, name)


def logits(model, tokens):
    """The answer of one forward pass without a cache: logits [batch, tokens, vocab], or what
    a model without them returns first. Inputs beside the text tokens are seeded noise."""
    outputs = feed.run(model, feed.fill(model, tokens))
    return outputs[feed.answer(outputs)]


def shortest(values):
    """Floats whose JSON is the shortest decimal that reads back as the same float32."""
    return [float(str(v)) for v in np.asarray(values, dtype=np.float32).ravel()]


def write_reference(folder, attn="eager"):
    """Write folder/reference.json: inputs, and the fp32 outputs of the stored weights.

    It holds "tokens" (input_ids), "inputs" (the others: shape and ids or values), "output" (the
    name of the first output), its "shape" and values ("logits", without the axis of one
    sequence), and "more", further outputs. Attention (unless attn says otherwise) and experts
    run eagerly, one operation of the modeling code at a time, because that is what a reader of
    the modeling code would build.
    """
    model = load(folder, torch.float32, attn)
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    given = feed.fill(model, [TOKENS])
    outputs = feed.run(model, given)
    first = feed.answer(outputs)
    record = {"tokens": TOKENS}
    if others := {n: x for n, x in given.items() if n != "input_ids"}:
        record["inputs"] = {n: tensor(x) for n, x in others.items()}
    shape = list(outputs[first].shape)
    if first == "logits" and len(shape) == 3 or first.endswith("hidden_state") or first == "prediction_logits":
        shape = shape[1:]
    if first != "logits":
        record["output"] = first
    record |= {"shape": shape, "logits": shortest(outputs[first])}
    if names := feed.more(outputs):
        record["more"] = [{"output": n} | tensor(outputs[n]) for n in names]
    for name in [first, *feed.more(outputs)]:
        if not torch.isfinite(outputs[name]).all():
            raise ValueError(f"{folder}: the reference's {name} is not finite")
    Path(folder, "reference.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def tensor(x):
    """A tensor as JSON: its shape and its ids (integers, truth values) or values."""
    shape = {"shape": list(x.shape)}
    if x.is_floating_point():
        return shape | {"values": shortest(x)}
    return shape | {"ids": x.long().ravel().tolist()}


def save(model, folder, dtype, attn="eager", **options):
    """Save model in dtype, with its reference; model itself is converted and stays so."""
    model.to(dtype).save_pretrained(folder, **options)
    write_reference(folder, attn)
