"""Ask real runtimes whether a sealed GGUF answers as the original does.

    python gguf_runtimes.py ORIGINAL.gguf SEALED.gguf [ORIGINAL SEALED ...]

transformers, where it is installed, reads both files, dequantises them to fp32 and runs them; llama.cpp, where
llama-cpp-python is, runs them as they are: the prompt at once, then token by token. Prints a line of JSON per pair and
runtime: whether all logits are identical, the largest difference and the largest logit, whether the greedy tokens are
the same, and by how much two runs of the original differ. Exit status 1 where tokens differ.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

PROMPTS = ["Once upon a time there was ", "The old king said to his daughter: ", "ab", "In the forest, 17 "]
GREEDY = 16


def tokens(text):
    return list(text.encode())


def with_transformers(path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()
    logits, ids = [], []
    with torch.no_grad():
        for prompt in PROMPTS:
            ids.append(tokens(prompt))
            out = model(torch.tensor([ids[-1]]), use_cache=True)
            for _ in range(GREEDY):
                logits.append(out.logits[0].numpy())
                ids[-1].append(int(out.logits[0, -1].argmax()))
                out = model(torch.tensor([ids[-1][-1:]]), past_key_values=out.past_key_values, use_cache=True)
    return np.concatenate(logits), ids


def llama_cpp_with(**options):
    def run(path):
        from llama_cpp import Llama

        model = Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1, **options)
        logits, ids = [], []
        for prompt in PROMPTS:
            model.reset()
            ids.append(tokens(prompt))
            model.eval(ids[-1])
            for _ in range(GREEDY):
                ids[-1].append(int(np.argmax(model.scores[len(ids[-1]) - 1])))
                model.eval(ids[-1][-1:])
            logits.append(np.array(model.scores[: len(ids[-1])]))
        model.close()
        return np.concatenate(logits), ids

    return run


def runtimes():
    out = {}
    if importlib.util.find_spec("transformers"):
        out["transformers, CPU, dequantised on loading"] = with_transformers
    if importlib.util.find_spec("llama_cpp"):
        out["llama.cpp, CPU"] = llama_cpp_with()
        out["llama.cpp, CPU, flash attention"] = llama_cpp_with(flash_attn=True)
    return out


def difference(a, b):
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max())


def main():
    ok = True
    pairs = [Path(p) for p in sys.argv[1:]]
    for name, run in runtimes().items():
        for original, sealed in zip(pairs[0::2], pairs[1::2]):
            line = {"runtime": name, "original": str(original), "sealed": str(sealed)}
            try:
                (a, x), (again, _), (b, y) = run(original), run(original), run(sealed)
                ok &= x == y
                line |= {"identical": bool(np.array_equal(a, b)), "largest_difference": difference(a, b),
                         "largest": float(np.abs(a).max()), "same_tokens": x == y, "rerun": difference(a, again)}  # fmt: skip
            except Exception as e:  # whatever a loader may raise
                line["error"] = f"{type(e).__name__}: {str(e)[:160]}"
            print(json.dumps(line), flush=True)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
