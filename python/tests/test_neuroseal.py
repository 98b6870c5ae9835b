"""The module neuroseal: how it calls the command and what it makes of its answers."""

import ast
import logging
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import neuroseal
from neuroseal import _binary, _errors
from tests.standin import StandIn

POSIX = os.name == "posix"


class CommandTest(unittest.TestCase):
    def setUp(self):
        if not POSIX:
            self.skipTest("the stand-in for the binary is a script")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.standin = StandIn(folder.name)
        self.addCleanup(self.standin.close)
        self.folder = pathlib.Path(folder.name)

    def argv(self):
        return self.standin.calls()[-1]["argv"]


class ArgumentsTest(CommandTest):
    def test_lock(self):
        self.standin.plan(stdout={"output": "out", "coverage": 1, "key_file": "out.key", "new": [1], "profile": None})
        got = neuroseal.lock(
            pathlib.Path("-model"), "--force", profile="strong", recipients=["age1a", "-r"], scale=2, permute=True,
            key_file=pathlib.Path("-k"), sign="key.pem", include=["ffn*"], extra=["--later=x"],
        )  # fmt: skip
        self.assertEqual(
            self.argv(),
            ["lock", "--json", "--profile=strong", "--scale=2.0", "--key-file=-k", "--recipient=age1a", "--recipient=-r",
             "--include=ffn*", "--permute", "--sign=key.pem", "--later=x", "--", "-model", "--force"],
        )  # fmt: skip
        self.assertEqual((got.output, got.key_file, got.profile, got.raw["new"]), (pathlib.Path("out"), pathlib.Path("out.key"), "", [1]))

    def test_others(self):
        self.standin.plan(stdout={})
        for call, want in (
            (lambda: neuroseal.unlock("a", "b", identities=["i"], legacy_static=100), ["unlock", "--json", "--identity=i", "--legacy-static=100.0", "--", "a", "b"]),
            (lambda: neuroseal.verify("a", against="b", run=True, find_key=True), ["verify", "--json", "--against=b", "--run", "--find-key", "--", "a"]),
            (lambda: neuroseal.verify("a", public_key="p", cert_roots=["r"], at="2026-01-01"), ["verify", "--json", "--public-key=p", "--cert-roots=r", "--at=2026-01-01", "--", "a"]),
            (lambda: neuroseal.inspect("a", detect=True), ["inspect", "--json", "--detect", "--", "a"]),
            (lambda: neuroseal.undo("a", "b", no_key=True), ["undo", "--json", "--no-key", "--", "a", "b"]),
            (lambda: neuroseal.version(), ["version", "--json", "--"]),
        ):
            call()
            self.assertEqual(self.argv(), want)

    def test_refused_here(self):
        with self.assertRaises(TypeError):
            neuroseal.lock("a", "b", recipients="age1a")  # a string is a list of letters, too
        with self.assertRaises(neuroseal.UsageError):
            neuroseal.lock("a\0", "b")
        with self.assertRaises(neuroseal.UsageError):
            neuroseal.lock("a", "b", password="x" * (1 << 20))
        self.assertEqual(self.standin.calls(), [])

    def test_password(self):
        """It is on no command line and in no environment."""
        self.standin.plan(stdout={})
        for password in ("pässwörd", "line\r\n", "-"):
            neuroseal.lock("a", "b", password=password)
            call = self.standin.calls()[-1]
            self.assertIn("--password-fd=0", call["argv"])
            self.assertFalse([a for a in call["argv"] if password in a and a != "--password-fd=0" and password != "-"])
            self.assertNotIn("NEUROSEAL_PASSWORD", set(call["environ"]) - set(os.environ))
            self.assertEqual(call["stdin"], password + "\r\n")
        neuroseal.lock("a", "b")
        self.assertEqual(self.standin.calls()[-1]["stdin"], "")


