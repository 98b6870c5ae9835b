"""Writes vectors.json with Python's own random module. Standard library only.

    python3 vectors.py > vectors.json

Floats are written with float.hex(), so that no digit is lost.
"""

import hashlib
import json
import random

SEEDS = [0, 1, 2, 42, 99999999, 2**31, 2**32 - 1, 2**32, 2**40 + 5, 2**63, 2**64 - 1]
PASSWORDS = ["", "secret", "correct horse battery staple", "pässwörd", "neuroseal", "x" * 1000]
SCALES = [100.0, 3.7, 1e-3, 1e6]


def legacy_seed(password):
    return int(hashlib.sha256(password.encode()).hexdigest(), 16) % 10**8


def generator(seed):
    words = random.Random(seed)
    floats = random.Random(seed)
    bounds = random.Random(seed)
    late = random.Random(seed)
    for _ in range(2000):  # past the second twist of the state
        late.random()
    return {
        "seed": seed,
        "words": [words.getrandbits(32) for _ in range(10)],
        "random": [floats.random().hex() for _ in range(10)],
        "uniform": [[a.hex(), b.hex(), bounds.uniform(a, b).hex()] for a, b in
                    [(10.0, 100.0), (0.1, 0.3), (-5.0, 7.25), (100.0, 1.0), (1e-300, 1e300)]],
        "random_after_2000": late.random().hex(),
    }


def legacy(password, scale):
    seed = legacy_seed(password)
    rng = random.Random(seed)
    return {
        "password": password,
        "scale": scale.hex(),
        "seed": seed,
        "scales": [rng.uniform(scale * 0.1, scale).hex() for _ in range(40)],
    }


print(json.dumps({
    "made_with": "python random.Random",
    "generators": [generator(s) for s in SEEDS + [legacy_seed(p) for p in PASSWORDS]],
    "legacy": [legacy(p, s) for p in PASSWORDS for s in SCALES],
}, indent=1, ensure_ascii=True))
