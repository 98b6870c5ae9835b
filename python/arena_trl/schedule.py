"""The course of the learning rate, as transformers has it, and when to give up."""

import math


def factor(kind, step, warmup, steps):
    """Multiple of the learning rate at a step, from 0 on; with a warm-up the first
    step has rate zero."""
    if step < warmup:
        return step / max(1, warmup)
    done = (step - warmup) / max(1, steps - warmup)
    if kind == "linear":
        return max(0.0, 1 - done)
    if kind == "cosine":
        return max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    return 1.0


class Divergence:
    """Watches a training that starts at a loss: beyond three times the larger of that
    and a uniform guess there is nothing to be learnt."""

    PATIENCE = 3

    def __init__(self, start, vocabulary):
        self.limit = 3 * math.log(vocabulary)
        if start < math.inf:
            self.limit = max(self.limit, 3 * start)
        self.bad = 0

    def step(self, loss):
        """Hears of a step's loss and says whether to give up: at once on a loss that is
        not a number, since weights that are not numbers never recover."""
        if math.isnan(loss):
            return True
        self.bad = 0 if loss <= self.limit else self.bad + 1
        return self.bad >= self.PATIENCE
