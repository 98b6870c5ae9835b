import copy
import json
import os
import tempfile
import unittest

from arena_trl import result, task

GOOD = {
    "trial": {
        "schema": 1, "engine": "trl", "role": "sealed", "lr": 0.01, "seed": 18446744073709551615, "steps": 30, "batch": 4,
        "window": 128, "eval": 16, "evals": 4,
        "recipe": {"name": "x", "class": "A", "train": {"kind": "lora", "modules": ["q_proj"], "rank": 8, "alpha": 16},
                   "optimizer": {"method": "adamw", "eps": 1e-30}, "warmup": 0.05, "clip": 1},
    },
    "paths": {"model": "/m", "target": "t", "retained": "r", "tokenizer": "/m"},
    "data": {"target": "/d/target", "retained": "/d/retained"},
}


def changed(path, value):
    raw = copy.deepcopy(GOOD)
    at = raw
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return raw


class TaskTest(unittest.TestCase):
    def test_good(self):
        t = task.parse(GOOD)
        self.assertEqual((t.train.kind, t.train.rank, t.train.modules), ("lora", 8, ("q_proj",)))
        self.assertEqual((t.schedule, t.precision, t.base, t.warmup), ("linear", "fp32", "", 1))
        self.assertEqual(t.seed, 2**64 - 1)
        self.assertEqual(t.optimizer.value("eps", 1e-8), 1e-30)

    def test_eval_steps(self):
        for steps, evals, want in ((30, 4, [0, 7, 15, 22, 30]), (60, 1, [0, 60]), (2, 5, [0, 1, 2]), (30, 3, [0, 10, 20, 30])):
            raw = changed(("trial", "steps"), steps)
            raw["trial"]["evals"] = evals
            self.assertEqual(task.parse(raw).eval_steps(), want)

    def test_optimizer_values(self):
        o = task.Optimizer("sgd", momentum=-1.0, beta1=0.5)
        self.assertEqual([o.value("momentum", 0.9), o.value("beta1", 0.9), o.value("beta2", 0.999)], [0.0, 0.5, 0.999])

    def test_bad(self):
        for path, value in (
            (("trial",), None), (("trial", "recipe"), "lora"), (("trial", "steps"), 0), (("trial", "steps"), 1.5),
            (("trial", "steps"), True), (("trial", "batch"), -1), (("trial", "lr"), "fast"), (("trial", "lr"), -1.0), (("trial", "seed"), -1),
            (("paths", "model"), None), (("paths", "model"), ""), (("data",), "file"), (("data", "target"), None),
            (("trial", "recipe", "schedule"), "steps"), (("trial", "recipe", "precision"), "fp8"),
            (("trial", "recipe", "base"), "int4"), (("trial", "recipe", "warmup"), 2), (("trial", "recipe", "clip"), -1),
            (("trial", "recipe", "train", "kind"), None), (("trial", "recipe", "train", "modules"), "q_proj"),
            (("trial", "recipe", "train", "options"), [1]), (("trial", "recipe", "train", "rank"), -1),
            (("trial", "recipe", "optimizer"), None), (("trial", "recipe", "optimizer", "method"), None),
            (("trial", "recipe", "optimizer", "eps"), "small"), (("trial", "lr"), float("nan")),
        ):
            with self.subTest(path=path, value=value), self.assertRaises(task.TaskError):
                task.parse(changed(path, value))

    def test_unsupported(self):
        with self.assertRaises(task.Unsupported):
            task.parse(changed(("trial", "recipe", "method"), "ties"))

    def test_unreadable(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "task.json")
            for raw in (b"", b"{", b"\xff\xfe", b"[]", b"null"):
                with open(path, "wb") as f:
                    f.write(raw)
                with self.subTest(raw=raw), self.assertRaises(task.TaskError):
                    task.read(path)
            with self.assertRaises(task.TaskError):
                task.read(os.path.join(d, "none"))


class ResultTest(unittest.TestCase):
    def test_null(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "result.json")
            r = result.new({"lr": 1.0})
            r["losses"] = [1.5, float("nan"), float("inf")]
            r["evals"] = [{"step": 0, "target": float("-inf"), "retained": 2.0}]
            result.write(path, r)
            with open(path, encoding="utf-8") as f:
                got = json.load(f)
            self.assertEqual(got["losses"], [1.5, None, None])
            self.assertIsNone(got["evals"][0]["target"])
            self.assertEqual(os.listdir(d), ["result.json"])

    def test_atomic(self):
        """What cannot be written leaves the old file, and nothing beside it."""
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "result.json")
            result.write(path, {"a": 1})
            with self.assertRaises(TypeError):
                result.write(path, {"a": object()})
            with open(path, encoding="utf-8") as f:
                self.assertEqual(json.load(f), {"a": 1})
            self.assertEqual(os.listdir(d), ["result.json"])

    def test_impossible(self):
        r = result.impossible({"lr": 1}, task.Unsupported("no such layer"))
        self.assertEqual((r["status"], r["reason"], r["trial"]), ("impossible", "no such layer", {"lr": 1}))


if __name__ == "__main__":
    unittest.main()
