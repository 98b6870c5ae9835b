"""Sealing what trainers save: which folders, which files, when, and what if not.
transformers is not needed: a stand-in plays it."""

import importlib
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import types
import unittest
from unittest import mock

import neuroseal
from neuroseal import _checkpoints
from neuroseal._sealer import Sealer
from tests.standin import StandIn

MODEL = {"config.json": "{}", "model.safetensors": "w", "tokenizer.json": "{}", "modeling_own.py": "", "additional_chat_templates/tool.jinja": ""}
TRAINING = [
    "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_0.pth", "trainer_state.json",
    "training_args.bin", "latest", "zero_to_fp32.py", "global_step2/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "pytorch_model.bin", "runs/events.out.tfevents.1",
]  # fmt: skip


def write(folder, files):
    for name, text in dict.fromkeys(files, "t").items() if isinstance(files, list) else files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def names(self, folder):
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class CheckTest(FolderTest):
    def index(self, *shards):
        return json.dumps({"weight_map": {f"t{i}": s for i, s in enumerate(shards)}})

    def test_good(self):
        _checkpoints.check(write(self.folder / "one", MODEL))
        _checkpoints.check(write(self.folder / "two", {_checkpoints.INDEX: self.index("a.safetensors"), "a.safetensors": ""}))
        # DeepSpeed and FSDP with gathered weights: the pieces beside them do not matter.
        _checkpoints.check(write(self.folder / "three", MODEL | dict.fromkeys(TRAINING, "")))

    def test_bad(self):
        for files, kind, words in (
            ({"adapter_config.json": "", "adapter_model.safetensors": ""}, _checkpoints.AdapterOnly, ["PEFT adapter", "neuroseal adapter"]),
            ({"pytorch_model.bin": ""}, neuroseal.Unsupported, ["pickle", "pytorch_model.bin", "safetensors"]),
            ({"pytorch_model.bin.index.json": ""}, neuroseal.Unsupported, ["pickle"]),
            ({"pytorch_model_fsdp_0/x.distcp": ""}, neuroseal.Unsupported, ["pytorch_model_fsdp_0", "FULL_STATE_DICT"]),
            ({"global_step3/x.pt": "", "latest": ""}, neuroseal.Unsupported, ["global_step3", "stage3_gather_16bit"]),
            ({"config.json": ""}, neuroseal.Unsupported, ["no model.safetensors", "background"]),
            ({_checkpoints.INDEX: self.index("a.safetensors", "b.safetensors"), "a.safetensors": ""}, neuroseal.Mismatch, ["b.safetensors is missing"]),
            ({_checkpoints.INDEX: "[]"}, neuroseal.Mismatch, ["no index"]),
            ({_checkpoints.INDEX: "{"}, neuroseal.Mismatch, ["no index"]),
            (MODEL | {_checkpoints.INCOMPLETE: ""}, neuroseal.Mismatch, ["incomplete"]),
        ):
            with self.subTest(files=sorted(files)), tempfile.TemporaryDirectory() as d:
                with self.assertRaises(neuroseal.NeuroSealError) as caught:
                    _checkpoints.check(write(pathlib.Path(d), files))
                self.assertIs(type(caught.exception), kind)
                for word in words:
                    self.assertIn(word, str(caught.exception))
        with self.assertRaises(neuroseal.Unsupported):
            _checkpoints.check(self.folder / "nothing")

    def test_stage(self):
        """The model's files, as links; nothing of the training."""
        source = write(self.folder / "checkpoint-2", MODEL | dict.fromkeys(TRAINING, ""))
        _checkpoints.stage(source, self.folder / "s")
        self.assertEqual(self.names(self.folder / "s"), sorted(MODEL))
        self.assertEqual((self.folder / "s/model.safetensors").stat().st_ino, (source / "model.safetensors").stat().st_ino)
        with mock.patch("os.link", side_effect=OSError):
            _checkpoints.stage(source, self.folder / "c")
        self.assertEqual(self.names(self.folder / "c"), sorted(MODEL))
        self.assertNotEqual((self.folder / "c/model.safetensors").stat().st_ino, (source / "model.safetensors").stat().st_ino)


@unittest.skipUnless(os.name == "posix", "the stand-in for the binary is a script")
class SealingTest(FolderTest):
    def setUp(self):
        super().setUp()
        self.standin = StandIn(self.folder)
        self.addCleanup(self.standin.close)
        self.standin.plan(make=True, stdout={"output": "x"})
        quiet = logging.NullHandler()
        logging.getLogger("neuroseal").addHandler(quiet)
        self.addCleanup(logging.getLogger("neuroseal").removeHandler, quiet)
        environment = mock.patch.dict(os.environ)
        environment.start()
        self.addCleanup(environment.stop)
        os.environ.pop("NEUROSEAL_PASSWORD", None)
        self.run_folder = self.folder / "run"
        self.output = self.run_folder / "_sealed"

    def checkpoint(self, step, files=MODEL):
        return write(self.run_folder / f"checkpoint-{step}", files)

    def locks(self):
        return [c["argv"] for c in self.standin.calls() if c["argv"][0] == "lock"]


