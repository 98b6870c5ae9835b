import importlib.util
import math
import unittest

from arena_trl.schedule import Divergence, factor


class ScheduleTest(unittest.TestCase):
    def test_values(self):
        self.assertEqual([factor("constant", s, 2, 10) for s in (0, 1, 2, 9)], [0, 0.5, 1, 1])
        self.assertEqual([factor("linear", s, 0, 4) for s in range(6)], [1, 0.75, 0.5, 0.25, 0, 0])
        self.assertAlmostEqual(factor("cosine", 5, 0, 10), 0.5)
        self.assertEqual(factor("linear", 0, 0, 0), 1.0)  # nothing is divided by zero

    @unittest.skipUnless(importlib.util.find_spec("transformers"), "transformers is not installed")
    def test_transformers(self):
        """The schedules are transformers' own."""
        import torch
        from transformers import get_scheduler

        for kind, name in (("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")):
            for warmup in (0, 3):
                opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
                theirs = get_scheduler(name, opt, num_warmup_steps=warmup, num_training_steps=20)
                for step in range(20):
                    with self.subTest(kind=kind, warmup=warmup, step=step):
                        self.assertAlmostEqual(factor(kind, step, warmup, 20), theirs.get_last_lr()[0], places=12)
                    opt.step()
                    theirs.step()


class DivergenceTest(unittest.TestCase):
    def test_patience(self):
        d = Divergence(2.0, 128)
        limit = 3 * math.log(128)
        self.assertEqual(d.limit, limit)
        self.assertEqual([d.step(x) for x in (limit + 1, limit + 1, limit, math.inf, 99.0, 99.0)], [False] * 5 + [True])

    def test_nan(self):
        self.assertTrue(Divergence(2.0, 128).step(math.nan))

    def test_start(self):
        self.assertEqual(Divergence(20.0, 128).limit, 60.0)
        for start in (math.inf, math.nan):
            self.assertEqual(Divergence(start, 128).limit, 3 * math.log(128))


if __name__ == "__main__":
    unittest.main()
