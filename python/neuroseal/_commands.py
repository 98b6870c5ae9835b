"""The commands as functions, with arguments named like the command's options.

What the command says besides its result goes to the logger ``neuroseal``: notes
at level INFO, warnings at WARNING.
"""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, Sequence, Union

from ._process import ProgressOption, run
from ._results import Inspection, LockResult, UndoResult, UnlockResult, VerifyResult

StrPath = Union[str, "os.PathLike[str]"]


def lock(
    src: StrPath,
    dst: StrPath,
    *,
    profile: str | None = None,
    method: str | None = None,
    scale: float | None = None,
    key_file: StrPath | None = None,
    recipients: Iterable[str] = (),
    recipients_files: Iterable[StrPath] = (),
    label: str | None = None,
    registry: StrPath | None = None,
    registry_recipients: Iterable[str] = (),
    password: str | None = None,
    password_file: StrPath | None = None,
    password_command: str | None = None,
    detached_key: StrPath | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    permute: bool = False,
    signs: bool = False,
    sign: StrPath | None = None,
    sign_cert: StrPath | None = None,
    sign_chain: Iterable[StrPath] = (),
    sign_password_file: StrPath | None = None,
    sign_password_command: str | None = None,
    graph: StrPath | None = None,
    card: StrPath | None = None,
    no_card: bool = False,
    no_metadata: bool = False,
    force: bool = False,
    dry_run: bool = False,
    allow_unsealed: bool = False,
    allow_sealed: bool = False,
    progress: ProgressOption = None,
    extra: Sequence[str] = (),
) -> LockResult:
    """Seals the checkpoint ``src`` into the new folder ``dst``. ``src`` is a folder, a
    file or a model on the hub (org/name); a token is taken from HF_TOKEN.

    ``profile`` is portable (the default), strong or max. The key: with ``key_file``
    that one, so that the same input gives the same bytes; otherwise a new random
    one, wrapped for the ``recipients`` and for the password; without any of these
    (and without NEUROSEAL_PASSWORD in the environment) it is written to DST.key.
    ``sign`` names a private key that signs the output. ``progress`` is True (lines
    on standard error) or a function that takes a ``Progress``. ``extra`` holds
    further options as on the command line.

    Raises AlreadySealed, Unsupported, NoSpace, UsageError, …; nothing is visible
    at ``dst`` then.
    """
    options = _options(
        profile=profile,
        method=method,
        scale=scale,
        key_file=key_file,
        recipient=_list(recipients, "recipients"),
        recipients_file=_list(recipients_files, "recipients_files"),
        label=label,
        registry=registry,
        registry_recipient=_list(registry_recipients, "registry_recipients"),
        password_file=password_file,
        password_command=password_command,
        detached_key=detached_key,
        include=_list(include, "include"),
        exclude=_list(exclude, "exclude"),
        permute=permute,
        signs=signs,
        sign=sign,
        sign_cert=sign_cert,
        sign_chain=_list(sign_chain, "sign_chain"),
        sign_password_file=sign_password_file,
        sign_password_command=sign_password_command,
        graph=graph,
        card=card,
        no_card=no_card,
        no_metadata=no_metadata,
        force=force,
        dry_run=dry_run,
        allow_unsealed=allow_unsealed,
        allow_sealed=allow_sealed,
    )
    return LockResult.of(_run("lock", [*options, *extra], [src, dst], password, progress))


def unlock(
    src: StrPath,
    dst: StrPath,
    *,
    key_file: StrPath | None = None,
    identities: Iterable[StrPath] = (),
    password: str | None = None,
    password_file: StrPath | None = None,
    password_command: str | None = None,
    detached_key: StrPath | None = None,
    force: bool = False,
    legacy_v2: bool = False,
    legacy_static: float | None = None,
    scale: float | None = None,
    progress: ProgressOption = None,
    extra: Sequence[str] = (),
) -> UnlockResult:
    """Restores the original of the sealed checkpoint ``src`` into the new folder
    ``dst``; every file has the recorded SHA-256, or nothing becomes visible.

    Without a key option, SRC.key is used if it exists. The legacy options undo
    what the original Python tool sealed. Raises NotSealed, WrongKey, Mismatch, …
    """
    options = _options(
        key_file=key_file,
        identity=_list(identities, "identities"),
        password_file=password_file,
        password_command=password_command,
        detached_key=detached_key,
        force=force,
        legacy_v2=legacy_v2,
        legacy_static=legacy_static,
        scale=scale,
    )
    return UnlockResult.of(_run("unlock", [*options, *extra], [src, dst], password, progress))


