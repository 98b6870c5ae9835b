"""Checkpoints as trainers leave them: whether there is a model in one that can be
sealed, and which of its files are the model's.

A training checkpoint holds more than a model: the optimizer's moments, random
states, DeepSpeed's and FSDP's pieces of the weights. None of that belongs into a
sealed folder: much of it is pickled, and moments or fp32 masters next to sealed
weights would tell the seal.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
from pathlib import Path

from ._errors import Mismatch, NeuroSealError, Unsupported

NAME = re.compile(r"checkpoint-(\d+)")

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
INCOMPLETE = "checkpoint-is-incomplete.txt"  # transformers: a save that goes on, or was cut off

_TRAINING_FILES = (
    "*.pt", "*.pth", "*.bin", "*.pkl", "*.pickle", "*.ckpt", "*.distcp", "*.npz", "*.npy", "*.h5",
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "random_states*", "trainer_state.json", "training_args*",
    "latest", "zero_to_fp32.py", "*.bin.index.json", "events.out.tfevents.*", "adapter_*", INCOMPLETE,
)  # fmt: skip
_TRAINING_FOLDERS = ("global_step*", "pytorch_model_fsdp*", "optimizer*", "runs", "ref", "checkpoint-*", ".*", "_*")


class AdapterOnly(NeuroSealError):
    """The checkpoint holds an adapter and no model: there is nothing to seal."""


def check(folder: Path) -> None:
    """Returns if the folder holds the weights of a model as safetensors, whole.
    Raises AdapterOnly, Mismatch (incomplete) or Unsupported."""
    if (folder / INCOMPLETE).exists():
        raise Mismatch(f"{folder} is incomplete: {INCOMPLETE} stands in it", hint="seal it when it has been written")
    if (folder / INDEX).is_file():
        missing = sorted(set(_shards(folder)) - {p.name for p in folder.iterdir()})
        if missing:
            raise Mismatch(
                f"{folder} is incomplete: {missing[0]} is missing, which {INDEX} names",
                hint="if checkpoints are written in the background, seal them when training has ended",
            )
        return
    if (folder / WEIGHTS).is_file():
        return
    raise _why_not(folder)


def stage(folder: Path, into: Path) -> None:
    """Makes the new folder ``into`` with the model's files of a checkpoint, as
    hard links: they cost no space, and stay when the checkpoint is rotated away.
    Where links cannot be made, copies."""
    into.mkdir(parents=True)
    for here, folders, files in os.walk(folder):
        rel = Path(here).relative_to(folder)
        folders[:] = sorted(f for f in folders if not _any(f, _TRAINING_FOLDERS))
        for name in sorted(files):
            if not _any(name, _TRAINING_FILES):
                (into / rel).mkdir(exist_ok=True)
                _link(Path(here) / name, into / rel / name)


def staging(checkpoint: Path) -> Path:
    """Where a checkpoint is staged: beside it, so that links can be made, and under
    a name that trainers neither rotate nor resume from nor upload."""
    return checkpoint.with_name(f"_sealing-{checkpoint.name}")


def clear(run: Path) -> None:
    """Removes what a run that was killed had staged: the links keep checkpoints
    on the disk that are long rotated away."""
    for left in run.glob("_sealing-checkpoint-*"):
        shutil.rmtree(left, ignore_errors=True)


def sealed_steps(output: Path) -> list[int]:
    """The steps whose sealed checkpoints lie in ``output``, in the order in which
    they were sealed."""
    found = []
    for entry in output.iterdir() if output.is_dir() else ():
        match = NAME.fullmatch(entry.name)
        manifest = entry / "neuroseal_config.json"
        if match and manifest.is_file():
            found.append((manifest.stat().st_mtime_ns, int(match.group(1))))
    return [step for _, step in sorted(found)]


def _shards(folder: Path) -> list[str]:
    try:
        names = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Mismatch(f"{folder / INDEX} is no index of shards: {e!r}") from None
    return [str(n) for n in names]


def _why_not(folder: Path) -> NeuroSealError:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if _find(names, "adapter_config.json", "adapter_model.*"):
        return AdapterOnly(
            f"{folder} holds a PEFT adapter and no model: training leaves the base model as it is, so there is nothing to seal",
            hint="seal the base model with neuroseal lock, and bring the adapter over with neuroseal adapter; "
            "or merge the adapter, save the model, and seal that",
        )
    sharded = _find(names, "pytorch_model_fsdp*")
    if sharded:
        return Unsupported(
            f"{folder} holds FSDP's {sharded}, no {WEIGHTS}",
            hint="let FSDP save a FULL_STATE_DICT, or merge the pieces with accelerate merge-weights, and seal the result",
        )
    deep = _find(names, "global_step*")
    if deep:
        return Unsupported(
            f"{folder} holds DeepSpeed's {deep}, no {WEIGHTS}",
            hint='set "stage3_gather_16bit_weights_on_model_save": true, or gather the weights with zero_to_fp32.py, and seal the result',
        )
    pickled = _find(names, "pytorch_model*.bin", "pytorch_model.bin.index.json", "*.ckpt")
    if pickled:
        return Unsupported(
            f"{folder} holds the weights as a pickle, {pickled}, which can run code when it is loaded",
            hint="save them as safetensors (transformers 4: save_safetensors=True)",
        )
    return Unsupported(
        f"{folder} holds no weights: no {WEIGHTS}, no {INDEX}",
        hint="if checkpoints are written in the background, seal them when training has ended",
    )


def _find(names: list[str], *patterns: str) -> str:
    return next((n for n in names if _any(n, patterns)), "")


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
