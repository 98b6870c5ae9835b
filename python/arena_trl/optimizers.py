"""Optimizers, by the rules of package arena/train: torch's and transformers' own where
they have them, and Lion, LAMB with a trust ratio per row, and Muon with AdamW for the
rest, which they do not have."""

import torch
from torch.optim import SGD, AdamW, Optimizer
from transformers.optimization import Adafactor

from .task import Unsupported


def build(model, task):
    cls, args = rule(task.optimizer)
    if task.train.ratio > 0:
        from peft import PeftModel
        from peft.optimizers import create_loraplus_optimizer

        if not isinstance(model, PeftModel):
            raise Unsupported(f"LoRA+ with kind {task.train.kind}: there are no adapters")
        decay = args.pop("weight_decay")
        return create_loraplus_optimizer(
            model, cls, lr=task.lr, loraplus_lr_ratio=task.train.ratio,
            loraplus_lr_embedding=task.lr, loraplus_weight_decay=decay, weight_decay=decay, **args,
        )
    return cls([p for p in model.parameters() if p.requires_grad], lr=task.lr, **args)


def rule(o):
    """The class and the arguments of an optimizer."""
    decay = o.value("weight_decay", 0.0)
    betas = (o.value("beta1", 0.9), o.value("beta2", 0.999))
    if o.method == "adamw":
        return AdamW, {"betas": betas, "eps": o.value("eps", 1e-8), "weight_decay": decay}
    if o.method == "sgd":
        return SGD, {"momentum": o.value("momentum", 0.0), "weight_decay": decay}
    if o.method == "lion":
        return Lion, {"betas": (betas[0], o.value("beta2", 0.99)), "weight_decay": decay}
    if o.method == "lamb":
        return LAMB, {"betas": betas, "eps": o.value("eps", 1e-6), "weight_decay": decay}
    if o.method == "muon":
        return Muon, {"betas": betas, "momentum": o.value("momentum", 0.95), "eps": o.value("eps", 1e-7), "weight_decay": decay}
    if o.method == "adafactor":
        # The Trainer's optim="adafactor" would switch scale_parameter off.
        return Adafactor, {"scale_parameter": True, "relative_step": False, "warmup_init": False, "weight_decay": decay}
    raise Unsupported(f"optimizer {o.method}: only the embedded engine has it")


class Lion(Optimizer):
    """arXiv 2302.06675."""

    def __init__(self, params, lr, betas, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group, p, state in trained(self):
            m = state.setdefault("m", torch.zeros_like(p))
            b1, b2 = group["betas"]
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(torch.sign(b1 * m + (1 - b1) * p.grad), alpha=-group["lr"])
            m.mul_(b2).add_(p.grad, alpha=1 - b2)


class LAMB(Optimizer):
    """Adam's direction, scaled in every row to the row's own norm (arXiv 1904.00962 per
    layer); a vector is one row."""

    def __init__(self, params, lr, betas, eps, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group, p, state in trained(self):
            if not state:
                state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            state["step"] += 1
            b1, b2 = group["betas"]
            m, v, g = state["m"], state["v"], p.grad
            m.mul_(b1).add_(g, alpha=1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            c1, c2 = 1 - b1 ** state["step"], 1 - b2 ** state["step"]
            d = (m / c1) / ((v / c2).sqrt() + group["eps"]) + group["weight_decay"] * p
            w, d = by_row(p, p), by_row(p, d)
            nw, nd = w.norm(dim=1, keepdim=True), d.norm(dim=1, keepdim=True)
            trust = torch.where((nw > 0) & (nd > 0), nw / nd, torch.ones_like(nw))
            w.sub_(group["lr"] * trust * d)


def by_row(p, x):
    """x, shaped as the parameter p, as a matrix; writes go through."""
    if p.dim() < 2:
        return x.view(1, -1)
    return x.t() if getattr(p, "arena_transposed", False) else x.view(-1, x.shape[-1])


class Muon(Optimizer):
    """torch.optim.Muon on hidden matrices, AdamW on everything else."""

    def __init__(self, params, lr, betas, momentum, eps, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.parts = []
        for group in self.param_groups:
            hidden = [p for p in group["params"] if p.dim() == 2 and not getattr(p, "arena_edge", False)]
            rest = [p for p in group["params"] if not any(p is h for h in hidden)]
            decay = group["weight_decay"]
            if hidden:
                self.parts.append((group, torch.optim.Muon(hidden, lr=lr, momentum=momentum, eps=eps, weight_decay=decay)))
            if rest:
                self.parts.append((group, AdamW(rest, lr=lr, betas=betas, eps=1e-8, weight_decay=decay)))

    @torch.no_grad()
    def step(self, closure=None):
        for group, part in self.parts:
            for g in part.param_groups:
                g["lr"] = group["lr"]  # the schedule turns the outer one
            part.step()


def trained(optimizer):
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                yield group, p, optimizer.state[p]
