#!/usr/bin/env python3
"""Trains the demo model: a small Llama whose tokens are bytes.

    python3 internal/demo/train/train.py

It takes its text from internal/demo/gentext (so Go must be installed), trains
on the first nine tenths on the CPU, and writes config.json,
generation_config.json, model.safetensors and the record train.json to
internal/demo/model. Needs torch, transformers and numpy; the versions used
stand in train.json. Two runs with the same versions, the same kind of CPU and
the same --threads give the same bytes.
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

PROMPTS = [
    "Mara lived near the sea. On Monday she found",
    "Once there was a brave boy named Tom.",
    "Leo had 5 apples. Nora gave him 3 more.",
    "3 plus 4 is",
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


@torch.no_grad()
def answers_right(model, text, pattern, limit=1000):
    """The share of held-out answers that greedy decoding gives exactly. An
    answer is the pattern's group 1; greedy decoding gives it if and only if
    each of its bytes is the likeliest one after those before it."""
    right = asked = 0
    for document in text.tobytes().decode().split("\n\n")[1:-1]:
        spans = [m.span(1) for m in re.finditer(pattern, document + "\n")]
        if not spans:
            continue
        ids = torch.tensor([list((document + "\n").encode())])
        best = model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
        for a, b in spans:
            right += bool(torch.equal(best[a - 1:b - 1], ids[0, a:b]))
            asked += 1
        if asked >= limit:
            break
    return {"right": right, "asked": asked}


def sample(model, prompt):
    ids = torch.tensor([list(prompt.encode())])
    out = model.generate(ids, attention_mask=torch.ones_like(ids),
                         do_sample=False, max_new_tokens=WINDOW - ids.shape[1])
    text = bytes(out[0].tolist()).decode("ascii", "backslashreplace")
    return {"prompt": prompt, "text": text[:text.find("\n\n", len(prompt)) + 1 or None]}


def environment(threads):
    return {
        "note": "The same values here, with the same text and command, give the same model bytes.",
        "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__, "numpy": np.__version__,
        "machine": platform.machine(), "threads": threads,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def main():
    o = options()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    torch.use_deterministic_algorithms(True)

    determined_by = environment(o.threads)

    text, text_command = generate_text(o.domain, o.text_seed, o.bytes)
    data = np.frombuffer(text, dtype=np.uint8)
    seen, unseen = np.split(data, [len(data) * 9 // 10])

    model = build()
    began = time.time()
    train(model, seen, o)

    # What is measured is what is stored: the weights rounded to bf16, computed
    # with in fp32.
    model = model.to(torch.bfloat16)
    model.save_pretrained(o.out)
    model = model.float().eval()
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
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "determined_by": determined_by,
        "heldout_nats_per_byte": round(heldout_loss(model, unseen), 5),
        "unigram_nats_per_byte": round(unigram_loss(seen, unseen), 5),
        "heldout_answers": answers_right(model, unseen, r"\nA: (.*\n)"),
        "heldout_sums": answers_right(model, unseen, r"\d (?:plus|minus) \d+ is (\d+\.\n)"),
        "greedy_samples": [sample(model, p) for p in PROMPTS],
        "sha256": {f.name: sha256(f.read_bytes()) for f in sorted(o.out.iterdir())
                   if f.name in ("config.json", "generation_config.json", "model.safetensors")},
    }
    (o.out / "train.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    print(f"{time.time() - began:.0f} s in all")


if __name__ == "__main__":
    main()
