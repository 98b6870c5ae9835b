"""A stand-in for the binary: says what NEUROSEAL_STANDIN tells it to, and notes how
it was called. Tests of the module need neither Go nor a model."""

import json
import os
import pathlib
import stat
import sys
import textwrap

PROGRAM = """\
#!{python}
import json, os, signal, sys, time
plan = json.load(open({plan!r}))
note = {{"argv": sys.argv[1:], "environ": sorted(os.environ), "stdin": sys.stdin.buffer.read().decode()}}
with open({calls!r}, "a") as f:
    f.write(json.dumps(note) + "\\n")
for line in plan.get("stderr", []):
    print(line if isinstance(line, str) else json.dumps(line), file=sys.stderr, flush=True)
if "sleep" in plan:
    def stop(*_):
        with open({calls!r}, "a") as f:
            f.write(json.dumps({{"interrupted": True}}) + "\\n")
        print(json.dumps({{"type": "error", "code": 130, "message": "interrupted"}}), file=sys.stderr)
        sys.exit(130)
    signal.signal(signal.SIGINT, stop)
    print(json.dumps({{"type": "progress", "stage": "waiting", "done": 0, "total": 0, "seconds": 0}}), file=sys.stderr, flush=True)
    end = time.monotonic() + plan["sleep"]
    while time.monotonic() < end:  # a signal just before a sleep does not cut it short
        time.sleep(0.05)
if plan.get("make") and sys.argv[1] == "lock":  # the folder that lock makes, with a manifest
    out = sys.argv[-1]
    os.makedirs(out, exist_ok=True)
    open(os.path.join(out, "neuroseal_config.json"), "w").close()
    with open(os.path.join(out, "files.json"), "w") as f:
        source = sys.argv[-2]
        json.dump({{os.path.relpath(os.path.join(d, n), source): os.stat(os.path.join(d, n)).st_ino for d, _, ns in os.walk(source) for n in ns}}, f)
if "generate" in sys.argv:
    open(sys.argv[-1], "w").close()
    print(json.dumps({{"key_file": sys.argv[-1]}}))
elif "stdout" in plan:
    print(plan["stdout"] if isinstance(plan["stdout"], str) else json.dumps(plan["stdout"]))
sys.exit(plan.get("exit", 0))
"""


class StandIn:
    """Writes the program into a folder and makes it the command."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.program = self.folder / "stand-in"
        self._plan, self._calls = self.folder / "plan.json", self.folder / "calls.jsonl"
        self.program.write_text(textwrap.dedent(PROGRAM).format(python=sys.executable, plan=str(self._plan), calls=str(self._calls)))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self.before = os.environ.get("NEUROSEAL_COMMAND")
        os.environ["NEUROSEAL_COMMAND"] = str(self.program)
        self.plan()

    def plan(self, **what):
        self._plan.write_text(json.dumps(what))

    def calls(self):
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []

    def close(self):
        if self.before is None:
            del os.environ["NEUROSEAL_COMMAND"]
        else:
            os.environ["NEUROSEAL_COMMAND"] = self.before
