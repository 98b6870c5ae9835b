"""Run pairs of ONNX models in onnxruntime and demand outputs that are equal bit for bit.

    python onnx_compare.py ORIGINAL.onnx SEALED.onnx [ORIGINAL SEALED ...]

Each pair runs three times on inputs drawn from the types and shapes of its
inputs, with onnxruntime's graph optimisations on and off. Prints one line of
JSON per pair; exits 1 if any output differs.
"""

import json
import sys
from pathlib import Path

# The folder of this file holds an onnx.py, which is not the package.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

LEVELS = {"off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "on": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}


def session(path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(inputs, seed, limit=5):
    """Random inputs; free axes are 1, then 3."""
    rng = np.random.default_rng(seed)
    out = {}
    for i in inputs:
        shape = [d if isinstance(d, int) else 1 if k == 0 else 3 for k, d in enumerate(i.shape)]
        if "int" in i.type:
            high = 2 if "mask" in i.name or "type" in i.name else limit
            out[i.name] = rng.integers(1 if "mask" in i.name else 0, high, shape, dtype=np.int64)
        else:
            out[i.name] = rng.standard_normal(shape).astype(np.float32)
    return out


def compare(a, b):
    result = {"original": str(a), "sealed": str(b), "equal": True, "largest": 0.0}
    for level in LEVELS:
        first, second = session(a, level), session(b, level)
        for seed in range(3):
            x = feed(first.get_inputs(), seed)
            for y, z in zip(first.run(None, x), second.run(None, x)):
                result["finite"] = bool(np.isfinite(np.asarray(y)).all()) and result.get("finite", True)
                if np.asarray(y).tobytes() != np.asarray(z).tobytes():
                    result["equal"] = False
                    result["largest"] = max(result["largest"], float(np.abs(np.asarray(y) - np.asarray(z)).max()))
                    result.setdefault("levels", []).append(level)
    return result


def main():
    paths = sys.argv[1:]
    results = [compare(a, b) for a, b in zip(paths[::2], paths[1::2])]
    for r in results:
        print(json.dumps(r))
    sys.exit(not all(r["equal"] for r in results))


if __name__ == "__main__":
    main()
