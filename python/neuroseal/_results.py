"""What the commands report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, TypeVar

T = TypeVar("T", bound="_Report")


@dataclass(frozen=True)
class Progress:
    """How far one stage of a command has come."""

    stage: str
    done: int
    """Bytes."""
    total: int
    """Bytes; 0 if nobody knows how many."""
    seconds: float
    """Since the stage began."""


@dataclass(frozen=True)
class _Report:
    raw: Mapping[str, Any] = field(repr=False)
    """Everything that the command reported, as its --json option prints it."""

    @classmethod
    def of(cls: type[T], raw: Mapping[str, Any]) -> T:
        """Takes the fields that the class names; null and what is missing are
        its defaults."""
        values: dict[str, Any] = {}
        for name, kind in cls.__dataclass_fields__.items():
            value = raw.get(name)
            if name == "raw" or value is None:
                continue
            values[name] = Path(value) if "Path" in str(kind.type) else value
        return cls(raw=raw, **values)


@dataclass(frozen=True)
class LockResult(_Report):
    """A new seal."""

    output: Path = Path()
    dry_run: bool = False
    method: str = ""
    profile: str = ""
    seal_id: str = ""
    model_type: str = ""
    free_dims: int = 0
    coverage: float = 0.0
    """The share of the parameters that move, 0 to 1."""
    bytes: int = 0
    holes: list[dict[str, str]] = field(default_factory=list)
    """Tensors that no factor touches, each with ``tensor`` and ``why``."""
    promise: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Files that were not copied, since they may hold the weights once more."""
    key_file: Path | None = None
    """The file that holds the seal's key; None if keyslots open the seal."""
    detached_key: Path | None = None
    keyslots: list[str] = field(default_factory=list)
    signature: Path | None = None


@dataclass(frozen=True)
class UnlockResult(_Report):
    """A restored original."""

    output: Path = Path()
    files: int = 0
    bytes: int = 0
    exact: bool = False
    """Every file has the original's SHA-256; False after a lock that rounded, and if ``edited``."""
    weights_exact: bool = False
    """Every file has the original's SHA-256, but for ``edited``."""
    edited: list[str] = field(default_factory=list)
    """What was edited after sealing, and is kept: the model card, or nothing."""
    legacy: bool = False
    original_digest: str = ""


@dataclass(frozen=True)
class VerifyResult(_Report):
    """What holds of a sealed checkpoint. None: nothing was there to check it with."""

    ok: bool = False
    method: str = ""
    profile: str = ""
    digests_ok: bool | None = None
    bit_exact_algebra: bool | None = None
    bit_exact_forward: bool | None = None
    key_ok: bool | None = None
    signature: dict[str, Any] | None = None
    """What the signature says, if it was asked for: ``ok``, ``signer``, …"""
    mismatches: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    """What was edited after sealing, as it may be: the model card, or nothing."""


@dataclass(frozen=True)
class UndoResult(_Report):
    """A checkpoint that was re-balanced without any key."""

    output: Path = Path()
    classes: int = 0
    bytes_read: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Inspection(_Report):
    """What a seal touches in a checkpoint, or would touch."""

    model_type: str = ""
    sealed: bool = False
    method: str = ""
    profile: str = ""
    seal_id: str = ""
    free_dims: int = 0
    coverage: float = 0.0
    parameters: int = 0
    bytes: int = 0
    groups: list[dict[str, Any]] = field(default_factory=list)
    holes: list[dict[str, str]] = field(default_factory=list)
    detection: dict[str, Any] | None = None
    promise: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    keyslots: list[dict[str, Any]] = field(default_factory=list)
