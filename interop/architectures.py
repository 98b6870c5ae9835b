"""Tiny checkpoints of very many families with their exported graphs, and the comparison of their seals.

    python architectures.py list
    python architectures.py make OUT [NAME ...]
    python architectures.py compare FILE

list prints one JSON line a family: its name, model type, kind, and the free dimensions that are known.
make writes OUT/NAME/fp32, bf16 and fp16 as save_pretrained writes them, and OUT/NAME/model.pt2 as
pt2/export.py writes it from the config alone, or OUT/NAME/refused.txt with the reason why there is none.
compare reads lines {"original": …, "sealed": …, "dtype": …}, loads both folders as a user would, gives them
the same inputs and prints whether all that they answer is identical bit for bit.
"""

import copy
import json
import math
import sys
import warnings
import zlib
from pathlib import Path

import families
import pt2
import torch
from architectures_families import UNKNOWN
from checkpoints import DTYPES, model_class
from offline import transformers
from pt2_families import FREE_DIMS
from variant import Variant


# What the exporter leaves out of a model's outputs, too.
INSIDE = ("loss", "encoder_last_hidden_state", "past_key_values")


def registry():
    """Every family once: name -> variant; those with known free dimensions first, the others by model type."""
    known = {k: v for k, v in families.VARIANTS.items() if hasattr(transformers, v.config)}  # older ones lack some
    out = {name: known[name] for name in FREE_DIMS if name in known}
    types = {model_type(v) for v in out.values()}
    unknown = {k: Variant(*v) for k, v in UNKNOWN.items() if hasattr(transformers, v[0])}
    for name, v in [*known.items(), *unknown.items()]:
        kind = model_type(v)
        if kind not in types:
            types.add(kind)
            out[name if kind in out else kind] = v
    return out


def model_type(variant):
    return getattr(transformers, variant.config).model_type


def scatter(model):
    """Replace every parameter by seeded noise, and every stored buffer of reals."""
    families.randomise(model)
    stored = model.state_dict().keys()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.conv._ConvNd):
                w = module.weight
                w *= math.sqrt(w.shape[-1] / math.prod(w.shape[1:]))
        for name, b in model.named_buffers():
            if name not in stored or not b.is_floating_point():
                continue
            noise = torch.randn(b.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            b.copy_(1 + 0.5 * noise.abs() if name.endswith("running_var") else 0.1 * noise)
    return model


def make(variant, out):
    """Write one family."""
    for name, dtype in DTYPES.items():
        # Each copy starts from fp32, so that rounding never happens twice.
        scatter(variant.build()).to(dtype).save_pretrained(out / name)
    sys.argv = ["export.py", str(out / "fp32"), str(out / "model.pt2"), "--tokens", str(pt2.TOKENS)]
    try:
        pt2.export.main()
    except (Exception, SystemExit) as e:
        (out / "refused.txt").write_text((str(e).strip().splitlines() or [type(e).__name__])[0] + "\n")


def examples(model):
    """Two sets of inputs: as long as the exported ones, and two shorter sequences where there is text alone."""
    first = pt2.example(model, model.config)
    yield first
    if {k for k, v in first.items() if torch.is_tensor(v)} == {"input_ids"}:
        ids = first["input_ids"]
        yield first | {"input_ids": torch.stack([ids[0, :7], ids[0].flip(0)[:7]])}


def load(folder, dtype):
    """checkpoints.load in every version of transformers that the exporter runs with."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model, info = model_class(config).from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True, **{pt2.export.KIND: dtype})  # fmt: skip
    if wrong := {k: sorted(map(str, v)) for k, v in info.items() if v}:
        raise ValueError(f"{folder}: transformers did not load every tensor: {wrong}")
    return model.eval()


def answers(folder, dtype):
    """What the model in folder says to the examples: what the exporter takes for a model's outputs. The others,
    an encoder's states among them, lie inside of the network that is sealed, and a seal may move them."""
    model, out = load(folder, DTYPES[dtype]), []
    for given in examples(model):
        given = {k: v.to(DTYPES[dtype]) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in given.items()}
        torch.manual_seed(3)
        with torch.no_grad():
            said = model(**given)
        out += [v for k, v in said.items() if torch.is_tensor(v) and k not in INSIDE]
    return out


# The seals of one original follow each other.
before = {}


def compare(job):
    """The numbers of one comparison."""
    key = job["original"], job["dtype"]
    if key not in before:
        before.clear()
        try:
            before[key] = answers(*key)
        except Exception as e:
            return {"original_error": f"{type(e).__name__}: {str(e).strip()[:300]}"}
    pairs = list(zip(before[key], answers(job["sealed"], job["dtype"]), strict=True))
    finite = [bool(torch.isfinite(torch.cat([p[i].flatten().float() for p in pairs])).all()) for i in (0, 1)]
    equal = all(torch.equal(a, b) for a, b in pairs)
    return {
        "equal": equal,
        "finite": finite[1],
        "original_finite": finite[0],
        "values": sum(a.numel() for a, _ in pairs),
        "difference": max(
            ((a.float() - b.float()).abs().max() / a.float().abs().max().clamp(min=1e-9)).item() for a, b in pairs
        ) if all(finite) else None,
    }  # fmt: skip


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    command, *args = sys.argv[1:]
    if command == "list":
        for name, v in registry().items():
            print(json.dumps({"name": name, "type": model_type(v), "class": v.model, "free_dims": FREE_DIMS.get(name, 0)}))
    elif command == "make":
        every = registry()
        for name in args[1:] or every:
            out = Path(args[0], name)
            try:
                make(every[name], out)
            except Exception as e:
                out.mkdir(parents=True, exist_ok=True)
                (out / "broken.txt").write_text(f"{type(e).__name__}: {str(e).strip().splitlines()[0]}\n")
            print(name, flush=True)
    else:
        for line in Path(args[0]).read_text().splitlines():
            job = json.loads(line)
            try:
                print(json.dumps(job | compare(job)), flush=True)
            except Exception as e:
                print(json.dumps(job | {"error": f"{type(e).__name__}: {str(e).strip()[:300]}"}), flush=True)


if __name__ == "__main__":
    main()