class SealerTest(SealingTest):
    def sealer(self, **change):
        options = {"keep": None, "check": False, "background": False, "raises": False, "options": {}} | change
        return Sealer(self.output, **options)

    def test_seal(self):
        s = self.sealer()
        s.prepare()
        for step in (2, 10):
            s.seal(step, self.checkpoint(step))
        key = self.run_folder / "_sealed.key"
        self.assertEqual(sorted(s.results), [2, 10])
        self.assertEqual([a[2:4] for a in self.locks()], [[f"--key-file={key}", "--force"]] * 2)
        self.assertEqual(len([c for c in self.standin.calls() if c["argv"][:2] == ["key", "generate"]]), 1)
        self.assertEqual(sorted(p.name for p in self.run_folder.iterdir()), ["_sealed", "_sealed.key", "checkpoint-10", "checkpoint-2"])
        self.assertEqual(self.names(self.run_folder / "checkpoint-2"), sorted(MODEL))

    def test_rotated(self):
        """In the background a checkpoint may go while it is sealed."""
        self.standin.plan(make=True, stdout={}, sleep=0.2)
        s = self.sealer(background=True, raises=True)
        checkpoint = self.checkpoint(2)
        inode = (checkpoint / "model.safetensors").stat().st_ino
        s.seal(2, checkpoint)
        shutil.rmtree(checkpoint)
        s.seal(4, self.checkpoint(4))
        self.assertIn(2, s.results)  # one at a time
        s.close()
        seen = json.loads((self.output / "checkpoint-2" / "files.json").read_text())
        self.assertEqual(sorted(seen), sorted(MODEL))
        self.assertEqual(seen["model.safetensors"], inode)
        self.assertEqual(sorted(s.results), [2, 4])

    def test_keep(self):
        s = self.sealer(keep=2)
        write(self.output / "checkpoint-1", ["not-sealed.txt"])  # not ours to remove
        for step in (2, 4, 6, 8):
            s.seal(step, self.checkpoint(step), protect=2)
        self.assertEqual(sorted(p.name for p in self.output.iterdir()), ["checkpoint-1", "checkpoint-2", "checkpoint-8"])
        # A run that goes on from an earlier step: the newest seals count.
        s = self.sealer(keep=2)
        s.seal(4, self.checkpoint(4))
        self.assertEqual(sorted(p.name for p in self.output.iterdir()), ["checkpoint-1", "checkpoint-4", "checkpoint-8"])

    def test_failure(self):
        error = {"type": "error", "code": 15, "message": "full"}
        for background in (False, True):
            self.standin.plan(stderr=[error], exit=15)
            s = self.sealer(background=background)
            with self.assertLogs("neuroseal", logging.WARNING) as logs:
                s.seal(2, self.checkpoint(2))
                s.close()
            self.assertIn("checkpoint-2 was not sealed: full", logs.output[-1])
            self.assertIsInstance(s.failures[2], neuroseal.NoSpace)
            s = self.sealer(background=background, raises=True)
            with self.assertRaises(neuroseal.NoSpace):
                s.seal(2, self.checkpoint(2))
                s.close()
            self.assertEqual(list(self.run_folder.glob("_sealing*")), [])
        with self.assertRaises(neuroseal.Unsupported):
            s.seal(3, self.checkpoint(3, {"pytorch_model.bin": ""}))

    def test_adapter(self):
        """Said once, and no failure."""
        s = self.sealer(raises=True)
        with self.assertLogs("neuroseal", logging.WARNING) as logs:
            for step in (2, 4):
                s.seal(step, self.checkpoint(step, {"adapter_config.json": "", "adapter_model.safetensors": ""}))
        self.assertEqual((len(logs.output), s.failures, s.results, self.standin.calls()), (1, {}, {}, []))

    def test_keys(self):
        """A key of the run is made only where nothing else opens the seals."""
        key = write(self.folder, {"k": ""}) / "k"
        for options in ({"key_file": key}, {"recipients": ["age1a"]}, {"password": "p"}, {"password_file": "f"}, {"method": "static"}):
            s = self.sealer(options=options, raises=True)
            s.prepare()
            s.seal(2, self.checkpoint(2))
        os.environ["NEUROSEAL_PASSWORD"] = "p"
        self.sealer(raises=True).seal(2, self.checkpoint(2))
        self.assertEqual([p.name for p in self.run_folder.glob("*.key")], [])
        self.assertEqual(len(self.locks()), 6)
        with self.assertRaises(neuroseal.UsageError):
            self.sealer(options={"key_file": self.folder / "none"}).prepare()

    def test_verify(self):
        s = self.sealer(check=True, raises=True)
        s.seal(2, self.checkpoint(2))
        argv = self.standin.calls()[-1]["argv"]
        self.assertEqual((argv[0], argv[2], argv[-1]), ("verify", f"--against={self.run_folder / '_sealing-checkpoint-2'}", str(self.output / "checkpoint-2")))

    def test_same_place(self):
        self.output = self.run_folder
        with self.assertRaises(neuroseal.UsageError):
            self.sealer(raises=True).seal(2, self.checkpoint(2))
        self.assertEqual(self.names(self.run_folder / "checkpoint-2"), sorted(MODEL))


