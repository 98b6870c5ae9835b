"""Ask real runtimes whether a sealed GGUF answers as the original does.

    python gguf_runtimes.py ORIGINAL.gguf SEALED.gguf

transformers reads both files, dequantises them to fp32 and runs them; where
llama-cpp-python is installed, llama.cpp runs them too. Prints, per runtime, a
line of JSON: whether the logits are identical, the largest difference, and
whether the greedy tokens are the same. Exit status 1 when tokens differ.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

TOKENS = [3, 17, 5, 60, 2, 33, 9, 41, 7, 22, 11, 50]
GREEDY = 24


def with_transformers(path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS])).logits[0].numpy()
        ids = list(TOKENS)
        for _ in range(GREEDY):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return logits, ids


def with_llama_cpp(path):
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=128, logits_all=True, verbose=False, n_threads=1)
    model.eval(TOKENS)
    logits = np.array(model.scores[: len(TOKENS)])
    ids = list(TOKENS)
    for _ in range(GREEDY):
        model.reset()
        model.eval(ids)
        ids.append(int(np.argmax(model.scores[len(ids) - 1])))
    return logits, ids


def main():
    files = [Path(p) for p in sys.argv[1:3]]
    runtimes = {"transformers": with_transformers}
    if importlib.util.find_spec("llama_cpp"):
        runtimes["llama.cpp"] = with_llama_cpp
    ok = True
    for name, run in runtimes.items():
        (a, x), (b, y) = run(files[0]), run(files[1])
        ok &= x == y
        difference = float(np.abs(a - b).max())
        print(json.dumps({"runtime": name, "identical": bool((a == b).all()), "largest_difference": difference,
                          "largest": float(np.abs(a).max()), "same_tokens": x == y}))
    sys.exit(0 if ok else 1)


main()
