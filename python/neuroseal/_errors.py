"""The exceptions: one for each documented exit code of the command."""

from __future__ import annotations

from typing import Any


class NeuroSealError(Exception):
    """The command failed. The text of the exception is its message and its hint."""

    code = 1
    """The exit code that stands for this kind of error."""

    def __init__(self, message: str, *, hint: str = "", code: int | None = None, result: Any = None) -> None:
        super().__init__(message, hint)
        self.message = message
        """What is wrong, and where."""
        self.hint = hint
        """What to do next; may be empty."""
        if code is not None:
            self.code = code
        self.result = result
        """What the command found before it failed, if anything: of ``verify``, a VerifyResult."""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> Any:  # what crosses processes keeps everything
        return _rebuild, (type(self), self.message, self.hint, self.code, self.result)


def _rebuild(kind: type[NeuroSealError], message: str, hint: str, code: int, result: Any) -> NeuroSealError:
    return kind(message, hint=hint, code=code, result=result)


class UsageError(NeuroSealError):
    """An option is wrong, or the output exists (exit code 2)."""

    code = 2


class NotSealed(NeuroSealError):
    """The checkpoint is not sealed (exit code 10)."""

    code = 10


class AlreadySealed(NeuroSealError):
    """The checkpoint is sealed already, or looks sealed (exit code 11)."""

    code = 11


class WrongKey(NeuroSealError):
    """Wrong password, key or identity; nothing was written (exit code 12)."""

    code = 12


class Mismatch(NeuroSealError):
    """Bytes are not what they should be: damaged, or verification failed (exit code 13)."""

    code = 13


class Unsupported(NeuroSealError):
    """The architecture, configuration or format is unknown or unsafe to seal (exit code 14)."""

    code = 14


class NoSpace(NeuroSealError):
    """Not enough disk space (exit code 15)."""

    code = 15


class Interrupted(NeuroSealError):
    """The command was interrupted by a signal from elsewhere; what was begun is
    removed (exit code 130). After Ctrl-C in this process it is KeyboardInterrupt."""

    code = 130


class CommandNotFound(NeuroSealError):
    """There is no binary for this platform, or it cannot be run (127, as a shell says it)."""

    code = 127


BY_CODE: dict[int, type[NeuroSealError]] = {
    kind.code: kind
    for kind in (
        NeuroSealError,
        UsageError,
        NotSealed,
        AlreadySealed,
        WrongKey,
        Mismatch,
        Unsupported,
        NoSpace,
        Interrupted,
        CommandNotFound,
    )
}


def of_code(code: int, message: str, hint: str = "", result: Any = None) -> NeuroSealError:
    """The exception for an exit code."""
    return BY_CODE.get(code, NeuroSealError)(message, hint=hint, code=code, result=result)