class CallbackTest(SealingTest):
    """NeuroSealCallback in the Trainer's order of calls."""

    def setUp(self):
        super().setUp()
        fake = types.ModuleType("transformers")
        fake.TrainerCallback = object
        with mock.patch.dict(sys.modules, {"transformers": fake}):  # which takes back what is imported in it
            sys.modules.pop("neuroseal.transformers", None)
            self.Callback = importlib.import_module("neuroseal.transformers").NeuroSealCallback

    def train(self, callback, steps=(2, 4, 6), zero=True, best=None, load_best=False, search=False, push=False):
        args = types.SimpleNamespace(output_dir=str(self.run_folder), load_best_model_at_end=load_best, push_to_hub=push)
        state = types.SimpleNamespace(is_world_process_zero=zero, global_step=0, best_model_checkpoint=None, is_hyper_param_search=search)
        callback.on_train_begin(args, state, None)
        for state.global_step in steps:
            self.checkpoint(state.global_step)
            if state.global_step == best:
                state.best_model_checkpoint = str(self.run_folder / f"checkpoint-{best}")
            callback.on_save(args, state, None, model=None)
        callback.on_train_end(args, state, None)
        return sorted(p.name for p in self.output.iterdir()) if self.output.is_dir() else []

    def test_every_save(self):
        c = self.Callback(profile="max", include=["ffn"])
        self.assertEqual(self.train(c), ["checkpoint-2", "checkpoint-4", "checkpoint-6"])
        self.assertEqual(sorted(c.results), [2, 4, 6])
        self.assertEqual(self.locks()[0][2:5], ["--profile=max", f"--key-file={self.run_folder / '_sealed.key'}", "--include=ffn"])

    def test_key_is_not_uploaded(self):
        """The Trainer uploads all of its folder but _* and checkpoint-*: no key may be among that."""
        self.output = self.run_folder / "nested" / "sealed"
        self.train(self.Callback(self.output))
        self.assertEqual([str(p.relative_to(self.run_folder)) for p in self.run_folder.rglob("*.key")], ["_nested_sealed.key"])
        self.output = self.folder / "elsewhere"
        self.train(self.Callback(self.output))
        self.assertTrue((self.folder / "elsewhere.key").is_file())
        key = write(self.run_folder, {"own.key": ""}) / "own.key"
        self.train(self.Callback(self.output, key_file=key))
        with self.assertRaises(neuroseal.UsageError):
            self.train(self.Callback(self.output, key_file=key), push=True)

    def test_after_a_kill(self):
        write(self.run_folder / "_sealing-checkpoint-1", MODEL)
        self.train(self.Callback())
        self.assertEqual(list(self.run_folder.glob("_sealing*")), [])

    def test_end(self):
        self.assertEqual(self.train(self.Callback(when="end")), ["checkpoint-6"])

    def test_end_best(self):
        self.assertEqual(self.train(self.Callback(when="end"), best=4, load_best=True), ["checkpoint-4"])

    def test_keep_best(self):
        self.assertEqual(self.train(self.Callback(keep=2, background=True), best=2), ["checkpoint-2", "checkpoint-6"])

    def test_other_ranks(self):
        c = self.Callback(key_file="/no/such/key")  # which only the first one needs
        self.assertEqual((self.train(c, zero=False), self.standin.calls()), ([], []))

    def test_search(self):
        with self.assertLogs("neuroseal", logging.WARNING):
            self.assertEqual(self.train(self.Callback(), search=True), [])

    def test_nothing_saved(self):
        with self.assertLogs("neuroseal", logging.WARNING) as logs:
            self.assertEqual(self.train(self.Callback(when="end"), steps=()), [])
        self.assertIn("nothing was saved", logs.output[0])

    def test_summary(self):
        self.standin.plan(stderr=[{"type": "error", "code": 14, "message": "no"}], exit=14)
        c = self.Callback()
        with self.assertLogs("neuroseal", logging.WARNING) as logs:
            self.train(c)
        self.assertEqual(sorted(c.failures), [2, 4, 6])
        self.assertIn("not sealed: checkpoint-2, checkpoint-4, checkpoint-6", logs.output[-1])

    def test_early_errors(self):
        """Before the training, not hours later."""
        with self.assertRaises(neuroseal.UsageError):
            self.train(self.Callback(key_file="/no/such/key"))
        with self.assertRaises(neuroseal.UsageError):
            self.train(self.Callback(self.run_folder))
        with mock.patch.dict(os.environ, {"NEUROSEAL_COMMAND": "/no/such"}), self.assertRaises(neuroseal.CommandNotFound):
            self.train(self.Callback())
        for bad in ({"when": "later"}, {"on_failure": "ignore"}, {"keep": 0}, {"dry_run": True}, {"detached_key": "f"}):
            with self.assertRaises(ValueError):
                self.Callback(**bad)
        with self.assertRaises(TypeError):
            self.Callback(recipients="age1a")


if __name__ == "__main__":
    unittest.main()
