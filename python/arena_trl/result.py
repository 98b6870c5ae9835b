"""A finished trial, in the form of package arena's Result."""

import importlib.metadata
import json
import math
import os
import platform
import tempfile
import time

DONE, DIVERGED, IMPOSSIBLE = "done", "diverged", "impossible"

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate")


def new(trial):
    return {
        "id": "",  # the other side knows how trials are named
        "trial": trial,
        "status": DONE,
        "losses": [],
        "evals": [],
        "steps": 0,
        "tokens": 0,
        "trainable": 0,
        "seconds": 0.0,
        "peak_bytes": 0,
        "prepare_seconds": 0.0,
        "bytes_read": 0,
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def impossible(trial, why):
    r = new(trial)
    r["status"], r["reason"] = IMPOSSIBLE, str(why)
    return r


def versions():
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return out


def finite(x):
    """JSON has no infinities: they become null, in lists and objects too."""
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, dict):
        return {k: finite(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [finite(v) for v in x]
    return x


def write(path, result):
    """Writes a result so that the path has all of it or nothing."""
    folder = os.path.dirname(os.path.abspath(path))
    fd, tmp = tempfile.mkstemp(prefix=".result-", dir=folder)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            json.dump(finite(result), f, allow_nan=False)
            f.write("\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    except BaseException:
        os.unlink(tmp)
        raise
