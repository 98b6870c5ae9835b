"""Seals checkpoints one after the other, here or in the background."""

from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import _binary, _checkpoints
from ._commands import generate_key, lock, verify
from ._errors import NeuroSealError, UsageError
from ._results import LockResult

log = logging.getLogger("neuroseal")

_KEY_OPTIONS = ("key_file", "recipients", "recipients_files", "password", "password_file", "password_command")


class Sealer:
    """Seals checkpoint folders into ``output``, each under its own name.

    ``keep`` is how many sealed ones stay, None for all. ``options`` are those of
    ``lock``. ``key`` is where a key is made if they name none, by default beside
    ``output``. With ``raises``, a failure is an exception (of the background: at the
    next call); else it is logged, and in ``failures``.
    """

    def __init__(
        self, output: Path, *, keep: int | None, check: bool, background: bool, raises: bool, options: dict[str, Any], key: Path | None = None
    ) -> None:
        self.output = output
        self.key = key or output.with_name(output.name + ".key")
        self.keep = keep
        self.check = check
        self.background = background
        self.raises = raises
        self.options = options
        self.results: dict[int, LockResult] = {}
        self.failures: dict[int, Exception] = {}
        self._worker: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self._told_adapter = False

    def prepare(self) -> None:
        """Finds out before hours of training whether sealing can work at all."""
        _binary.find()
        key = self.options.get("key_file")
        if key is not None and not os.path.isfile(key):
            raise UsageError(f"key file {key}: no such file", hint="make one: neuroseal key generate FILE")

    def _with_key(self) -> dict[str, Any]:
        """The options, with a key: one for all seals of the run, unless they say
        otherwise. It is made when the first seal needs it."""
        if not self._needs_key():
            return self.options
        if not self.key.exists():
            generate_key(self.key)
            log.warning("the key of this run's seals is in %s: keep it, and do not publish it; without it nobody can unlock them", self.key)
        return {**self.options, "key_file": self.key}

    def _needs_key(self) -> bool:
        given = any(self.options.get(o) for o in _KEY_OPTIONS) or "NEUROSEAL_PASSWORD" in os.environ
        return not given and self.options.get("method") != "static"

    def seal(self, step: int, checkpoint: Path, protect: int | None = None) -> None:
        """Seals a checkpoint, or begins to. The sealed one of step ``protect``
        stays, whatever ``keep`` says."""
        self.wait()  # one at a time: checkpoints must not pile up
        staged = _checkpoints.staging(checkpoint)
        try:
            _checkpoints.check(checkpoint)
            if (self.output / checkpoint.name).resolve() == checkpoint.resolve():
                raise UsageError(f"{self.output} holds the checkpoints themselves", hint="name another folder for the sealed ones")
            shutil.rmtree(staged, ignore_errors=True)
            _checkpoints.stage(checkpoint, staged)
        except _checkpoints.AdapterOnly as e:
            if not self._told_adapter:
                log.warning("not sealed: %s", e)
            self._told_adapter = True
            return
        except (NeuroSealError, OSError) as e:
            shutil.rmtree(staged, ignore_errors=True)
            self._fail(step, e)
            return
        if not self.background:
            self._work(step, checkpoint.name, staged, protect)
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "neuroseal")
        self._running = self._worker.submit(self._work, step, checkpoint.name, staged, protect)

    def wait(self) -> None:
        """Returns when nothing is being sealed any more."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Waits, and ends the background."""
        try:
            self.wait()
        finally:
            if self._worker is not None:
                self._worker.shutdown()
                self._worker = None

    def _work(self, step: int, name: str, staged: Path, protect: int | None) -> None:
        target = self.output / name
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            # What an earlier run sealed at this step is replaced when the new one
            # is complete, as the trainer replaced its checkpoint.
            result = lock(staged, target, **{"force": True, **self._with_key()})
            if self.check:
                verify(target, against=staged, graph=self.options.get("graph"))
            self.results[step] = result
            self.failures.pop(step, None)
            log.info("sealed %s as %s", name, target)
            self._prune(step, protect)
        except (NeuroSealError, OSError) as e:
            self._fail(step, e)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _prune(self, step: int, protect: int | None) -> None:
        if self.keep is None:
            return
        steps = _checkpoints.sealed_steps(self.output)
        old = [s for s in steps if s not in (step, protect)]
        for s in old[: max(0, min(len(old), len(steps) - self.keep))]:
            shutil.rmtree(self.output / f"checkpoint-{s}", ignore_errors=True)

    def _fail(self, step: int, error: Exception) -> None:
        self.failures[step] = error
        if self.raises:
            raise error
        log.warning("checkpoint-%d was not sealed: %s", step, error)
