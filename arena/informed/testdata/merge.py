"""Writes merge.json: small tensors merged by mergekit 0.1.5 itself (pip install
mergekit torch; python merge.py). DARE's random mask is replaced by the one that
merge.go draws, so that the results can be compared."""
import json

import torch
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.registry import get

SEED, MASK64 = 5, (1 << 64) - 1


def uniform(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return ((x ^ (x >> 31)) >> 40) / (1 << 24)


def start(name, k):
    h = 0xCBF29CE484222325
    for b in f"{name}#{k}".encode():
        h = ((h ^ b) * 0x100000001B3) & MASK64
    return (h + SEED * 0x9E3779B97F4A7C15) & MASK64


calls = 0


def bernoulli(p):
    global calls
    at = start("w", calls % 3)  # one call per model and merge
    calls += 1
    mask = [float(uniform(at + i) < float(q)) for i, q in enumerate(p.reshape(-1))]
    return torch.tensor(mask).reshape(p.shape)


torch.bernoulli = bernoulli
torch.manual_seed(1)
base = torch.randn(4, 6)
models = [base + 0.1 * torch.randn(4, 6) for _ in range(3)]
models[1].view(-1)[:4] = base.view(-1)[:4]  # elements that a fine-tune left alone

out = {"base": base.flatten().tolist(), "models": [m.flatten().tolist() for m in models], "shape": [4, 6], "seed": SEED, "cases": []}
for method, weights, densities, lam, normalize in [
    ("task_arithmetic", [1, 1, 1], [1, 1, 1], 1, None),
    ("task_arithmetic", [0.5, 0.3, -0.4], [1, 1, 1], 0.7, None),
    ("task_arithmetic", [0.5, 0.3, 0.4], [1, 1, 1], 1, True),
    ("ties", [1, 1, 1], [0.5, 0.3, 0.8], 1, None),
    ("ties", [0.6, 0.3, 0.2], [0.2, 0.5, 1], 1.3, None),
    ("ties", [0.6, 0.3, 0.2], [0.01, 0.5, 0.5], 1, False),
    ("dare_linear", [1, 0.5, 0.5], [0.5, 0.5, 0.5], 1, None),
    ("dare_ties", [1, 0.5, 0.5], [0.3, 0.6, 0.9], 0.9, None),
]:
    calls = 0
    m = get(method)
    group = TensorGroup.from_tensors([base] + models, ids=["base", 0, 1, 2], base_index=0, name="w")
    merged = m.merge_group(
        group,
        int8_mask=False,
        normalize=m.default_normalize if normalize is None else normalize,
        rescale=m.default_rescale,
        weight=dict(enumerate(weights)),
        density=dict(enumerate(densities)),
        **{"lambda": lam},
    )
    out["cases"].append({"method": method, "weights": weights, "densities": densities, "lambda": lam,
                         "normalize": normalize, "merged": merged.flatten().tolist()})
with open("merge.json", "w") as f:
    json.dump(out, f)
    f.write("\n")
