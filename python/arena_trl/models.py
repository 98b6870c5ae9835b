"""Loads a checkpoint in a recipe's precision, and makes sure that it is what was asked."""

import os

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from .task import PARTS, Unsupported

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def frozen_dtype(task):
    """Of the weights that are not trained. In fp16 what is trained stays float32, and the
    arithmetic is mixed: Adam's eps of 1e-8 is zero in fp16."""
    whole = task.precision == "fp16" and task.train.kind in PARTS
    return torch.float32 if whole else DTYPES[task.precision]


def trained_dtype(task):
    return torch.float32 if task.precision == "fp16" else DTYPES[task.precision]


def load(task):
    """Returns the model, frozen. Nothing is fetched and no code of the checkpoint runs."""
    try:
        config = AutoConfig.from_pretrained(task.model, local_files_only=True, trust_remote_code=False)
    except ValueError as e:
        raise Unsupported(f"transformers does not know this model: {first_line(e)}") from e
    quiet(config)
    dtype = frozen_dtype(task)
    model = AutoModelForCausalLM.from_pretrained(
        task.model,
        config=config,
        dtype=dtype,
        quantization_config=quantisation(task.base, dtype),
        device_map=placement(task.base),
        local_files_only=True,
        trust_remote_code=False,
    )
    demand(model, task.base)
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def quiet(config):
    """Takes dropout out: both engines are to compute the same function."""
    for c in {id(x): x for x in (config, config.get_text_config())}.values():
        for name in list(vars(c)):
            if name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate")) and isinstance(getattr(c, name), float):
                setattr(c, name, 0.0)


def quantisation(base, dtype):
    if base in ("nf4", "nf4-dq"):
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=base == "nf4-dq",
            bnb_4bit_compute_dtype=dtype,
        )
    if base == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def placement(base):
    """Where the parameters go: one replica per process, else one GPU, else split over
    all visible GPUs, else the CPU."""
    if not torch.cuda.is_available():
        return {"": "cpu"} if base else None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return {"": int(os.environ.get("LOCAL_RANK", "0"))}
    return "auto" if torch.cuda.device_count() > 1 else {"": 0}


def demand(model, base):
    """Asserts that the layers are stored as asked: a configuration that is silently not
    passed would prove nothing."""
    if not base:
        return
    import bitsandbytes as bnb

    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    if not linear:
        raise Unsupported(f"{type(model).__name__} has no linear layers that bitsandbytes could quantise")
    kind = bnb.nn.Linear8bitLt if base == "int8" else bnb.nn.Linear4bit
    for name, m in linear.items():
        if not isinstance(m, kind):
            raise Unsupported(f"{name} is {type(m).__name__}, not {kind.__name__}: the base would not be {base}")
        if base == "int8":
            if m.weight.dtype != torch.int8:
                raise AssertionError(f"{name}: {m.weight.dtype}, not int8")
            continue
        state = m.weight.quant_state
        if state is None or state.quant_type != "nf4" or bool(state.nested) != (base == "nf4-dq"):
            raise AssertionError(f"{name}: quantisation state is not that of {base}")


def vocabulary(model):
    return model.get_input_embeddings().weight.shape[0]


def first_line(e):
    return str(e).strip().split("\n")[0]
