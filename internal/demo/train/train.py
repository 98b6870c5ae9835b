#!/usr/bin/env python3
"""Trains the demo model: a small Llama whose tokens are bytes.

    python3 internal/demo/train/train.py

It takes its text from internal/demo/gentext (so Go must be installed), trains
on the first nine tenths on the CPU, and writes config.json,
generation_config.json, model.safetensors and the record train.json to
internal/demo/model. Needs torch, transformers and numpy; the versions used
stand in train.json. Every random choice is seeded and torch is asked for
deterministic kernels; beyond the command, the result depends on what
train.json lists under "determined_by".
"""

import argparse
import hashlib
import json
import math
import pathlib
import platform
import re
import subprocess
import time

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[3]
WINDOW = 256  # bytes seen at once in training
VOCAB = 128  # the text is ASCII

STORY = ("Finn lived on a farm. On Friday he found a green drum in the tower. "
         "He showed it to Rosa. Rosa liked the drum very much.\n")
PROMPTS = [
    "Mara lived near the sea. On Monday she found",
    "Once there was a brave boy named Tom.",
    "Leo had 5 apples. Nora gave him 3 more.",
    "3 plus 4 is",
    # Questions about values that the model did not choose itself: an answer
    # that only repeats what is frequent is wrong here.
    STORY + "Q: Who liked the drum?\nA:",
    STORY + "Q: What colour was the drum?\nA:",
    STORY + "Q: Where was the drum?\nA:",
]


def options():
    p = argparse.ArgumentParser(description="Trains the demo model.")
    p.add_argument("--domain", default="tales")
    p.add_argument("--text-seed", type=int, default=1)
    p.add_argument("--bytes", type=int, default=8_000_000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=3600)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--measure", action="store_true",
                   help="train nothing: measure the model in --out again")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "internal/demo/model")
    return p.parse_args()


def generate_text(domain, seed, size):
    """Returns the text and the command that wrote it."""
    command = ["go", "run", "./internal/demo/gentext",
               "-domain", domain, "-seed", str(seed), "-bytes", str(size)]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return text, " ".join(command)


def build():
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=384, rms_norm_eps=1e-5, max_position_embeddings=512,
        tie_word_embeddings=False, use_cache=True,
        # There is no tokenizer, hence no token that begins or ends a text.
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    # Eager attention is the faster one here, and its order of summation is
    # the one that other implementations are compared with.
    return LlamaForCausalLM._from_config(config, attn_implementation="eager")


class Batches:
    """Windows of the text. Half of them start with a document, so that the
    model meets whole stories with their questions; the others anywhere."""

    def __init__(self, text, size, seed):
        self.text, self.size = torch.from_numpy(text.astype(np.int64)), size
        newline = text == ord("\n")
        starts = np.flatnonzero(newline[:-1] & newline[1:]) + 2
        self.last = len(text) - WINDOW - 1
        self.documents = starts[starts <= self.last]
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def next(self):
        half = self.size // 2
        at = np.concatenate([
            self.rng.choice(self.documents, half),
            self.rng.integers(0, self.last, self.size - half, endpoint=True),
        ])
        rows = torch.stack([self.text[i:i + WINDOW + 1] for i in at])
        return rows[:, :-1], rows[:, 1:]


def rate(step, steps, peak):
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    warmup = min(100, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    t = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * t)) / 2)


def optimizer(model):
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": gains, "weight_decay": 0.0}],
        betas=(0.9, 0.98), eps=1e-8)


def train(model, text, o):
    batches, opt = Batches(text, o.batch, o.seed), optimizer(model)
    began, total = time.time(), 0.0
    for step in range(o.steps):
        x, y = batches.next()
        for group in opt.param_groups:
            group["lr"] = rate(step, o.steps, o.lr)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=x, use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:5d}  training loss {total / 100:.4f} nats/byte  "
                  f"{time.time() - began:.0f} s", flush=True)
            total = 0.0


@torch.no_grad()
def heldout_loss(model, text):
    """Mean nats per byte over windows that do not overlap: a byte is predicted
    from those before it in its window."""
    data, total, count = torch.from_numpy(text.astype(np.int64)), 0.0, 0
    windows = (len(data) - 1) // WINDOW
    for i in range(0, windows, 64):
        n = min(64, windows - i)
        x = data[i * WINDOW:(i + n) * WINDOW].view(n, WINDOW)
        y = data[i * WINDOW + 1:(i + n) * WINDOW + 1].view(n, WINDOW)
        logits = model(input_ids=x, use_cache=False).logits
        total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        count += y.numel()
    return total / count


def unigram_loss(seen, unseen):
    """The held-out loss of the model that knows only how frequent each byte is
    in the training part (add-one smoothed over the vocabulary)."""
    counts = np.bincount(seen, minlength=VOCAB) + 1.0
    return float(-np.log(counts / counts.sum())[unseen].mean())


