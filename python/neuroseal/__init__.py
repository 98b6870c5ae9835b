"""NeuroSeal from Python: seals open-weight language models, proves that they
answer as before, and takes the seal back.

    import neuroseal

    neuroseal.lock("./Llama-3.2-1B", "./sealed")                       # writes the key to ./sealed.key
    neuroseal.verify("./sealed", against="./Llama-3.2-1B", run=True)   # raises Mismatch if anything differs
    neuroseal.unlock("./sealed", "./restored", key_file="./sealed.key")

The functions run the command ``neuroseal``, which this package holds, and return
what it reports. Arguments are named like its options. Errors are exceptions, one
for each of its exit codes. ``NeuroSealCallback`` seals the checkpoints that
transformers' Trainer writes.
"""

from __future__ import annotations

# typing itself is not imported: it would be a third of the start-up time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._binary import find as command
    from ._commands import generate_key, inspect, lock, undo, unlock, verify, version
    from ._errors import (
        AlreadySealed,
        CommandNotFound,
        Interrupted,
        Mismatch,
        NeuroSealError,
        NoSpace,
        NotSealed,
        Unsupported,
        UsageError,
        WrongKey,
    )
    from ._results import Inspection, LockResult, Progress, UndoResult, UnlockResult, VerifyResult
    from .transformers import NeuroSealCallback

    __version__: str

# The console script imports this package before it becomes the command: names
# are looked up when they are first used. transformers is imported only for the
# callback.
_HOMES = {
    "_binary": ("command",),
    "_commands": ("generate_key", "inspect", "lock", "undo", "unlock", "verify", "version"),
    "_errors": (
        "AlreadySealed",
        "CommandNotFound",
        "Interrupted",
        "Mismatch",
        "NeuroSealError",
        "NoSpace",
        "NotSealed",
        "Unsupported",
        "UsageError",
        "WrongKey",
    ),
    "_results": ("Inspection", "LockResult", "Progress", "UndoResult", "UnlockResult", "VerifyResult"),
    "transformers": ("NeuroSealCallback",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: F822 (found by __getattr__)
    "AlreadySealed",
    "CommandNotFound",
    "Inspection",
    "Interrupted",
    "LockResult",
    "Mismatch",
    "NeuroSealCallback",
    "NeuroSealError",
    "NoSpace",
    "NotSealed",
    "Progress",
    "UndoResult",
    "UnlockResult",
    "Unsupported",
    "UsageError",
    "VerifyResult",
    "WrongKey",
    "command",
    "generate_key",
    "inspect",
    "lock",
    "undo",
    "unlock",
    "verify",
    "version",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _installed_version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), "find" if name == "command" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])


def _installed_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("neuroseal")
    except metadata.PackageNotFoundError:
        return "0+unknown"  # used from its source folder
