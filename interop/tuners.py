#!/usr/bin/env python3
"""Every tuner that PEFT ships, on the demo model as it is and sealed.

    python3 interop/tuners.py OUT [--steps N] [--target DOMAIN] [--only NAME,…] [--fresh]

writes OUT.json and OUT.md: tuner, class, best held-out loss of a sweep over learning
rates on the unsealed model and on each sealed one, and the fraction learned, or why the
tuner cannot run. Trials run through arena_trl (folder python), that is TRL's SFTTrainer,
and are kept in OUT.trials.jsonl: a second run goes on where the first one stopped.

Needs Go and the packages of requirements.txt. NEUROSEAL_COMMAND names a binary to seal
with; otherwise the command of this repository is built.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "python"))
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                  TRANSFORMERS_VERBOSITY="error")

import numpy as np  # noqa: E402

SEALS = {"max": ["--profile", "max"], "strong": ["--profile", "strong"]}
KEY = "NEUROSEAL-SECRET-KEY-1QQQQQQQQQQQQZQQQQQQQQQQQQQQQQQQQLUQQQQQQQQQQQQQQQQQQCHU2TK"  # any: the same seals in every run
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
BATCH, WINDOW, VOCAB = 4, 128, 128
TAUGHT = 0.01  # part of the bound by which a loss must fall to count, as in arena/score.go

# Options without which a tuner has no meaning, or whose defaults do not divide the demo
# model's sizes (128 and 384); all others run with PEFT's defaults.
VIRTUAL = {"num_virtual_tokens": 20}
OPTIONS = {
    "lora": {}, "adalora": {}, "c3a": {"block_size": 64}, "vblora": {"vector_length": 64},
    "adaption_prompt": {"adapter_len": 10, "adapter_layers": 4},
    "cartridge": VIRTUAL, "prompt_tuning": VIRTUAL, "multitask_prompt_tuning": VIRTUAL, "p_tuning": VIRTUAL, "prefix_tuning": VIRTUAL,
    "cpt": {"cpt_token_ids": list(range(97, 117)), "cpt_mask": [1] * 20, "cpt_tokens_type_mask": [2] * 19 + [4]},
    "trainable_tokens": {"token_indices": list(range(VOCAB))},
}
# Why a tuner of PEFT is not an attack of its own.
NOT_TRIED = {"xlora": "mixes LoRA adapters that were trained before; it trains none itself"}
# Variants of LoRA that its configuration holds.
VARIANTS = {
    "lora (rslora)": ("lora", {"use_rslora": True}),
    "lora (dora)": ("lora", {"use_dora": True}),
    "lora (pissa)": ("lora", {"init_lora_weights": "pissa"}),
    "lora (olora)": ("lora", {"init_lora_weights": "olora"}),
}
# Class B acts on activations, by factors, rotations, tokens that are not there or a
# small network beside the residual stream (ShadowPEFT), or multiplies weights element
# by element (HiRA), whose gradients no factor on a row or a column changes. Everything
# else counts as A, also where nobody has looked whether it is.
INVARIANT = {"ia3", "hira", "road", "oft", "boft", "prompt_tuning", "multitask_prompt_tuning", "p_tuning", "cpt", "shadow"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--target", default="code", choices=("code", "logs"), help="generated text that is taught")
    p.add_argument("--only", default="")
    p.add_argument("--fresh", action="store_true", help="forget the trials of an earlier run")
    o = p.parse_args()
    warnings.filterwarnings("ignore")
    import peft
    import torch

    torch.set_num_threads(1)
    names = [k.value.lower() for k in peft.PEFT_TYPE_TO_CONFIG_MAPPING]
    rows = {n: (n, OPTIONS.get(n, {})) for n in names} | VARIANTS
    if o.only:
        rows = {n: r for n, r in rows.items() if n in o.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="tuners-") as work:
        setting = Setting(work, o.steps, o.target)
        store = Store(o.out + ".trials.jsonl", o.fresh)
        done = []
        for name in sorted(rows):
            done.append(row(setting, store, name, *rows[name]))
            print(markdown_row(done[-1]), flush=True)
            write(o.out, setting, done)


class Setting:
    """The models and the texts."""

    def __init__(self, work, steps, domain):
        from arena_trl import result

        self.domain, self.steps, self.work, self.versions = domain, steps, work, result.versions()
        self.models = {"unsealed": os.path.join(ROOT, "internal", "demo", "model")}
        command = os.environ.get("NEUROSEAL_COMMAND")
        if not command:
            command = os.path.join(work, "neuroseal")
            subprocess.run(["go", "build", "-o", command, "./cmd/neuroseal"], cwd=ROOT, check=True)
        key = os.path.join(work, "key")
        with open(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as f:
            f.write(KEY + "\n")
        for name, args in SEALS.items():
            self.models[name] = os.path.join(work, name)
            run = [command, "lock", self.models["unsealed"], self.models[name], "--key-file", key, *args]
            subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        self.target, self.retained = text(domain, 400_000, 1), text("tales", 40_000, 9)
        self.export("target", self.target, steps, 16)
        self.export("retained", self.retained, 0, 4)
        self.digests = self.digest()
        counts = np.bincount(self.target[0], minlength=VOCAB)
        self.unigram = float(-np.log((counts[self.target[1]] + 1) / (len(self.target[0]) + VOCAB)).mean())

    def digest(self):
        out = {"text": hashlib.sha256(self.target[0].tobytes()).hexdigest()}
        for name, folder in self.models.items():
            with open(os.path.join(folder, "model.safetensors"), "rb") as f:
                out[name] = hashlib.sha256(f.read()).hexdigest()
        return out

    def export(self, name, halves, steps, evals):
        """Writes windows as arena/corpus exports them."""
        folder = os.path.join(self.work, name + ".windows")
        os.mkdir(folder)
        train, held = halves
        rng = np.random.default_rng(1)
        starts = rng.integers(0, len(train) - WINDOW, steps * BATCH)
        cut(train, starts).tofile(os.path.join(folder, "train.i32"))
        cut(held, [i * (len(held) - WINDOW - 1) // evals for i in range(evals)]).tofile(os.path.join(folder, "heldout.i32"))
        head = {"format": "neuroseal-batches/1", "corpus": name, "seed": 1, "steps": steps, "batch": BATCH,
                "window": WINDOW, "evals": evals, "train": "train.i32", "heldout": "heldout.i32"}
        with open(os.path.join(folder, "corpus.json"), "w", encoding="utf-8") as f:
            json.dump(head, f)

    def task(self, kind, options, model, lr):
        recipe = {"train": {"kind": kind, "options": options, "rank": 8 if kind == "lora" else 0, "alpha": 8 if kind == "lora" else 0},
                  "optimizer": {"method": "adamw"}, "warmup": 0.05, "clip": 1}
        if kind == "lora":  # PEFT's default; the recipe's own LoRA wants modules named
            recipe["train"]["modules"] = ["q_proj", "v_proj"]
        trial = {"recipe": recipe, "lr": lr, "seed": 1, "steps": self.steps, "batch": BATCH, "window": WINDOW, "evals": 2}
        data = {n: os.path.join(self.work, n + ".windows") for n in ("target", "retained")}
        return {"trial": trial, "paths": {"model": self.models[model]}, "data": data}


def text(domain, size, seed):
    """Generated text, and another stream of it that is held out."""
    out = []
    for s, n in ((seed, size), (seed + 1000, size // 10)):
        run = ["go", "run", "./internal/demo/gentext", "-domain", domain, "-seed", str(s), "-bytes", str(n)]
        raw = subprocess.run(run, cwd=ROOT, check=True, capture_output=True).stdout
        out.append(np.frombuffer(raw, dtype=np.uint8).astype("<i4"))
    return out


def cut(tokens, starts):
    return np.concatenate([tokens[s : s + WINDOW + 1] for s in starts] or [tokens[:0]])


class Store:
    """Finished trials, one JSON object a line."""

    def __init__(self, path, fresh):
        """Keys name the text and the very weights: trials of a model that another version
        sealed are kept, and not taken for this one's."""
        self.path, self.known = path, {}
        if fresh and os.path.exists(path):
            os.unlink(path)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                for line in f:
                    with contextlib.suppress(ValueError):  # a run may have ended within a line
                        r = json.loads(line)
                        self.known[r["key"]] = r

    def get(self, key, make):
        if key not in self.known:
            self.known[key] = {"key": key} | make()
            with open(self.path, "a", encoding="utf-8") as f:
                f.write(json.dumps(self.known[key]) + "\n")
        return self.known[key]


