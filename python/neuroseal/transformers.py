"""A callback that seals what transformers' Trainer saves.

    from neuroseal.transformers import NeuroSealCallback

    trainer = Trainer(..., callbacks=[NeuroSealCallback(profile="strong", recipients=["age1..."])])
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Iterable

try:
    from transformers import TrainerCallback
except ImportError as e:
    raise ImportError("NeuroSealCallback needs transformers: pip install transformers") from e

from ._checkpoints import clear
from ._commands import StrPath
from ._errors import UsageError
from ._results import LockResult
from ._sealer import Sealer

log = logging.getLogger("neuroseal")


class NeuroSealCallback(TrainerCallback):
    """Seals each checkpoint that the Trainer writes, as OUTPUT/checkpoint-N.

    Only files are read: the checkpoint that was written is sealed into a folder
    beside it. The model that is being trained, and the checkpoint that a resumed
    run needs, stay as they are. Optimizer states and other remains of training
    are not in the sealed folder. Of several processes only the first of the first
    node seals; on_save keeps the others waiting at their next exchange, which
    ``background=True`` avoids.

    Args:
        output: folder for sealed checkpoints. Default: ``_sealed`` in the Trainer's
            output folder; neither rotation nor resume_from_checkpoint looks there,
            and the Trainer's uploads leave out what begins with an underscore.
        profile: portable, strong or max.
        key_file: the seal key, the same for all saves. Without it and without
            recipients or a password, a key is made once, as OUTPUT.key, and used
            again by resumed runs. Where the Trainer would upload that file, it is
            made in the Trainer's output folder, under a name with an underscore.
        recipients: age recipients; every save gets a key of its own, wrapped for
            them, unless ``key_file`` is given.
        password: wraps the keys likewise.
        when: "save" seals every save; "end" only, when training has ended, the
            model that then counts: the best checkpoint with load_best_model_at_end,
            else the last.
        keep: how many sealed checkpoints stay, the newest; default all. The sealed
            one of the best checkpoint stays, too.
        verify: compare every seal with its checkpoint, file by file and weight by
            weight.
        background: seal while training goes on. A save waits until the one before
            is sealed, and the end of training for the last.
        on_failure: "warn" logs what could not be sealed, "raise" ends the training
            with it. An adapter's checkpoint is no failure: there is nothing to seal
            in it, which is said once.
        options: further arguments of ``neuroseal.lock``.

    Attributes:
        results: step → LockResult.
        failures: step → exception.
    """

    def __init__(
        self,
        output: StrPath | None = None,
        *,
        profile: str | None = None,
        key_file: StrPath | None = None,
        recipients: Iterable[str] = (),
        password: str | None = None,
        when: str = "save",
        keep: int | None = None,
        verify: bool = False,
        background: bool = False,
        on_failure: str = "warn",
        **options: Any,
    ) -> None:
        if when not in ("save", "end"):
            raise ValueError(f"when={when!r}: save or end")
        if on_failure not in ("warn", "raise"):
            raise ValueError(f"on_failure={on_failure!r}: warn or raise")
        if keep is not None and keep < 1:
            raise ValueError(f"keep={keep}: at least 1")
        if isinstance(recipients, str):
            raise TypeError(f"recipients takes a list; one item is [{recipients!r}]")
        for name in ("dry_run", "detached_key"):
            if options.get(name):
                raise ValueError(f"{name} is not for checkpoints of a run")
        self.output = None if output is None else Path(output)
        self.when = when
        self._sealer_options: dict[str, Any] = {"keep": keep, "check": verify, "background": background, "raises": on_failure == "raise"}
        self._lock_options = {"profile": profile, "key_file": key_file, "recipients": list(recipients), "password": password, **options}
        self._sealer: Sealer | None = None
        self._last: Path | None = None
        self.results: dict[int, LockResult] = {}
        self.failures: dict[int, Exception] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._sealer, self._last = None, None
        self.results.clear()
        self.failures.clear()
        if not state.is_world_process_zero:
            return
        if getattr(state, "is_hyper_param_search", False):
            log.warning("the trials of a hyperparameter search are not sealed; train with the best values, and seal that")
            return
        run = Path(args.output_dir)
        output = run / "_sealed" if self.output is None else self.output
        if output.resolve() == run.resolve():
            raise UsageError(f"{output} is where the Trainer puts its checkpoints", hint="name another folder for the sealed ones")
        if getattr(args, "push_to_hub", False):
            self._keep_secrets(run)
        sealer = Sealer(output, options=self._lock_options, key=_key(run, output), **self._sealer_options)
        sealer.prepare()
        clear(run)
        sealer.results, sealer.failures = self.results, self.failures
        self._sealer = sealer

    def _keep_secrets(self, run: Path) -> None:
        for name in ("key_file", "password_file"):
            secret = self._lock_options.get(name)
            if secret is not None and _uploaded(run, Path(secret)):
                raise UsageError(f"{secret} would be uploaded: the Trainer pushes {run} to the hub", hint="keep it elsewhere")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._sealer is None:
            return
        self._last = _checkpoint(args, state.global_step)
        if self.when == "save":
            self._sealer.seal(state.global_step, self._last, _best(state))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        sealer, self._sealer = self._sealer, None
        if sealer is None:
            return
        try:
            if self.when == "end":
                self._seal_end(sealer, args, state)
        finally:
            sealer.close()
        if self.failures:
            log.warning("not sealed: %s", ", ".join(f"checkpoint-{n}" for n in sorted(self.failures)))

    def _seal_end(self, sealer: Sealer, args: Any, state: Any) -> None:
        best = _best(state) if args.load_best_model_at_end else None
        # A save on a termination signal tells callbacks nothing.
        last = _checkpoint(args, state.global_step if best is None else best)
        folder = last if last.is_dir() else self._last
        if folder is None or not folder.is_dir():
            log.warning("nothing was saved in this run, so nothing is sealed; seal what save_model writes with neuroseal.lock")
            return
        sealer.seal(int(folder.name.rpartition("-")[2]), folder)


def _checkpoint(args: Any, step: int) -> Path:
    return Path(args.output_dir) / f"checkpoint-{step}"


def _uploaded(run: Path, path: Path) -> bool:
    """Whether the Trainer's uploads of its output folder take a file along: they
    leave out what begins with an underscore, and checkpoints."""
    try:
        inside = path.resolve().relative_to(run.resolve())
    except ValueError:
        return False
    return not inside.parts[0].startswith(("_", "checkpoint-"))


def _key(run: Path, output: Path) -> Path:
    """Where a run's key is made: beside the sealed checkpoints, unless it would be
    uploaded from there, now or by a later call of push_to_hub."""
    beside = output.with_name(output.name + ".key")
    if not _uploaded(run, beside):
        return beside
    return run / ("_" + "_".join(beside.resolve().relative_to(run.resolve()).parts))


def _best(state: Any) -> int | None:
    """The step of the best checkpoint so far, which the Trainer's rotation spares."""
    if not state.best_model_checkpoint:
        return None
    step = Path(state.best_model_checkpoint).name.rpartition("-")[2]
    return int(step) if step.isdigit() else None
