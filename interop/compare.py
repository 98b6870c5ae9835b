"""Demand that a sealed checkpoint computes exactly what the original computes.

    python compare.py ORIGINAL SEALED [--dtypes fp32,bf16] [--attn eager,sdpa]
    python compare.py --batch FILE

Loads both folders in every dtype and attention implementation, feeds the same
random tokens (lengths below and above any sliding window of the tiny models,
one and two sequences) and generates greedily with the KV cache; models that
read pixels or sound, or a second sequence, get seeded ones, and what cannot
generate is asked for its answer alone. One JSON line for each combination; exit
status 1 unless all logits (or what a model without them returns first) and all
generated tokens are identical bit for bit and finite, and every tensor was loaded.

FILE holds one comparison a line, as JSON: {"original": …, "sealed": …} and, if
they are not to be as above, "dtypes", "attn" (lists) and "demand", which is
"equal" or "finite". Each line that is printed then names its folders too.
"""

import argparse
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import inputs as feed
import torch
from checkpoints import DTYPES, load, logits, model_class
from offline import transformers

SHAPES = [(1, 1), (1, 7), (1, 33), (2, 33)]  # batch, tokens
NEW_TOKENS = 16


def batches(vocab):
    """Fixed random tokens of every shape, above the special ids 0, 1 and 2."""
    random = torch.Generator().manual_seed(20)
    return [torch.randint(3, vocab, shape, generator=random) for shape in SHAPES]


@dataclass(frozen=True)
class Answers:
    """What a model says: answers to every batch, greedy continuation and its raw logits."""

    logits: list
    sequence: torch.Tensor
    steps: torch.Tensor


def vocabulary(model):
    """Number of text tokens, any number for a model without text."""
    config = model.config
    return getattr(config, "vocab_size", None) or getattr(getattr(config, "text_config", None), "vocab_size", 29)


def continuation(model, tokens):
    """Greedy continuation of a batch and its raw logits; empty for a model that does not generate."""
    if not model.can_generate():
        return torch.empty(0), torch.empty(0)
    given = feed.fill(model, tokens)
    given.pop("decoder_input_ids", None)
    if "input_ids" in given:
        given["attention_mask"] = torch.ones_like(tokens)
    # The mixin's own loop: Whisper's wraps it in one for long recordings.
    out = transformers.GenerationMixin.generate(
        model, **given, do_sample=False, use_cache=True, min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS, pad_token_id=0, return_dict_in_generate=True, output_logits=True)  # fmt: skip
    return out.sequences, torch.stack(out.logits)


def answers(folder, dtype, attn):
    """Load a folder and ask it everything."""
    model = load(folder, DTYPES[dtype], attn)
    inputs = batches(vocabulary(model))
    return Answers([logits(model, x) for x in inputs], *continuation(model, inputs[1]))


# The seals of one original come one after the other and meet the same answers.
original_answers = functools.lru_cache(maxsize=8)(answers)


def compare(original, sealed):
    """Compare two models' answers; the numbers of one JSON line."""
    pairs = list(zip(original.logits, sealed.logits, strict=True))
    finite = all(bool(torch.isfinite(x).all()) for pair in pairs for x in pair)
    return {
        "equal": all(torch.equal(a, b) for a, b in pairs),
        # JSON has no NaN.
        "max_diff": max((a.float() - b.float()).abs().max().item() for a, b in pairs) if finite else None,
        "max_logit": max(a.float().abs().max().item() for a, _ in pairs) if finite else None,
        "finite": finite,
        "generate_equal": torch.equal(original.sequence, sealed.sequence)
        and torch.equal(original.steps, sealed.steps),
    }


def supports(folder, attn):
    """Whether transformers offers this attention implementation for the model class at all."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = model_class(config)
    if model is transformers.AutoModelForCausalLM:
        model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return attn != "sdpa" or model._supports_sdpa


def results(job):
    """The JSON lines of one comparison, each with "ok" or "skipped"."""
    original, sealed = job["original"], job["sealed"]
    for attn in job.get("attn", ["eager", "sdpa"]):
        for dtype in job.get("dtypes", ["fp32", "bf16"]):
            line = {"dtype": dtype, "attn": attn}
            try:
                if not supports(original, attn):
                    yield line | {"skipped": f"transformers has no {attn} for this model"}
                    continue
                line |= compare(original_answers(original, dtype, attn), answers(sealed, dtype, attn))
                line["ok"] = line["finite"]
                if job.get("demand", "equal") == "equal":
                    line["ok"] &= line["equal"] and line["generate_equal"]
            except (ValueError, RuntimeError, OSError, LookupError) as error:
                line |= {"ok": False, "error": f"{type(error).__name__}: {error}"}
            yield line


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="ORIGINAL SEALED")
    parser.add_argument("--batch", type=Path, metavar="FILE", help="many comparisons, one JSON line each")
    parser.add_argument("--dtypes", default="fp32,bf16", help="comma-separated, of fp32, bf16, fp16")
    parser.add_argument("--attn", default="eager,sdpa", help="comma-separated, of eager, sdpa")
    args = parser.parse_args()
    if len(args.folders) != (0 if args.batch else 2):
        parser.error("give two folders, or --batch")
    if args.batch:
        jobs = [json.loads(line) for line in args.batch.read_text().splitlines()]
    else:
        names = dict(zip(["original", "sealed"], args.folders, strict=True))
        jobs = [names | {"dtypes": args.dtypes.split(","), "attn": args.attn.split(",")}]
    compared, ok = 0, True
    for job in jobs:
        for line in results(job):
            compared += "ok" in line
            ok &= line.get("ok", True)
            folders = {k: job[k] for k in ("original", "sealed")} if args.batch else {}
            print(json.dumps(folders | line), flush=True)
    sys.exit(0 if ok and compared else 1)


if __name__ == "__main__":
    main()
