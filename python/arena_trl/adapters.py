"""What a recipe trains: parameters of the model, or a tuner of PEFT.

Adapters of an own name in package arena/train (LoRA, DoRA, IA3, soft prompts) are
configured to mean the same there and here, and start from the same values. One
difference is PEFT's: create_loraplus_optimizer gives DoRA's magnitudes B's rate.
"""

import dataclasses
import fnmatch

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from . import initial, models
from .task import PARTS, TaskError, Unsupported

ALL_LINEAR = "all-linear"
REFUSALS = (ValueError, TypeError, AssertionError, NotImplementedError, RuntimeError, KeyError, AttributeError, IndexError)
OWN = {"lora": "LORA", "dora": "LORA", "ia3": "IA3", "soft-prompt": "PROMPT_TUNING"}


def attach(model, task):
    """Returns the model with what the recipe trains, and nothing else, requiring
    gradients."""
    t = task.train
    torch.manual_seed(task.seed & ((1 << 63) - 1))
    if t.kind == "residual":
        raise Unsupported("bottleneck adapters in the residual stream: only the embedded engine has them")
    if t.kind in PARTS:
        parts(model, t)
    else:
        model = tuner(model, task)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise Unsupported(f"training {t.kind}: nothing in this model matches {', '.join(t.modules) or 'it'}")
    mark_edges(model)
    return model


def parts(model, t):
    """Lets gradients into parameters of the model itself."""
    edge = edges(model)
    for name, p in model.named_parameters():
        if not wanted(t, name, p, edge):
            continue
        if not p.is_floating_point() or hasattr(p, "quant_state"):
            raise Unsupported(f"training {t.kind}: {name} is quantised, and only adapters can be trained on that")
        p.requires_grad_(True)


def wanted(t, name, p, edge):
    if t.kind == "full":
        return True
    if t.kind == "norms":
        return p.dim() == 1 and "norm" in name
    if t.kind == "embeddings":
        return id(p) in edge["embeddings"]
    if t.kind == "head":
        return id(p) in edge["head"]
    if ALL_LINEAR in t.modules and id(p) not in edge["embeddings"] | edge["head"]:
        return True
    return matches(t.modules, name)


def edges(model):
    """The parameters that tokens are looked up in, and those that make the output."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = model.get_output_embeddings()
    return {"embeddings": tables, "head": {id(head.weight)} if head is not None else set()}


def mark_edges(model):
    """Tells optimizers that treat hidden matrices apart which ones those are not."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    e = edges(base)
    for p in model.parameters():
        p.arena_edge = id(p) in e["embeddings"] | e["head"]
    for name, p in model.named_parameters():
        p.arena_transposed = ".lora_embedding_A." in name  # kept by token in package arena/train


def matches(patterns, tensor):
    """Whether a pattern names the tensor: a glob whose * also matches dots, or the last
    parts of its module's name."""
    module = tensor.removesuffix(".weight")
    for p in patterns:
        if fnmatch.fnmatchcase(tensor, p.replace("[^", "[!")) or module == p or module.endswith("." + p):
            return True
    return False


def targets(model, names, embeddings=False):
    """The modules of a model that a recipe's names mean; every linear map but the head
    for all-linear."""
    head, out = model.get_output_embeddings(), []
    for name, m in model.named_modules():
        if not isinstance(m, (nn.Linear, Conv1D)) and not (embeddings and isinstance(m, nn.Embedding)):
            continue
        all_linear = ALL_LINEAR in names and m is not head and not isinstance(m, nn.Embedding)
        if all_linear or matches(names, name + ".weight"):
            out.append(name)
    return out


def tuner(model, task):
    """Wraps the model with a tuner of PEFT."""
    import peft

    t = task.train
    key = OWN.get(t.kind, t.kind.upper().replace("-", "_"))
    kinds = {k.value: k for k in peft.PEFT_TYPE_TO_CONFIG_MAPPING}
    if key not in kinds:
        raise Unsupported(f"PEFT {peft.__version__} ships no tuner {t.kind!r}")
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kinds[key]]
    args = arguments(model, task, config)
    try:
        out = wrap(model, config, args)
    except REFUSALS as e:
        # What PEFT refuses, it refuses for this model and these options every time.
        raise Unsupported(f"PEFT's {t.kind}: {models.first_line(e) or type(e).__name__}") from e
    for p in out.parameters():
        # In the recipe's precision, where PEFT would choose float32 or the base's.
        if p.requires_grad and p.is_floating_point():
            p.data = p.data.to(models.trained_dtype(task))
    if t.kind in ("lora", "dora") and "init_lora_weights" not in t.options:
        initial.lora(out, task.seed)
    if t.kind == "soft-prompt" and "prompt_tuning_init" not in t.options:
        initial.prompt(out, task.seed)
    return out


def wrap(model, config, args):
    """PEFT's own choice of modules, or all linear maps where it has none for a model."""
    import peft

    make = lambda a: peft.get_peft_model(model, config(task_type="CAUSAL_LM", **a), autocast_adapter_dtype=False)
    try:
        return make(args)
    except ValueError as e:
        if "target_modules" not in str(e) or "target_modules" in args:
            raise
    return make(args | {"target_modules": targets(model, [ALL_LINEAR])})


def arguments(model, task, config):
    """A configuration's arguments: what the recipe's fields say, where the tuner has
    such a field, then the recipe's options as they are."""
    t, has = task.train, {f.name for f in dataclasses.fields(config)}
    args = {}
    if "target_modules" in has and t.modules:
        args["target_modules"] = targets(model, t.modules, embeddings=t.kind == "lora")
        if not args["target_modules"]:
            raise Unsupported(f"training {t.kind}: nothing in this model matches {', '.join(t.modules)}")
    if "feedforward_modules" in has and t.modules:
        named = set(targets(model, t.feed_forward)) if t.feed_forward else set()
        args["feedforward_modules"] = [m for m in args["target_modules"] if m in named]
    if t.rank and "r" in has:
        args["r"] = t.rank
    if t.alpha:
        name = next((n for n in ("lora_alpha", "alpha", f"{t.kind}_alpha") if n in has), None)
        if name:
            args[name] = t.alpha
    if t.virtual and "num_virtual_tokens" in has:
        args["num_virtual_tokens"] = t.virtual
    if t.kind in ("lora", "dora"):
        if t.rank < 1:
            raise TaskError(f"training {t.kind}: rank {t.rank}")
        args |= {"use_rslora": t.rslora, "use_dora": t.kind == "dora", "lora_dropout": 0.0}
    if "total_step" in has:
        args["total_step"] = task.steps
    args |= t.options
    unknown = sorted(set(args) - has)
    if unknown:
        raise Unsupported(f"PEFT's {config.__name__} has no field {', '.join(unknown)}")
    return args
