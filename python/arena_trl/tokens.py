"""Token windows, as package arena/corpus exports them: a folder with corpus.json and
little-endian int32. A row holds the tokens of a window and the token behind it, so the
usual shifted loss counts as many targets as the window has tokens. The rows of train are
step-ordered: s·batch … (s+1)·batch are the batch of step s."""

import json
import os

import numpy as np

from .task import TaskError

FORMAT = "neuroseal-batches/1"


def read(task, vocabulary):
    """Returns {train, target, retained: int32 array of [rows, window + 1]}."""
    target, retained = header(task.data["target"]), header(task.data["retained"])
    out = {
        "train": rows(task.data["target"], target, "train", task.steps * task.batch, task.window),
        "target": rows(task.data["target"], target, "heldout", target["evals"], task.window),
        "retained": rows(task.data["retained"], retained, "heldout", retained["evals"], task.window),
    }
    if target["steps"] != task.steps or target["batch"] != task.batch:
        raise TaskError(f"{task.data['target']}: {target['steps']} steps of {target['batch']}, the task has {task.steps} of {task.batch}")
    for name, a in out.items():
        if len(a) == 0:
            raise TaskError(f"{name}: no windows")
        if a.min() < 0 or a.max() >= vocabulary:
            raise TaskError(f"{name} has tokens from {a.min()} to {a.max()}, the model's vocabulary has {vocabulary}")
    return out


def header(folder):
    path = os.path.join(folder, "corpus.json")
    try:
        with open(path, encoding="utf-8") as f:
            head = json.load(f)
    except (OSError, ValueError) as e:
        raise TaskError(f"{path}: {e}") from e
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise TaskError(f"{path}: no export of windows ({FORMAT})")
    for key in ("steps", "batch", "window", "evals"):
        if not isinstance(head.get(key), int):
            raise TaskError(f"{path}: {key} is missing")
    return head


def rows(folder, head, part, count, window):
    path = os.path.join(folder, os.path.basename(str(head.get(part))))
    if head["window"] != window:
        raise TaskError(f"{folder}: windows of {head['window']} tokens, the task has {window}")
    try:
        a = np.fromfile(path, dtype="<i4")
    except OSError as e:
        raise TaskError(f"{path}: {e}") from e
    if len(a) != count * (window + 1):
        raise TaskError(f"{path}: {len(a)} tokens, expected {count} rows of {window + 1}")
    return a.reshape(count, window + 1)