# What is asked for, by the words a question begins with.
KINDS = {"Who": "person", "What colour": "colour", "Where": "place", "When": "day",
         "How many": "number", "What did": "thing with its colour"}


@torch.no_grad()
def answers_right(model, text, pattern, limit):
    """Counts held-out answers that greedy decoding gives exactly, by kind. The
    pattern's group 1 is the question, group 2 the answer; greedy decoding
    gives it if and only if each of its bytes is the likeliest one after those
    before it."""
    counts, asked = {}, 0
    for document in text.tobytes().decode().split("\n\n")[1:-1]:
        found = list(re.finditer(pattern, document + "\n"))
        if not found:
            continue
        ids = torch.tensor([list((document + "\n").encode())])
        best = model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
        for m in found:
            a, b = m.span(2)
            kind = next((k for w, k in KINDS.items() if m[1].startswith(w)), m[1])
            count = counts.setdefault(kind, {"right": 0, "asked": 0})
            count["right"] += bool(torch.equal(best[a - 1:b - 1], ids[0, a:b]))
            count["asked"] += 1
            asked += 1
        if asked >= limit:
            break
    return dict(sorted(counts.items()))


def sample(model, prompt):
    ids = torch.tensor([list(prompt.encode())])
    out = model.generate(ids, attention_mask=torch.ones_like(ids),
                         do_sample=False, max_new_tokens=WINDOW - ids.shape[1])
    text = bytes(out[0].tolist()).decode("ascii", "backslashreplace")
    return {"prompt": prompt, "text": text[:text.find("\n\n", len(prompt)) + 1 or None]}


def environment(threads):
    return {
        "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__, "numpy": np.__version__,
        "machine": platform.machine(), "threads": threads,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def measure(folder, seen, unseen):
    """Measures what is stored: the weights rounded to bf16, computed with in
    fp32."""
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    return {
        "heldout_nats_per_byte": round(heldout_loss(model, unseen), 5),
        "unigram_nats_per_byte": round(unigram_loss(seen, unseen), 5),
        "heldout_answers": answers_right(model, unseen, r"Q: (.*)\nA: (.*\n)", 2000),
        "heldout_sums": answers_right(model, unseen, r"\d (plus|minus) \d+ is (\d+\.\n)", 1000),
        "greedy_samples": [sample(model, p) for p in PROMPTS],
    }


def digests(folder):
    names = ("config.json", "generation_config.json", "model.safetensors")
    return {name: sha256((folder / name).read_bytes()) for name in names}


def make(o, seen, text, text_command):
    """Trains, saves, and returns the record of it."""
    record = {
        "text": {
            "command": text_command, "bytes": len(text), "sha256": sha256(text),
            "heldout": "the last tenth",
        },
        "training": {
            "command": "python3 internal/demo/train/train.py"
                       f" --domain {o.domain} --text-seed {o.text_seed} --bytes {o.bytes} --seed {o.seed}"
                       f" --steps {o.steps} --batch {o.batch} --lr {o.lr} --threads {o.threads}",
            "optimizer": "AdamW, betas 0.9 and 0.98, weight decay 0.05 on matrices,"
                         " gradient norm clipped at 1, warm-up and cosine schedule",
            "precision": "fp32 weights, bf16 autocast; stored as bf16",
            "window": WINDOW, "steps": o.steps, "bytes_seen": o.steps * o.batch * WINDOW,
        },
        "determined_by": environment(o.threads),
    }
    model = build()
    record["training"]["parameters"] = sum(p.numel() for p in model.parameters())
    train(model, seen, o)
    model.to(torch.bfloat16).save_pretrained(o.out)
    (o.out / "model.safetensors").chmod(0o644)
    return record | {"sha256": digests(o.out)}


def made_before(o, text):
    """Returns the record in o.out, having checked that it is of this text and
    of the files there."""
    record = json.loads((o.out / "train.json").read_text())
    if record["sha256"] != digests(o.out) or record["text"]["sha256"] != sha256(text):
        raise SystemExit(f"train.json in {o.out} is not of the files there or not of this text:"
                         " train again, without --measure")
    return record


def main():
    o = options()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    torch.use_deterministic_algorithms(True)

    text, text_command = generate_text(o.domain, o.text_seed, o.bytes)
    data = np.frombuffer(text, dtype=np.uint8)
    seen, unseen = np.split(data, [len(data) * 9 // 10])

    record = made_before(o, text) if o.measure else make(o, seen, text, text_command)
    record |= measure(o.out, seen, unseen)
    out = json.dumps(record, indent=2) + "\n"
    (o.out / "train.json").write_text(out)
    print(out, end="")


if __name__ == "__main__":
    main()
