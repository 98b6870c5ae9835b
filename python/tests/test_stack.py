"""What needs torch, transformers and PEFT; skipped without them."""

import importlib.util
import json
import math
import os
import tempfile
import types
import unittest

READY = all(importlib.util.find_spec(n) for n in ("numpy", "torch", "transformers", "peft"))

if READY:
    import numpy as np
    import torch

    from arena_trl import adapters, initial, optimizers, tokens
    from arena_trl.task import Optimizer, TaskError, Training


@unittest.skipUnless(READY, "torch, transformers and peft are not installed")
class InitialTest(unittest.TestCase):
    def test_values(self):
        """Package arena/train computes the same (values from its SplitMix64)."""
        self.assertEqual(initial.start(0, ""), 0xCBF29CE484222325)
        self.assertEqual(initial.start(0, "a"), 0xAF63DC4C8601EC8C)  # FNV-1a's published vector
        # SplitMix64's published first output of the state 1234567, its upper 24 bits.
        self.assertEqual(initial.unit(1234567, 1)[0], (6457827717110365317 >> 40) / (1 << 24))

    def test_distributions(self):
        u = initial.uniform((64, 256), 1, "x.lora_A", 0.25)
        self.assertLess(abs(float(u.mean())), 0.01)
        self.assertLessEqual(float(np.abs(u).max()), 0.25)
        self.assertAlmostEqual(float(initial.normal((200, 100), 1, "y").std()), 1, places=1)
        self.assertFalse(np.array_equal(u, initial.uniform((64, 256), 2, "x.lora_A", 0.25)))


@unittest.skipUnless(READY, "torch, transformers and peft are not installed")
class MatchTest(unittest.TestCase):
    def test_patterns(self):
        name = "model.layers.0.mlp.up_proj.weight"
        for p, want in (("up_proj", True), ("mlp.up_proj", True), ("p_proj", False), ("model.layers.*.mlp.*", True),
                        ("model.layers.[^1].mlp.up_proj.weight", True), ("model.layers.[^0].mlp.up_proj.weight", False)):
            self.assertEqual(adapters.matches([p], name), want, p)


@unittest.skipUnless(READY, "torch, transformers and peft are not installed")
class OptimizerTest(unittest.TestCase):
    def parameters(self):
        torch.manual_seed(0)
        ps = [torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(3, 4))]
        ps[2].arena_edge = True
        return ps

    def model(self, ps):
        return types.SimpleNamespace(parameters=lambda: iter(ps))

    def build(self, ps, **o):
        task = types.SimpleNamespace(optimizer=Optimizer(**o), train=Training("full"), lr=0.1)
        return optimizers.build(self.model(ps), task)

    def test_steps(self):
        """Every rule makes a quadratic smaller, and follows the schedule's rate."""
        for method in ("adamw", "sgd", "lion", "lamb", "muon", "adafactor"):
            ps = self.parameters()
            opt = self.build(ps, method=method)
            losses = []
            for _ in range(20):
                loss = sum((p**2).sum() for p in ps)
                opt.zero_grad()
                loss.backward()
                opt.step()
                losses.append(loss.item())
            self.assertLess(losses[-1], losses[0], method)
            before = [p.detach().clone() for p in ps]
            for g in opt.param_groups:
                g["lr"] = 0.0
            opt.step()
            self.assertTrue(all(torch.equal(a, b) for a, b in zip(before, ps)), method)

    def test_lamb_rows(self):
        """A row's step is as long as the row, whatever its gradient."""
        ps = self.parameters()
        before = [p.detach().clone() for p in ps]
        opt = self.build(ps, method="lamb")
        for p in ps:
            p.grad = torch.randn_like(p) * torch.logspace(-8, 8, p.numel()).view_as(p)
        opt.step()
        moved, size = (ps[0] - before[0]).norm(dim=1), before[0].norm(dim=1)
        self.assertTrue(torch.allclose(moved, 0.1 * size, rtol=1e-4))
        self.assertAlmostEqual((ps[1] - before[1]).norm().item(), 0.1 * before[1].norm().item(), places=5)

    def test_muon_parts(self):
        ps = self.parameters()
        opt = self.build(ps, method="muon")
        kinds = {type(part).__name__: sum(len(g["params"]) for g in part.param_groups) for _, part in opt.parts}
        self.assertEqual(kinds, {"Muon": 1, "AdamW": 2})

    def test_adafactor_scales(self):
        self.assertTrue(self.build(self.parameters(), method="adafactor").param_groups[0]["scale_parameter"])

    def test_lion_nan(self):
        """In torch the sign of NaN is zero: what has no gradient stands still."""
        ps = self.parameters()
        before = ps[0].detach().clone()
        opt = self.build(ps, method="lion")
        for p in ps:
            p.grad = torch.full_like(p, math.nan)
        opt.step()
        self.assertTrue(torch.equal(ps[0], before))


@unittest.skipUnless(READY, "torch, transformers and peft are not installed")
class TokensTest(unittest.TestCase):
    def folder(self, d, name, steps=3, cut=0, top=9, **head):
        folder = os.path.join(d, name)
        os.mkdir(folder)
        h = {"format": tokens.FORMAT, "steps": steps, "batch": 2, "window": 4, "evals": 2, "train": "train.i32", "heldout": "heldout.i32"} | head
        rows = np.arange(steps * 2 * 5 - cut, dtype="<i4") % (top + 1)
        rows.tofile(os.path.join(folder, "train.i32"))
        (np.arange(2 * 5, dtype="<i4") % (top + 1)).tofile(os.path.join(folder, "heldout.i32"))
        with open(os.path.join(folder, "corpus.json"), "w", encoding="utf-8") as f:
            json.dump(h, f)
        return folder

    def read(self, target, retained):
        return tokens.read(types.SimpleNamespace(data={"target": target, "retained": retained}, steps=3, batch=2, window=4), 10)

    def test_good(self):
        with tempfile.TemporaryDirectory() as d:
            got = self.read(self.folder(d, "t"), self.folder(d, "r", steps=0))
            self.assertEqual({k: v.shape for k, v in got.items()}, {"train": (6, 5), "target": (2, 5), "retained": (2, 5)})

    def test_bad(self):
        for i, bad in enumerate(({"cut": 1}, {"top": 10}, {"format": "other"}, {"window": 5}, {"steps": 2}, {"batch": None}, {"train": "../x"})):
            with self.subTest(bad=bad), tempfile.TemporaryDirectory() as d, self.assertRaises(TaskError):
                self.read(self.folder(d, "t", **bad), self.folder(d, "r", steps=0))


if __name__ == "__main__":
    unittest.main()
