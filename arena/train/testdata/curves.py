#!/usr/bin/env python3
"""Writes curves.json: what PyTorch, transformers and PEFT compute where the Go
engine trains the demo model, for the test to compare with.

    python3 arena/train/testdata/curves.py [CURVE...]

Needs torch, transformers, peft and bitsandbytes. Batches and the adapters' initial values come
from the same counter-based generator as in the Go package (param.go).
"""

import itertools
import json
import math
import pathlib
import sys

import numpy as np
import peft
import torch
import torch.nn.functional as F
import transformers
from transformers.optimization import Adafactor, get_scheduler

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parents[2] / "internal/demo/model"
BATCH, TOKENS, STEPS = 4, 64, 20
MASK = (1 << 64) - 1


def start(name, seed=0):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    return (h + seed * 0x9E3779B97F4A7C15) & MASK


def units(name, n, seed=0):
    with np.errstate(over="ignore"):
        x = np.uint64(start(name, seed)) + np.arange(n, dtype=np.uint64)
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) / (1 << 24)


def uniform(name, shape, bound):
    u = units(name, int(np.prod(shape)))
    return torch.from_numpy(((2 * u - 1) * bound).astype(np.float32).reshape(shape))


def batch(step, vocab=1 << 16):
    """Four letters, each following the last by a rule that can be learned."""
    u = units(f"batch{step}", BATCH * (TOKENS + 1)).reshape(BATCH, TOKENS + 1)
    ids = np.zeros((BATCH, TOKENS + 1), dtype=np.int64)
    for t in range(TOKENS + 1):
        last = ids[:, t - 1] - 97 if t else 0
        ids[:, t] = 97 + (last * 3 + 1 + (u[:, t] * 4).astype(np.int64)) % 26
    if vocab < 97 + 26:
        ids -= 97
    return torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(ids[:, 1:].copy())


def load(folder=MODEL, **more):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **more)


def quantised(double):
    """bitsandbytes' NF4, on the CPU."""
    return load(device_map={"": "cpu"}, quantization_config=transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32))


def adapted(config, base=None):
    model = peft.get_peft_model(base or load(), config)
    for name, p in model.named_parameters():
        if "lora_A" in name:
            module = name.removeprefix("base_model.model.").split(".lora_A")[0]
            p.data.copy_(uniform(module + ".lora_A", p.shape, 1 / math.sqrt(p.shape[1])))
    return model


def lora(targets, base=None, **more):
    return adapted(peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets, **more), base)


MODULES = ["v_proj", "o_proj", "up_proj", "down_proj"]
LINEAR = ["q_proj", "k_proj", "gate_proj"] + MODULES


def adamw(params, lr, **more):
    return torch.optim.AdamW(params, lr=lr, weight_decay=more.pop("wd", 0.0), **more)


def loraplus(model, lr, ratio):
    a = [p for n, p in model.named_parameters() if p.requires_grad and "lora_B" not in n]
    b = [p for n, p in model.named_parameters() if p.requires_grad and "lora_B" in n]
    return torch.optim.AdamW([{"params": a}, {"params": b, "lr": lr * ratio}], lr=lr, weight_decay=0.0)


