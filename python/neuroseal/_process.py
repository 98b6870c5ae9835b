"""Runs the command once: its report as an object, its errors as exceptions.

Standard output is the report, a JSON object; standard error is JSON lines. A
passphrase goes through standard input, so that it stands neither in the list of
processes nor in an environment nor on a disk.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any, Callable, Iterator, Mapping, Sequence, Union

from . import _binary
from ._errors import CommandNotFound, UsageError, of_code
from ._results import Progress

log = logging.getLogger("neuroseal")

ProgressOption = Union[bool, Callable[[Progress], None], None]

_WAKE = 0.2  # seconds between two looks for Ctrl-C
_PASSWORD_LIMIT = 1 << 15  # bytes; a pipe holds them, so that writing cannot block


def run(
    verb: Sequence[str],
    options: Sequence[str],
    operands: Sequence[str],
    *,
    password: str | None = None,
    progress: ProgressOption = None,
) -> Mapping[str, Any]:
    """Runs ``neuroseal VERB … --json OPTIONS -- OPERANDS`` and returns its report.

    Ctrl-C (KeyboardInterrupt) is passed on once; the command then removes what
    it began, and KeyboardInterrupt goes on its way.
    """
    argv = [_binary.find(), *verb, "--json", *options]
    secret = None
    if password is not None:
        secret = _secret(password)
        argv.append("--password-fd=0")
    argv += ["--", *operands]
    if any("\0" in a for a in argv):
        raise UsageError("an argument holds a zero byte")
    with tempfile.TemporaryFile() as stdout:
        failure, code = _watch(_start(argv, stdout, secret), secret, _listener(progress))
        stdout.seek(0)
        report = _report(stdout.read())
    if code != 0:
        raise of_code(failure.get("code", code if code > 0 else 1), _message(failure, argv, code), failure.get("hint", ""), report)
    return report or {}


def _secret(password: str) -> bytes:
    raw = password.encode()
    if len(raw) > _PASSWORD_LIMIT:
        raise UsageError(f"a password of {len(raw)} bytes: at most {_PASSWORD_LIMIT} can be passed on")
    # The command drops one line end; one that belongs to the password stays.
    return raw + b"\r\n"


def _start(argv: list[str], stdout: IO[bytes], secret: bytes | None) -> subprocess.Popen[bytes]:
    # In a process group of its own the command gets Ctrl-C once, from here, and
    # not a second time from the terminal: the second one ends it at once.
    group: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        group = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    stdin = subprocess.DEVNULL if secret is None else subprocess.PIPE
    try:
        return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, **group)
    except OSError as e:
        raise CommandNotFound(f"starting {argv[0]}: {e.strerror or e}", hint=_binary.elsewhere()) from None


def _watch(process: subprocess.Popen[bytes], secret: bytes | None, listen: Callable[[Progress], None]) -> tuple[dict[str, Any], int]:
    """Reads what the command says until it ends; returns its error and exit code."""
    failure: dict[str, Any] = {}
    try:
        if secret is not None:
            _give(process, secret)
        for line in _lines(process):
            _hear(line, failure, listen)
        return failure, process.wait()
    except BaseException:
        # Ctrl-C, or an exception of the caller's progress function.
        _interrupt(process)
        raise


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """The lines of standard error. They are read in a thread: Ctrl-C does not wake
    a thread that reads, on Windows never, elsewhere not if it comes just before."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="neuroseal stderr", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_WAKE)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line


def _give(process: subprocess.Popen[bytes], secret: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(secret)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it read; its error says why


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Asks the command to end in good order, and waits until it has."""
    if process.poll() is None:
        try:
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        except OSError:
            pass  # it ended meanwhile
    try:
        process.wait()
    except KeyboardInterrupt:  # the user insists
        process.kill()
        process.wait()


def _hear(line: bytes, failure: dict[str, Any], listen: Callable[[Progress], None]) -> None:
    event: Any = None
    try:
        event = json.loads(line)
    except ValueError:
        pass
    kind = event.get("type") if isinstance(event, dict) else None
    if kind == "progress":
        listen(Progress(event["stage"], event["done"], event["total"], event["seconds"]))
    elif kind == "note":
        log.info("%s", event["message"])
    elif kind == "warning":
        log.warning("%s", event["message"])
    elif kind == "error":
        failure.update(event)
    elif line.strip():
        # Not the command's words: a password command's, or a crash.
        text = line.decode("utf-8", "replace").rstrip()
        failure["heard"] = (failure.get("heard", "") + "\n" + text)[-4000:]
        log.warning("%s", text)


def _report(raw: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _message(failure: dict[str, Any], argv: list[str], code: int) -> str:
    if failure.get("message"):
        return str(failure["message"])
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{argv[0]} {argv[1]} {how}{': ' if failure.get('heard') else ''}{failure.get('heard', '').strip()}"


def _listener(progress: ProgressOption) -> Callable[[Progress], None]:
    if callable(progress):
        return progress
    return _printer() if progress else lambda _: None


def _printer() -> Callable[[Progress], None]:
    """Says on standard error when a stage begins and how far it is, a line each
    time that a tenth is done."""
    last: list[Any] = ["", -1]

    def show(p: Progress) -> None:
        tenth = p.done * 10 // p.total if p.total else 0
        if [p.stage, tenth] != last:
            last[:] = [p.stage, tenth]
            print(f"neuroseal: {p.stage}" + (f" {tenth * 10}%" if p.total else ""), file=sys.stderr)

    return show
