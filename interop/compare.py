"""Demand that a sealed checkpoint computes exactly what the original computes.

    python compare.py ORIGINAL SEALED [--dtypes fp32,bf16] [--attn eager,sdpa]

Loads both folders in every dtype and attention implementation, feeds the same
random tokens (lengths below and above any sliding window of the tiny models,
one and two sequences) and generates greedily with the KV cache. One JSON line
for each combination; exit status 1 unless all logits and all generated tokens
are identical bit for bit and finite, and every tensor was loaded.
"""

import argparse
import json
import sys

import torch
from checkpoints import DTYPES, load, logits
from offline import transformers

SHAPES = [(1, 1), (1, 7), (1, 33), (2, 33)]  # batch, tokens
NEW_TOKENS = 16


def batches(vocab):
    """Fixed random tokens of every shape, above the special ids 0, 1 and 2."""
    random = torch.Generator().manual_seed(20)
    return [torch.randint(3, vocab, shape, generator=random) for shape in SHAPES]


def generate(model, tokens):
    """Greedy continuation of tokens and the raw logits of each step."""
    out = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=False, use_cache=True,
        min_new_tokens=NEW_TOKENS, max_new_tokens=NEW_TOKENS, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True)  # fmt: skip
    return out.sequences, torch.stack(out.logits)


def compare(original, sealed):
    """Compare two loaded models; the numbers of one JSON line."""
    equal, finite, max_diff = True, True, 0.0
    for tokens in batches(original.config.vocab_size):
        a, b = logits(original, tokens), logits(sealed, tokens)
        equal &= torch.equal(a, b)
        finite &= bool(torch.isfinite(a).all() and torch.isfinite(b).all())
        max_diff = max(max_diff, (a.float() - b.float()).abs().max().item())
    tokens = batches(original.config.vocab_size)[1]
    (seq_a, step_a), (seq_b, step_b) = generate(original, tokens), generate(sealed, tokens)
    return {
        "equal": equal,
        "max_diff": max_diff,
        "finite": finite,
        "generate_equal": torch.equal(seq_a, seq_b) and torch.equal(step_a, step_b),
    }


def supports(folder, attn):
    """Whether transformers offers this attention implementation for the model class at all."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return attn != "sdpa" or model._supports_sdpa


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original")
    parser.add_argument("sealed")
    parser.add_argument("--dtypes", default="fp32,bf16", help="comma-separated, of fp32, bf16, fp16")
    parser.add_argument("--attn", default="eager,sdpa", help="comma-separated, of eager, sdpa")
    args = parser.parse_args()
    compared, ok = 0, True
    for attn in args.attn.split(","):
        for dtype in args.dtypes.split(","):
            line = {"dtype": dtype, "attn": attn}
            if not supports(args.original, attn):
                line["skipped"] = f"transformers has no {attn} for this model"
            else:
                models = [load(f, DTYPES[dtype], attn) for f in (args.original, args.sealed)]
                line |= compare(*models)
                compared += 1
                ok &= line["equal"] and line["finite"] and line["generate_equal"]
            print(json.dumps(line), flush=True)
    sys.exit(0 if ok and compared else 1)


if __name__ == "__main__":
    main()