def cases():
    """Yields name, model, optimizer, schedule (name, warm-up), clip."""
    m = load()
    yield "full adamw", m, adamw(m.parameters(), 1e-3, wd=0.1), ("linear", 4), 1.0
    m = load()
    yield "full sgd", m, torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9), ("cosine", 0), 0
    m = load()
    yield "full adafactor", m, Adafactor(m.parameters(), lr=1e-2, scale_parameter=True, relative_step=False,
                                         warmup_init=False), ("constant", 0), 0
    m = lora(MODULES)
    yield "lora", m, adamw([p for p in m.parameters() if p.requires_grad], 2e-3), ("constant", 0), 1.0
    m = lora(LINEAR, use_rslora=True)
    yield "rslora", m, adamw([p for p in m.parameters() if p.requires_grad], 1e-3), ("constant", 0), 0
    m = lora(MODULES)
    yield "lora+", m, loraplus(m, 5e-4, 16.0), ("constant", 0), 0
    m = lora(LINEAR, use_dora=True)
    yield "dora", m, adamw([p for p in m.parameters() if p.requires_grad], 2e-3), ("constant", 0), 0
    m = peft.get_peft_model(load(), peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"))
    yield "ia3", m, adamw([p for p in m.parameters() if p.requires_grad], 1e-2), ("constant", 0), 0


    m = load()
    yield "full lion", m, Lion(m.parameters(), 1e-4, wd=0.1), ("constant", 0), 0
    m = load()
    yield "full lamb", m, LambRows(m.parameters(), 1e-2, wd=0.01), ("constant", 0), 0
    m = load()
    yield "full muon", m, MuonAndAdamW(m, 1e-2), ("constant", 0), 0
    m = lora(["embed_tokens", "q_proj"])
    for name, p in m.named_parameters():
        if "lora_embedding_B" in name:
            p.data.copy_(normal("model.embed_tokens.lora_embedding_B", p.shape))
    yield "lora embedding", m, adamw([p for p in m.parameters() if p.requires_grad], 2e-3), ("constant", 0), 0
    m = peft.get_peft_model(load(), peft.PromptTuningConfig(num_virtual_tokens=PROMPT, task_type="CAUSAL_LM"))
    table = m.get_input_embeddings().weight.detach()
    rows = torch.from_numpy((units("prompt_embeddings", PROMPT) * table.shape[0]).astype(np.int64))
    m.prompt_encoder["default"].embedding.weight.data.copy_(table[rows])
    yield "soft prompt", m, adamw([p for p in m.parameters() if p.requires_grad], 3e-2), ("constant", 0), 0

    m = load()
    yield "full shampoo", m, ShampooGrafted(m.parameters(), 2e-3, wd=0.1, eps=1e-4), ("constant", 0), 0
    m = load()
    yield "full row-col", m, Balanced(m, 1e-2, 0.1, balanced_scales), ("constant", 0), 1.0
    m = load()
    yield "full pair", m, Balanced(m, 1e-3, 0.1, pair_scales), ("constant", 0), 1.0
    m = lora(MODULES)
    yield "lora row-col", m, Balanced(m, 2e-3, 0.0, lora_scales), ("constant", 0), 0
    for name, double in ("nf4", False), ("nf4-dq", True):
        m = lora(LINEAR, quantised(double))
        yield "qlora " + name, m, adamw([p for p in m.parameters() if p.requires_grad], 2e-3), ("constant", 0), 0


def family_cases():
    """The same for fixtures of package arch."""
    arch = HERE.parents[2] / "arch/testdata"
    for family, modules, more in (
            ("gpt2", ["c_attn", "c_proj", "c_fc"], {"fan_in_fan_out": True}),
            ("mamba", ["in_proj", "x_proj"], {})):
        def base():
            still = {k: 0.0 for k in ("attn_pdrop", "embd_pdrop", "resid_pdrop") if family == "gpt2"}
            return load(arch / family, **still)

        m = base()
        yield family + " full adamw", m, adamw(m.parameters(), 3e-3, wd=0.1), ("linear", 4), 1.0
        m = base()
        yield family + " full sgd", m, torch.optim.SGD(m.parameters(), lr=1e-2, momentum=0.9), ("constant", 0), 1.0
        m = lora(modules, base(), **more)
        yield family + " lora", m, adamw([p for p in m.parameters() if p.requires_grad], 5e-3), ("constant", 0), 1.0
        m = lora(modules, base(), use_dora=True, **more)
        yield family + " dora", m, adamw([p for p in m.parameters() if p.requires_grad], 5e-3), ("constant", 0), 0


PROMPT = 6


def normal(name, shape):
    u = units(name, 2 * int(np.prod(shape))).reshape(-1, 2)
    x = np.sqrt(-2 * np.log(1 - u[:, 0])) * np.cos(2 * math.pi * u[:, 1])
    return torch.from_numpy(x.astype(np.float32).reshape(shape))


class Lion(torch.optim.Optimizer):
    """arXiv 2302.06675, algorithm 2."""

    def __init__(self, params, lr, wd, b1=0.9, b2=0.99):
        super().__init__(params, {"lr": lr})
        self.wd, self.b1, self.b2 = wd, b1, b2

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * self.wd)
                p.add_((m * self.b1 + p.grad * (1 - self.b1)).sign(), alpha=-group["lr"])
                m.mul_(self.b2).add_(p.grad, alpha=1 - self.b2)


