"""Where the command is, and how the console script becomes it.

The console script's start-up time is that of this module and of Python itself,
so nothing is imported here that is not used at once.
"""

from __future__ import annotations

import os
import sys

COMMAND = "NEUROSEAL_COMMAND"  # names another binary than the one in this package
_NAME = "neuroseal.exe" if os.name == "nt" else "neuroseal"


def bundled() -> str:
    """The path of the binary that the wheel for this platform holds."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", _NAME)


def find() -> str:
    """The path of the binary: what NEUROSEAL_COMMAND names, else the one in this
    package, else one on PATH. Raises CommandNotFound."""
    named = os.environ.get(COMMAND)
    if named:
        found = _which(named)
        if found is None:
            raise _not_found(f"{COMMAND} names {named}, which is no program", f"correct {COMMAND}, or remove it")
        return found
    own = bundled()
    if os.path.isfile(own):
        return _executable(own)
    found = _on_path()
    if found is None:
        raise _not_found(
            "there is no neuroseal binary in this package, and none on PATH",
            f"install the wheel for your platform, or build the command with Go and name it in {COMMAND}",
        )
    return found


def main() -> int:
    """The console script: runs the binary with this process's arguments."""
    try:
        binary = find()
    except Exception as e:
        from ._errors import CommandNotFound

        if not isinstance(e, CommandNotFound):
            raise
        print(f"neuroseal: error: {e.message}\nneuroseal: hint: {e.hint}", file=sys.stderr)
        return 127
    return become(binary, sys.argv[1:])


def become(binary: str, args: list[str]) -> int:
    """Replaces this process by the binary. Where a process cannot be replaced
    (Windows), waits for it and returns its exit code."""
    if os.name == "nt":
        return wait_for([binary, *args])
    try:
        os.execv(binary, [binary, *args])
    except OSError as e:
        print(f"neuroseal: error: starting {binary}: {e.strerror}\nneuroseal: hint: {elsewhere()}", file=sys.stderr)
        return 126


def wait_for(argv: list[str]) -> int:
    """Runs a program to its end. A console sends Ctrl-C and Ctrl-Break to every
    process that is attached to it: the program decides what they mean, and this
    process must outlive it."""
    import signal
    import subprocess

    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            # Not SIG_IGN, which a child would inherit on POSIX.
            signal.signal(getattr(signal, name), lambda *_: None)
    with subprocess.Popen(argv) as process:
        if hasattr(signal, "SIGTERM"):
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


def _which(name: str) -> str | None:
    import shutil

    return shutil.which(name)


def _executable(path: str) -> str:
    """Some installers unpack a wheel without its file modes; some folders stand on
    file systems from which nothing is run."""
    if os.access(path, os.X_OK):
        return path
    try:
        os.chmod(path, os.stat(path).st_mode | 0o111)
    except OSError as e:
        raise _not_found(f"{path} is not executable: {e.strerror}", f"make it so: chmod +x {path}; or {elsewhere()}") from None
    if not os.access(path, os.X_OK):
        raise _not_found(f"{path} cannot be run: its file system does not allow programs", elsewhere())
    return path


def elsewhere() -> str:
    """What to do where the binary lies in the wrong place."""
    return f"copy it to a folder from which programs can be run, and name the copy in {COMMAND}"


def _on_path() -> str | None:
    """A binary on PATH. The console script of this package bears the same name,
    and would start itself again."""
    scripts = {os.path.dirname(os.path.abspath(p)) for p in (sys.argv[0], sys.executable) if p}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, _NAME)
        if os.path.dirname(os.path.abspath(path)) in scripts or not os.path.isfile(path) or not os.access(path, os.X_OK):
            continue
        with open(path, "rb") as f:
            if f.read(2) != b"#!":
                return path
    return None


def _not_found(message: str, hint: str) -> Exception:
    from ._errors import CommandNotFound

    return CommandNotFound(message, hint=hint)