def verify(
    sealed: StrPath,
    *,
    against: StrPath | None = None,
    run: bool = False,
    quantizers: bool = False,
    key_file: StrPath | None = None,
    identities: Iterable[StrPath] = (),
    password: str | None = None,
    password_file: StrPath | None = None,
    password_command: str | None = None,
    detached_key: StrPath | None = None,
    find_key: bool = False,
    signature: StrPath | None = None,
    public_key: StrPath | None = None,
    cert_roots: Iterable[StrPath] = (),
    at: str | None = None,
    allow_symlinks: bool = False,
    graph: StrPath | None = None,
    progress: ProgressOption = None,
    extra: Sequence[str] = (),
) -> VerifyResult:
    """Checks that ``sealed`` computes what the original does: its files, with
    ``against`` or a key every weight, with ``run`` both networks' outputs, and with
    ``public_key`` or ``cert_roots`` the signature.

    Raises Mismatch if anything is not as it should be; the exception's ``result``
    is the VerifyResult that says what.
    """
    options = _options(
        against=against,
        run=run,
        quantizers=quantizers,
        key_file=key_file,
        identity=_list(identities, "identities"),
        password_file=password_file,
        password_command=password_command,
        detached_key=detached_key,
        find_key=find_key,
        signature=signature,
        public_key=public_key,
        cert_roots=_list(cert_roots, "cert_roots"),
        at=at,
        allow_symlinks=allow_symlinks,
        graph=graph,
    )
    from ._errors import NeuroSealError

    try:
        return VerifyResult.of(_run("verify", [*options, *extra], [sealed], password, progress))
    except NeuroSealError as e:
        if isinstance(e.result, Mapping):
            e.result = VerifyResult.of(e.result)
        raise


def inspect(
    path: StrPath,
    *,
    profile: str | None = None,
    detect: bool = False,
    graph: StrPath | None = None,
    allow_unsealed: bool = False,
    progress: ProgressOption = None,
    extra: Sequence[str] = (),
) -> Inspection:
    """Says what a seal touches in the checkpoint ``path``, or would touch; with
    ``detect``, whether its weights look sealed. No key is needed."""
    options = _options(profile=profile, detect=detect, graph=graph, allow_unsealed=allow_unsealed)
    return Inspection.of(_run("inspect", [*options, *extra], [path], None, progress))


def undo(
    src: StrPath,
    dst: StrPath,
    *,
    no_key: bool = False,
    graph: StrPath | None = None,
    force: bool = False,
    allow_unsealed: bool = False,
    progress: ProgressOption = None,
    extra: Sequence[str] = (),
) -> UndoResult:
    """Re-balances ``src`` into ``dst`` without any key, as an informed attacker
    would; ``no_key=True`` says that this is meant. It is not the original."""
    options = _options(no_key=no_key, graph=graph, force=force, allow_unsealed=allow_unsealed)
    return UndoResult.of(_run("undo", [*options, *extra], [src, dst], None, progress))


def generate_key(path: StrPath) -> str:
    """Writes a new seal key to ``path``, readable by its owner only, and returns
    the path. A file that exists is never replaced (UsageError)."""
    return str(run(["key", "generate"], [], [os.fspath(path)])["key_file"])


def version() -> Mapping[str, Any]:
    """The binary's version, Go toolchain, platform and manifest schema."""
    return run(["version"], [], [])


def _run(verb: str, options: Sequence[str], operands: Sequence[StrPath], password: str | None, progress: ProgressOption) -> Mapping[str, Any]:
    return run([verb], options, [os.fspath(p) for p in operands], password=password, progress=progress)


def _list(values: Iterable[Any], name: str) -> list[Any]:
    if isinstance(values, (str, os.PathLike)):
        raise TypeError(f"{name} takes a list; one item is [{values!r}]")
    return list(values)


def _options(**values: Any) -> list[str]:
    """Options as --name=value: so a value may begin with a dash."""
    out: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            out.append(flag)
            continue
        for item in value if isinstance(value, list) else [value]:
            text = repr(float(item)) if isinstance(item, (int, float)) else os.fspath(item)
            out.append(f"{flag}={text}")
    return out