class LambRows(torch.optim.Optimizer):
    """LAMB (arXiv 1904.00962) with the trust ratio of every row of a matrix."""

    def __init__(self, params, lr, wd, b1=0.9, b2=0.999, eps=1e-6):
        super().__init__(params, {"lr": lr})
        self.wd, self.b1, self.b2, self.eps, self.t = wd, b1, b2, eps, 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for group in self.param_groups:
            for p in group["params"]:
                s = self.state[p]
                m = s.setdefault("m", torch.zeros_like(p)).lerp_(p.grad, 1 - self.b1)
                v = s.setdefault("v", torch.zeros_like(p)).mul_(self.b2).addcmul_(p.grad, p.grad, value=1 - self.b2)
                d = m / (1 - self.b1 ** self.t) / ((v / (1 - self.b2 ** self.t)).sqrt() + self.eps) + self.wd * p
                nw, nd = p.norm(dim=-1, keepdim=True), d.norm(dim=-1, keepdim=True)
                trust = torch.where((nw > 0) & (nd > 0), nw / nd, torch.ones_like(nw))
                p.add_(trust * d, alpha=-group["lr"])


def newton_schulz(grad, coefficients, steps, eps):
    """torch.optim._muon's function without its cast to bfloat16."""
    a, b, c = coefficients
    x = grad.T.clone() if grad.size(0) > grad.size(1) else grad.clone()
    x.div_(x.norm().clamp(min=eps))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if grad.size(0) > grad.size(1) else x


class MuonAndAdamW(torch.optim.Optimizer):
    def __init__(self, model, lr):
        hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        rest = [p for p in model.parameters() if all(p is not h for h in hidden)]
        torch.optim._muon._zeropower_via_newtonschulz = newton_schulz
        self.parts = [torch.optim.Muon(hidden, lr=lr, weight_decay=0.0), adamw(rest, lr / 10)]
        super().__init__(model.parameters(), {"lr": lr})

    def step(self):
        for part in self.parts:
            part.step()


class ShampooGrafted(torch.optim.Optimizer):
    """facebookresearch/optimizers' DistributedShampoo, RootInvShampooPreconditionerConfig, grafting from Adam
    (eps 1e-8), with a diagonal in place of blocks for axes that are longer than limit. Checked against theirs:
    with eps 1e-4 and no axis beyond the limit losses agree to 8e-6 (their bias correction is in float32). With
    their default eps of 1e-12 a change in the last place of a factor moves the losses by 1e-3."""

    def __init__(self, params, lr, wd, b1=0.9, b2=0.999, eps=1e-12, every=5, limit=256):
        super().__init__(params, {"lr": lr})
        self.wd, self.b1, self.b2, self.eps, self.every, self.limit, self.t = wd, b1, b2, eps, every, limit, 0

    def root(self, factor, power):
        factor = factor.double() / (1 - self.b2 ** self.t)
        if factor.ndim == 1:
            return (factor + self.eps).pow(power).float()
        values, vectors = torch.linalg.eigh(factor)
        values = values - min(values.min().item(), 0) + self.eps
        return (vectors * values.pow(power) @ vectors.T).float()

    @torch.no_grad()
    def step(self):
        self.t += 1
        for group in self.param_groups:
            for p in group["params"]:
                s, g = self.state[p], p.grad
                if "m" not in s:
                    s.update(m=torch.zeros_like(p), v=torch.zeros_like(p), roots=[None] * p.ndim)
                    s["factors"] = [torch.zeros(n, n) if n <= self.limit else torch.zeros(n) for n in p.shape]
                s["m"].lerp_(g, 1 - self.b1)
                s["v"].mul_(self.b2).addcmul_(g, g, value=1 - self.b2)
                for i, f in enumerate(s["factors"]):
                    rows = g.transpose(0, i).reshape(g.shape[i], -1)
                    f.mul_(self.b2).add_(rows @ rows.T if f.ndim == 2 else rows.square().sum(1), alpha=1 - self.b2)
                    if self.t % self.every == 0:
                        s["roots"][i] = self.root(f, -1 / (2 * p.ndim))
                mean = s["m"] / (1 - self.b1 ** self.t)
                adam = mean / ((s["v"] / (1 - self.b2 ** self.t)).sqrt() + 1e-8)
                d = adam
                if self.t >= self.every:
                    d = mean
                    for i, r in enumerate(s["roots"]):
                        d = d.transpose(0, i)
                        d = r @ d if r.ndim == 2 else r.view(-1, *[1] * (d.ndim - 1)) * d
                        d = d.transpose(0, i)
                    d = d * (adam.norm() / (d.norm() + 1e-16))
                p.mul_(1 - group["lr"] * self.wd).add_(d, alpha=-group["lr"])