class ErrorsTest(CommandTest):
    def test_codes(self):
        """Every documented exit code has its exception, with message and hint."""
        for code, kind in {
            1: neuroseal.NeuroSealError, 2: neuroseal.UsageError, 10: neuroseal.NotSealed, 11: neuroseal.AlreadySealed,
            12: neuroseal.WrongKey, 13: neuroseal.Mismatch, 14: neuroseal.Unsupported, 15: neuroseal.NoSpace,
            130: neuroseal.Interrupted, 77: neuroseal.NeuroSealError,
        }.items():  # fmt: skip
            self.standin.plan(stderr=[{"type": "error", "code": code, "message": "what", "hint": "do"}], exit=code)
            with self.assertRaises(neuroseal.NeuroSealError) as caught:
                neuroseal.unlock("a", "b")
            e = caught.exception
            self.assertIs(type(e), kind)
            self.assertEqual((e.code, e.message, e.hint, str(e)), (code, "what", "do", "what (do)"))
            again = pickle.loads(pickle.dumps(e))
            self.assertEqual((type(again), again.code, str(again)), (kind, code, str(e)))

    def test_all_codes(self):
        """The table is the command's own."""
        source = pathlib.Path(__file__).parents[2] / "internal" / "fault" / "fault.go"
        if not source.exists():
            self.skipTest("not in the repository")
        import re

        codes = {int(n) for n in re.findall(r"^\t\w+ +Kind = (\d+)", source.read_text("utf-8"), re.M)}
        self.assertGreater(len(codes), 8)
        self.assertEqual(codes, set(_errors.BY_CODE) - {127})

    def test_verify(self):
        self.standin.plan(
            stdout={"ok": False, "digests_ok": False, "mismatches": [{"file": "f", "what": "w"}]},
            stderr=[{"type": "error", "code": 13, "message": "not what was sealed"}], exit=13,
        )  # fmt: skip
        with self.assertRaises(neuroseal.Mismatch) as caught:
            neuroseal.verify("a")
        self.assertEqual(caught.exception.result.mismatches, [{"file": "f", "what": "w"}])
        self.assertIs(caught.exception.result.digests_ok, False)

    def test_crash(self):
        """What is no JSON is told as it is."""
        self.standin.plan(stderr=["panic: runtime error", "goroutine 1"], exit=2)
        with self.assertLogs("neuroseal", logging.WARNING), self.assertRaisesRegex(neuroseal.UsageError, "exit code 2: panic: runtime"):
            neuroseal.inspect("a")

    def test_nothing_there(self):
        with mock.patch.dict(os.environ, {"NEUROSEAL_COMMAND": "/no/such/program"}), self.assertRaises(neuroseal.CommandNotFound) as caught:
            neuroseal.inspect("a")
        self.assertIn("/no/such/program", caught.exception.message)

    def test_messages(self):
        """Notes and warnings are logged, progress goes to whoever asked."""
        p = {"type": "progress", "stage": "sealing", "done": 1, "total": 4, "seconds": 0.5}
        self.standin.plan(stderr=[p, {"type": "note", "message": "n %s"}, {"type": "warning", "message": "w"}], stdout={})
        seen = []
        with self.assertLogs("neuroseal", logging.INFO) as logs:
            neuroseal.undo("a", "b", progress=seen.append)
        self.assertEqual(seen, [neuroseal.Progress("sealing", 1, 4, 0.5)])
        self.assertEqual([(r.levelname, r.getMessage()) for r in logs.records], [("INFO", "n %s"), ("WARNING", "w")])


class InterruptTest(CommandTest):
    def setUp(self):
        super().setUp()
        # A process that a script started in the background is born deaf to it.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

    def test_ctrl_c(self):
        """The command hears of it once and ends in good order; then so does the caller."""
        self.standin.plan(sleep=60)
        started = threading.Event()

        def interrupt():
            started.wait(60)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with self.assertRaises(KeyboardInterrupt):
            neuroseal.inspect("a", progress=lambda _: started.set())
            time.sleep(60)
        self.assertEqual([c for c in self.standin.calls() if "interrupted" in c], [{"interrupted": True}])

    def test_caller_fails(self):
        """An exception of the progress function ends the command, too."""
        self.standin.plan(sleep=60)
        with self.assertRaises(ZeroDivisionError):
            neuroseal.inspect("a", progress=lambda _: 1 / 0)
        self.assertEqual(self.standin.calls()[-1], {"interrupted": True})

    def test_interrupted_by_others(self):
        self.standin.plan(stderr=[{"type": "error", "code": 130, "message": "interrupted"}], exit=130)
        with self.assertRaises(neuroseal.Interrupted):
            neuroseal.inspect("a")


