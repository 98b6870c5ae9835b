"""Write tiny checkpoints with their exported graphs, for the tests of package pt2.

    python pt2.py OUT [--small] [NAME ...]

OUT/NAME holds a randomly initialised fp32 model as transformers writes it,
model.pt2 as pt2/export.py writes it from the config alone, and expected.json:
inputs, and what transformers answers to them. A family that cannot be exported
has refused.txt with the reason instead of model.pt2. --small packs the archive
and leaves out what nobody reads, for fixtures that are committed.
"""

import argparse
import copy
import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import torch
import transformers
from families import randomise
from pt2_families import KNOWN, OTHERS

TOKENS = 11

_path = Path(__file__).parent.parent / "pt2" / "export.py"
_spec = importlib.util.spec_from_file_location("export", _path)
export = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(export)


def example(model, config):
    """Inputs in the exporter's shapes with random content."""
    gen = torch.Generator().manual_seed(1001)
    text = config.get_text_config()
    out = {}
    for name, v in export.inputs(model, config, TOKENS).items():
        if not torch.is_tensor(v):
            out[name] = v
        elif v.dtype.is_floating_point:
            out[name] = torch.randn(v.shape, generator=gen)
        elif name == "token_type_ids":
            out[name] = torch.randint(0, text.type_vocab_size, v.shape, generator=gen)
        else:
            out[name] = torch.randint(3, text.vocab_size, v.shape, generator=gen)
    return out


def tensor(v):
    return {"shape": list(v.shape), "data": v.reshape(-1).tolist()}


def pack(path):
    """The archive with what a reader needs, compressed."""
    with zipfile.ZipFile(path) as old:
        entries = {n: old.read(n) for n in old.namelist() if "_inputs" not in n and "/.data/" not in n}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, data)


def write(name, out, small):
    config, cls, args = {**KNOWN, **OTHERS}[name]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = getattr(transformers, config)(**copy.deepcopy(args))
    config._attn_implementation = "eager"
    model = getattr(transformers, cls)(config).eval()
    randomise(model)
    model.save_pretrained(out)
    inputs = example(model, config)
    with torch.no_grad():
        answer = model(**inputs)
    drop = ("loss", "encoder_last_hidden_state", "past_key_values")
    answer = [v.float() for k, v in answer.items() if torch.is_tensor(v) and k not in drop]
    (out / "expected.json").write_text(json.dumps({
        "inputs": {k: tensor(v) for k, v in inputs.items() if torch.is_tensor(v)},
        "outputs": [tensor(v) for v in answer],
    }))  # fmt: skip
    sys.argv = ["export.py", str(out), str(out / "model.pt2"), "--tokens", str(TOKENS)]
    export.main()
    if small:
        pack(out / "model.pt2")
        (out / "generation_config.json").unlink(missing_ok=True)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("out", type=Path)
    args.add_argument("names", nargs="*")
    args.add_argument("--small", action="store_true")
    args = args.parse_args()
    for name in args.names or [*KNOWN, *OTHERS]:
        try:
            write(name, args.out / name, args.small)
        except (Exception, SystemExit) as e:
            reason = str(e).strip().splitlines() or [type(e).__name__]
            (args.out / name / "model.pt2").unlink(missing_ok=True)
            (args.out / name / "refused.txt").write_text(reason[0] + "\n")
        print(name, flush=True)


if __name__ == "__main__":
    main()