def balanced_scales(name, p):
    """Factors that make the root mean squares of rows and columns 1."""
    w = p.detach().double()
    if w.ndim == 1:
        return w.abs()
    r, c = torch.ones(w.shape[0], 1, dtype=w.dtype), torch.ones(1, w.shape[1], dtype=w.dtype)
    for _ in range(50):
        r = (w / c).square().mean(1, keepdim=True).sqrt()
        c = (w / r).square().mean(0, keepdim=True).sqrt()
    return r, c


def pair_scales(name, p):
    """Powers of two by rows and columns."""
    r, c = (torch.from_numpy(2.0 ** np.floor(7 * units(name + part, n) - 3))
            for part, n in ((".rows", p.shape[0]), (".cols", p.shape[-1])))
    return c if p.ndim == 1 else (r.unsqueeze(1), c.unsqueeze(0))


def lora_scales(name, p):
    """Those of the tensor below, made so that its values are of the size 1/sqrt(columns)."""
    module, which = name.removeprefix("base_model.model.").split(".lora_")
    base = dict(load().named_parameters())[module + ".weight"]
    r, c = balanced_scales(name, base)
    f = (r.log().mean() - c.log().mean()).div(2).exp()  # each takes half of the scale
    more = base.shape[1] ** 0.25
    if which.startswith("A"):
        p.data.copy_(p.double() * c * f * more)
        return torch.ones(p.shape[0], 1), c * f * more
    return r / f * more, torch.ones(1, p.shape[1])


class Balanced(torch.optim.Optimizer):
    """AdamW on what a tensor holds divided by factors of its rows and columns."""

    def __init__(self, model, lr, wd, scales):
        self.scales, hats = [], []
        params = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        for n, p in params:
            s = scales(n, p)
            s = s[0] * s[1] if isinstance(s, tuple) else s
            self.scales.append(s)
            hats.append(torch.nn.Parameter(torch.zeros_like(p)))
            p.register_hook(lambda g, s=s: (g.double() * s).float())
        self.inner = adamw(hats, lr, wd=wd)
        self.pairs = list(zip((p for _, p in params), hats, self.scales))
        super().__init__((p for _, p in params), {"lr": lr})

    @torch.no_grad()
    def step(self):
        for p, hat, s in self.pairs:
            hat.copy_(p.double() / s)
            hat.grad, hat.old = p.grad, hat.clone()
        self.inner.step()
        for p, hat, s in self.pairs:
            p.copy_(p.double() + (hat.double() - hat.old.double()) * s)


def logits_and_targets(model, x, y):
    """With virtual tokens, the last of them predicts the first token."""
    out = model(input_ids=x, use_cache=False).logits.float()
    if out.shape[1] > x.shape[1]:
        return out[:, PROMPT - 1:], torch.cat([x[:, :1], y], 1)
    return out, y


def curve(model, opt, schedule, clip):
    sched = get_scheduler(schedule[0], opt, num_warmup_steps=schedule[1], num_training_steps=STEPS)
    model.train()
    losses = []
    for step in range(STEPS):
        x, y = batch(step, model.config.vocab_size)
        logits, y = logits_and_targets(model, x, y)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip)
        opt.step()
        sched.step()
        opt.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out = {"made_with": {m.__name__: m.__version__ for m in (torch, transformers, peft)},
           "tokens": batch(0)[0][0, :8].tolist(), "curves": {}}
    only = sys.argv[1:]
    if only:
        out["curves"] = json.loads((HERE / "curves.json").read_text())["curves"]
    for name, model, opt, schedule, clip in itertools.chain(family_cases(), cases()):
        if only and not any(o in name for o in only):
            continue
        out["curves"][name] = curve(model, opt, schedule, clip)
        print(name, " ".join(f"{x:.4f}" for x in out["curves"][name][::5]), flush=True)
    text = json.dumps(out, indent=1)
    (HERE / "curves.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
