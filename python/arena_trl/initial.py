"""Initial adapters that any language can compute: package arena/train's.

Values come from SplitMix64 of a counter that starts at the FNV-1a hash of the
parameter's name plus the seed. The distributions are PEFT's own: A uniform within
1/sqrt(inputs), as its Kaiming initialisation gives, B zero. A soft prompt starts as rows
of the embedding, as PEFT's do from text.
"""

import math

import numpy as np
import torch

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def start(seed, name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return (h + seed * GOLDEN) & MASK


def unit(at, n):
    """n values of [0, 1) with 24 random bits."""
    with np.errstate(over="ignore"):
        x = np.uint64(at) + np.arange(n, dtype=np.uint64) + np.uint64(GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / (1 << 24)


def uniform(shape, seed, name, bound):
    return ((2 * unit(start(seed, name), math.prod(shape)) - 1) * bound).astype(np.float32).reshape(shape)


def normal(shape, seed, name):
    u = unit(start(seed, name), 2 * math.prod(shape))
    return (np.sqrt(-2 * np.log(1 - u[0::2])) * np.cos(2 * np.pi * u[1::2])).astype(np.float32).reshape(shape)


def rows(count, vocabulary, seed, name):
    return (unit(start(seed, name), count) * vocabulary).astype(np.int64)


@torch.no_grad()
def lora(model, seed):
    """Sets the adapters of a PeftModel with LoRA or DoRA."""
    for name, p in model.named_parameters():
        name = name.removeprefix("base_model.model.")
        for part in ("lora_A", "lora_embedding_B"):
            at = name.find("." + part + ".")
            if at < 0:
                continue
            key = f"{name[:at]}.{part}"
            x = uniform(p.shape, seed, key, 1 / math.sqrt(p.shape[1])) if part == "lora_A" else normal(p.shape, seed, key)
            p.copy_(torch.from_numpy(x))


@torch.no_grad()
def prompt(model, seed):
    """Sets the virtual tokens of a PeftModel with prompt tuning."""
    table = model.get_input_embeddings().weight
    p = model.prompt_encoder[model.active_adapter].embedding.weight
    p.copy_(table[torch.from_numpy(rows(p.shape[0], table.shape[0], seed, "prompt_embeddings")).to(table.device)])
