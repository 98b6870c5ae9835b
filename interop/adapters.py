"""Adapters of PEFT, trained and compared by PEFT itself.

usage: adapters.py train < JOBS
       adapters.py compare < JOBS

JOBS is a JSON list. To train: {"model", "config", "rate", "out"}: a few steps of AdamW on random
tokens, with the config's adapter on the model in fp32; the adapter is saved to out. To
compare: {"models": [A, B], "adapters": [a, b]}: for each, one line of JSON says whether A
with a and B with b give the same logits ("equal", bit for bit in fp32; "difference", the
largest, and "largest", of the logits), how far a moves A's logits ("moved"), and the largest
number that either model met on its way ("peak"): where its square leaves the range of fp32,
norms overflow, in one of the two models sooner than in the other.
"""

import json
import sys
import warnings

import torch
from checkpoints import load

warnings.filterwarnings("ignore")

import peft  # noqa: E402

STEPS = 4
TOKENS = torch.randint(3, 20, (2, 9), generator=torch.Generator().manual_seed(5))


def answers(model):
    """The logits, and the largest number among all modules' outputs."""
    peak = [0.0]

    def look(module, args, out):
        for x in out if isinstance(out, tuple) else (out,):
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                peak[0] = max(peak[0], x.abs().max().nan_to_num(torch.inf).item())

    hooks = [m.register_forward_hook(look) for m in model.modules()]
    with torch.no_grad():
        out = model(input_ids=TOKENS).logits
    for h in hooks:
        h.remove()
    return out, peak[0]


def base(folder):
    """A model in fp32. Experts run one by one, in the same order in every model."""
    model = load(folder)
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    return model


def train(job):
    torch.manual_seed(11)
    config = dict(job["config"])
    kind = {"LORA": peft.LoraConfig, "IA3": peft.IA3Config, "OFT": peft.OFTConfig}[config.pop("peft_type")]
    model = peft.get_peft_model(base(job["model"]), kind(**config))
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=job["rate"])
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model(input_ids=TOKENS).logits
        torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        optimizer.step()
    model.save_pretrained(job["out"])


def adapted(folder, adapter):
    model = peft.PeftModel.from_pretrained(base(folder), adapter).eval()
    return answers(model)


def finite(x):
    """JSON has neither infinity nor NaN: both are as large as can be."""
    return x if abs(x) < 1e300 else 1e300


def compare(job):
    (a, p), (b, q) = (adapted(m, d) for m, d in zip(job["models"], job["adapters"]))
    plain, _ = answers(base(job["models"][0]))
    return {"equal": torch.equal(a, b), "difference": finite((a - b).abs().max().item()), "largest": finite(a.abs().max().item()),
            "moved": finite((a - plain).abs().max().item()), "peak": finite(max(p, q))}  # fmt: skip


torch.set_num_threads(1)
for job in json.load(sys.stdin):
    result = {}
    try:
        if sys.argv[1] == "train":
            train(job)
        else:
            result = compare(job)
    except Exception as e:  # noqa: BLE001 - the test names it
        result = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(result), flush=True)