def attempt(setting, store, kind, options, model, lr):
    from arena_trl import result, task, trainer

    raw = setting.task(kind, options, model, lr)
    named = json.dumps([raw["trial"], setting.digests["text"], setting.digests[model], setting.versions], sort_keys=True)

    def make():
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            try:
                r = trainer.run(task.parse(raw))
            except Exception as e:  # a row with its reason
                r = result.impossible(raw["trial"], f"{type(e).__name__}: {e}")
        keep = ("status", "reason", "evals", "trainable", "seconds")
        return {"tuner": kind, "model": model, "lr": lr} | {k: result.finite(r[k]) for k in keep if k in r}

    return store.get(hashlib.sha256(named.encode()).hexdigest()[:32], make)


def row(setting, store, name, kind, options):
    out = {"tuner": name, "class": "B" if kind in INVARIANT else "A", "options": options}
    if name in NOT_TRIED:
        return out | {"reason": NOT_TRIED[name]}
    best, start = {}, None
    for model in setting.models:
        found = []
        for lr in RATES:
            r = attempt(setting, store, kind, options, model, lr)
            if r["status"] == "impossible":
                return out | {"reason": " ".join(r["reason"].split())[:200]}
            losses = [e["target"] for e in r["evals"] if e["target"] is not None]
            found += [(x, lr) for x in losses]
            out["trainable"] = r["trainable"]
            if model == "unsealed" and losses:
                start = losses[0] if start is None else start
        loss, lr = min(found, default=(None, None))
        best[model] = {"loss": loss, "lr": lr}
    bound = min(setting.start(store), setting.unigram)
    reached = best["unsealed"]["loss"]
    out |= {"start": start, "best": best, "learned": {}, "fell": {}}
    whole = setting.start(store)
    for model in SEALS:
        taught = reached is not None and bound - reached > TAUGHT * bound
        got = best[model]["loss"]
        out["learned"][model] = None if not taught else 0.0 if got is None else max(0.0, (bound - got) / (bound - reached))
        fell = reached is not None and whole - reached > TAUGHT * whole
        out["fell"][model] = None if not fell else 0.0 if got is None else max(0.0, (whole - got) / (whole - reached))
    return out


