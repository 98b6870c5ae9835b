"""What is to be trained: package arena's Task, and where its texts are."""

import json
from dataclasses import dataclass, field


class TaskError(ValueError):
    """The task cannot be read, or says something that makes no sense."""


class Unsupported(Exception):
    """The recipe does not apply to this model or engine: a result, not a failure."""


PRECISIONS = ("fp32", "bf16", "fp16")
BASES = ("", "nf4", "nf4-dq", "int8")
PARTS = ("full", "tensors", "norms", "embeddings", "head")  # kinds that train the model's own parameters
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Training:
    kind: str
    modules: tuple = ()
    rank: int = 0
    alpha: float = 0.0
    rslora: bool = False
    ratio: float = 0.0
    feed_forward: tuple = ()
    virtual: int = 0
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Optimizer:
    """A zero field has the default of its method; a negative one stands for zero."""

    method: str
    beta1: float = 0.0
    beta2: float = 0.0
    eps: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0

    def value(self, name, default):
        x = getattr(self, name)
        return default if x == 0 else max(x, 0.0)


@dataclass(frozen=True)
class Task:
    trial: dict  # as it came, for the result
    model: str  # folder
    data: dict  # folders of the target and the retained text
    train: Training
    optimizer: Optimizer
    schedule: str
    warmup: int  # steps
    clip: float
    precision: str
    base: str
    lr: float
    seed: int
    steps: int
    batch: int
    window: int
    evals: int

    def eval_steps(self):
        """The steps after which held-out texts are looked at; 0 comes first."""
        n = min(self.evals, self.steps)
        return [0] + [i * self.steps // n for i in range(1, n + 1)]


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return parse(json.load(f))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise TaskError(f"{path}: {e}") from e


def parse(raw):
    """Checks a task's JSON and gives its fields their defaults."""
    trial, paths = _dict(raw, "trial"), _dict(raw, "paths")
    recipe = _dict(trial, "recipe")
    steps = _int(trial, "steps", 1)
    schedule = recipe.get("schedule") or "linear"
    precision = recipe.get("precision") or "fp32"
    base = recipe.get("base") or ""
    _among("schedule", schedule, SCHEDULES)
    _among("precision", precision, PRECISIONS)
    _among("base", base, BASES)
    if recipe.get("method", "train") not in ("", "train"):
        raise Unsupported(f"method {recipe['method']}: the embedded engine carries weights over, this one only trains")
    if recipe.get("prepare") and not paths.get("model"):
        raise TaskError("the recipe prepares the model, and no prepared model is named")
    return Task(
        trial=trial,
        model=_str(paths, "model"),
        data={k: _str(_dict(raw, "data"), k) for k in ("target", "retained")},
        train=_training(_dict(recipe, "train")),
        optimizer=_optimizer(_dict(recipe, "optimizer")),
        schedule=schedule,
        warmup=int(_float(recipe, "warmup", 0, 1) * steps),
        clip=_float(recipe, "clip", 0),
        precision=precision,
        base=base,
        lr=_float(trial, "lr", 0),
        seed=_int(trial, "seed", 0),
        steps=steps,
        batch=_int(trial, "batch", 1),
        window=_int(trial, "window", 2),
        evals=_int(trial, "evals", 1),
    )


def _training(t):
    if not isinstance(t.get("options") or {}, dict):
        raise TaskError("train.options is no object")
    return Training(
        kind=_str(t, "kind"),
        modules=_names(t, "modules"),
        rank=_int(t, "rank", 0, 0),
        alpha=_float(t, "alpha", 0),
        rslora=bool(t.get("rslora", False)),
        ratio=_float(t, "ratio", 0),
        feed_forward=_names(t, "feed_forward"),
        virtual=_int(t, "virtual", 0, 0),
        options=dict(t.get("options") or {}),
    )


def _optimizer(o):
    known = {"beta1", "beta2", "eps", "weight_decay", "momentum"}
    return Optimizer(_str(o, "method"), **{k: _float(o, k) for k in known if k in o})


def _dict(d, key):
    if not isinstance(d, dict) or not isinstance(d.get(key), dict):
        raise TaskError(f"{key}: no object of that name")
    return d[key]


def _str(d, key):
    if not isinstance(d.get(key), str) or not d[key]:
        raise TaskError(f"{key}: a name is missing")
    return d[key]


def _names(d, key):
    v = d.get(key) or []
    if not isinstance(v, list) or not all(isinstance(x, str) for x in v):
        raise TaskError(f"{key}: no list of names")
    return tuple(v)


def _int(d, key, low, default=None):
    v = d.get(key, default)
    if not isinstance(v, int) or isinstance(v, bool) or v < low:
        raise TaskError(f"{key}: {v!r}, expected a whole number of at least {low}")
    return v


def _float(d, key, low=None, high=None):
    v = d.get(key, 0)
    if not isinstance(v, (int, float)) or isinstance(v, bool) or (low is not None and not v >= low) or (high is not None and not v <= high):
        raise TaskError(f"{key}: {v!r} is out of range")
    return float(v)


def _among(what, v, known):
    if v not in known:
        raise TaskError(f"unknown {what} {v!r}: one of {', '.join(k or '(none)' for k in known)}")