class BinaryTest(CommandTest):
    def test_order(self):
        """What the variable names comes before the package's own, and that before PATH."""
        own = self.folder / "own"
        on_path = self.folder / "path" / _binary._NAME
        on_path.parent.mkdir()
        for p in (own, on_path):
            p.write_bytes(b"\x7fELF")
            p.chmod(0o644)
        on_path.chmod(0o755)
        env = {"PATH": str(on_path.parent)}
        with mock.patch.object(_binary, "bundled", lambda: str(own)), mock.patch.dict(os.environ, env):
            self.assertEqual(_binary.find(), str(self.standin.program))
            del os.environ["NEUROSEAL_COMMAND"]
            self.assertEqual(_binary.find(), str(own))
            self.assertTrue(os.access(own, os.X_OK))  # modes that an installer lost
            own.unlink()
            self.assertEqual(_binary.find(), str(on_path))
            on_path.write_text("#!/bin/sh\n")  # the console script of such a package
            with self.assertRaises(neuroseal.CommandNotFound):
                _binary.find()
            os.environ["NEUROSEAL_COMMAND"] = str(self.standin.program)

    def test_not_runnable(self):
        own = self.folder / "own"
        own.write_text("")
        own.chmod(0o644)
        with mock.patch.object(_binary, "bundled", lambda: str(own)), mock.patch.dict(os.environ, {"NEUROSEAL_COMMAND": ""}):
            # A file system on which modes say nothing, and one that is read only.
            for name, fake, word in (("access", lambda *_: False, "does not allow programs"), ("chmod", mock.Mock(side_effect=OSError(30, "Read-only file system")), "Read-only file system")):
                with mock.patch.object(os, name, fake), self.assertRaises(neuroseal.CommandNotFound) as caught:
                    neuroseal.version()
                self.assertIn(word, caught.exception.message)
                self.assertTrue(caught.exception.hint)
                own.chmod(0o644)
            own.write_bytes(b"\x7fELF of another machine")
            own.chmod(0o755)
            with self.assertRaises(neuroseal.CommandNotFound) as caught:
                neuroseal.version()
            self.assertIn(f"starting {own}: Exec format error", caught.exception.message)
            self.assertIn("NEUROSEAL_COMMAND", caught.exception.hint)

    def script(self, how):
        code = f"import sys; sys.argv = ['neuroseal', 'a', '--b']; from neuroseal import _binary; sys.exit({how})"
        return [sys.executable, "-c", code]

    def test_become(self):
        self.standin.plan(stdout="out", exit=14)
        for how in ("_binary.main()", "_binary.wait_for([_binary.find(), *sys.argv[1:]])"):
            got = subprocess.run(self.script(how), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=pathlib.Path(__file__).parents[1], check=False)
            self.assertEqual((got.returncode, got.stdout), (14, b"out\n"))
            self.assertEqual(self.argv(), ["a", "--b"])

    def test_wait_for(self):
        """As on Windows, where a console sends Ctrl-C to both processes."""
        self.standin.plan(sleep=60)
        with subprocess.Popen(
            self.script("_binary.wait_for([_binary.find()])"), start_new_session=True, cwd=pathlib.Path(__file__).parents[1],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            process.stderr.readline()
            os.killpg(process.pid, signal.SIGINT)
            self.assertEqual(process.wait(60), 130)

    def test_missing(self):
        with mock.patch.dict(os.environ, {"NEUROSEAL_COMMAND": "/no/such"}):
            got = subprocess.run(self.script("_binary.main()"), stderr=subprocess.PIPE, cwd=pathlib.Path(__file__).parents[1], check=False)
        self.assertEqual(got.returncode, 127)
        self.assertIn(b"neuroseal: error: NEUROSEAL_COMMAND names /no/such", got.stderr)


class PageTest(CommandTest):
    def test_publishing(self):
        """The Python of docs/publishing.md runs as it stands there."""
        page = (pathlib.Path(__file__).parents[2] / "docs/publishing.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        self.assertEqual(len(blocks), 2)
        self.standin.plan(stdout={"output": "x", "ok": True})
        exec(compile(blocks[0], "publishing.md", "exec"), {})
        self.assertEqual([c["argv"][0] for c in self.standin.calls()], ["lock", "verify", "unlock"])
        tree = ast.parse(blocks[1].replace("…", "..."))
        call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "NeuroSealCallback")
        callback = ast.parse((pathlib.Path(neuroseal.__file__).parent / "transformers.py").read_text())
        init = next(n for n in ast.walk(callback) if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        known = {a.arg for a in [*init.args.args, *init.args.kwonlyargs]}
        self.assertTrue(init.args.kwarg is not None or {k.arg for k in call.keywords} <= known, known)


class PackageTest(unittest.TestCase):
    def test_oldest_python(self):
        """What the wheel says of Python is true: newer syntax would not be parsed, and
        annotations, which may use newer types, are not evaluated."""
        here = pathlib.Path(__file__).parents[1]
        least = re.search(r"Requires-Python: >=3\.(\d+)", (here.parent / "tools/wheel/metadata.go").read_text()).group(1)
        for path in sorted((here / "neuroseal").glob("*.py")):
            tree = ast.parse(path.read_text(), str(path), feature_version=(3, int(least)))
            imports = [a.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__" for a in node.names]
            self.assertTrue("annotations" in imports or not any(isinstance(n, (ast.AnnAssign, ast.arg)) and n.annotation for n in ast.walk(tree)), path)

    def test_light(self):
        """The console script must not wait for modules that it does not use."""
        code = "import sys; import neuroseal._binary; print([m for m in ('json', 'logging', 're', 'typing', 'subprocess', 'dataclasses', 'pathlib', 'transformers', 'torch') if m in sys.modules])"
        got = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r}); {code}"],
                             stdout=subprocess.PIPE, check=True)  # fmt: skip
        self.assertEqual(got.stdout, b"[]\n")

    def test_names(self):
        for name in set(neuroseal.__all__) - {"NeuroSealCallback"}:
            self.assertTrue(callable(getattr(neuroseal, name)), name)
            self.assertIn(name, dir(neuroseal))
        self.assertIsInstance(neuroseal.__version__, str)
        with self.assertRaises(AttributeError):
            neuroseal.nothing


if __name__ == "__main__":
    unittest.main()