def start(setting, store):
    """The model's own loss before any training: of LoRA, which begins as nothing."""
    r = attempt(setting, store, "lora", {}, "unsealed", RATES[0])
    return r["evals"][0]["target"]


Setting.start = start


def write(out, setting, rows):
    head = {
        "model": "internal/demo", "target": f"generated {setting.domain}", "steps": setting.steps, "batch": BATCH, "window": WINDOW,
        "rates": RATES, "optimizer": "adamw, warm-up 5%, linear decay, clipping at 1", "seeds": 1,
        "digests": setting.digests, "unigram": setting.unigram, "uniform": math.log(VOCAB), "versions": setting.versions,
    }
    with open(out + ".json", "w", encoding="utf-8") as f:
        json.dump(head | {"tuners": rows}, f, indent=1)
        f.write("\n")
    with open(out + ".md", "w", encoding="utf-8") as f:
        f.write(
            f"Demo model, {setting.steps} steps of {BATCH}×{WINDOW} tokens of generated {setting.domain}, AdamW, best of the learning rates "
            f"{', '.join(f'{r:g}' for r in RATES)}, one seed. Held-out loss in nats per token; a unigram model of the target has "
            f"{setting.unigram:.2f}, a uniform guess {math.log(VOCAB):.2f}. Learned: part of what the unsealed model learns below the "
            f"smaller of the loss at the start and the unigram's; –: it does not come below that there either, "
            f"and in brackets how far the loss falls, in parts of its fall there; "
            f"guess: the model was destroyed and every token is as likely as any other. "
            f"PEFT {setting.versions.get('peft')}, TRL {setting.versions.get('trl')}, transformers {setting.versions.get('transformers')}.\n\n"
            f"| Tuner | Class | Trained | Unsealed | {' | '.join(SEALS)} | {' | '.join('learned, ' + s for s in SEALS)} |\n"
            f"|---|---|---|---|{'---|' * 2 * len(SEALS)}\n"
        )
        f.writelines(markdown_row(r) + "\n" for r in rows)


def markdown_row(r):
    if "reason" in r:
        return f"| {r['tuner']} | {r['class']} | {' | '.join([''] * (1 + 1 + 2 * len(SEALS) - 1))} | {r['reason'].replace('|', '/')} |"
    cells = [loss(r["best"][m]) for m in ("unsealed", *SEALS)]
    cells += [share(r, s) for s in SEALS]
    return f"| {r['tuner']} | {r['class']} | {r['trainable']} | {' | '.join(cells)} |"


def share(r, s):
    if r["learned"][s] is not None:
        return f"{100 * r['learned'][s]:.0f}%"
    got = r["best"][s]["loss"]
    if got is not None and abs(got - math.log(VOCAB)) < 0.02:
        return "– (guess)"  # a model that was destroyed guesses: a fall, but nothing learned
    return "–" if r["fell"][s] is None else f"– ({100 * r['fell'][s]:.0f}%)"


def loss(b):
    return "NaN" if b["loss"] is None else f"{b['loss']:.2f} ({b['lr']:g})"


if __name__ == "__main__":
    main()
