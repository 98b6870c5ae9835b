"""Show in which operation of llama.cpp a sealed GGUF's numbers part from the original's.

    python gguf_runtimes_operations.py ORIGINAL.gguf SEALED.gguf [--flash]

Both files read one prompt and eight tokens, and every operation's result is compared: a power of two times the original's
number, or another number. Prints one line of JSON: the first operations that make other numbers of inputs that are the
same, and, over all multiplications by F16 weights, how many inputs lie below fp16's normal range, in how many rows, and how
many rows come out otherwise that went in the same. Needs llama-cpp-python.
"""

import argparse
import ctypes
import json
from pathlib import Path

import llama_cpp
import numpy as np
from gguf_runtimes import PROMPTS, tokens
from llama_cpp import _ggml

STEPS = 8
NORMAL = 2.0**-14
MOVES = {"VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE", "CONT"}
F32, F16 = 0, 1


class Tensor(ctypes.Structure):
    """The beginning of struct ggml_tensor."""

    _fields_ = [
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4), ("op", ctypes.c_int),
        ("params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32), ("src", ctypes.c_void_p * 10), ("view", ctypes.c_void_p),
        ("offset", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
    ]  # fmt: skip


def at(pointer):
    return ctypes.cast(pointer, ctypes.POINTER(Tensor)).contents


def numbers(t):
    """A copy of a tensor's numbers; None of one that is not F32 or F16."""
    if t.type not in (F32, F16) or not t.data:
        return None
    kind = np.dtype(np.float32 if t.type == F32 else np.float16)
    size = sum(s * (n - 1) for s, n in zip(t.nb, t.ne)) + kind.itemsize
    raw = ctypes.string_at(t.data, size)
    return np.ndarray(list(t.ne)[::-1], kind, raw, 0, list(t.nb)[::-1]).astype(np.float32)


def record(path, **options):
    """Every operation of a run: its name, operator, result, and its operands' types and numbers."""
    out = []
    name = _ggml.libggml_base.ggml_op_name if hasattr(_ggml, "libggml_base") else _ggml.libggml.ggml_op_name
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.c_int]

    def visit(pointer, ask, _):
        if not ask:
            t = at(pointer)
            operands = [at(s) for s in t.src if s and at(s).data != t.data]  # not what the result is written over
            out.append((t.name.decode(), name(t.op).decode(), numbers(t), [(s.type, numbers(s)) for s in operands]))
        return True

    callback = llama_cpp.ggml_backend_sched_eval_callback(visit)
    defaults = llama_cpp.llama_cpp.llama_context_default_params

    def watched():
        params = defaults()
        params.cb_eval = callback
        return params

    llama_cpp.llama_cpp.llama_context_default_params = watched
    try:
        model = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1, **options)
    finally:
        llama_cpp.llama_cpp.llama_context_default_params = defaults
    ids = tokens(PROMPTS[0])
    model.eval(ids)
    for _ in range(STEPS):
        ids.append(int(np.argmax(model.scores[len(ids) - 1])))
        model.eval(ids[-1:])
    model.close()
    return out


def same(a, b):
    """Where b is a power of two times a."""
    with np.errstate(all="ignore"):
        ratio = np.where(a == 0, 1, b / a)
    return (np.frexp(np.abs(ratio))[0] == 0.5) & ((a == 0) == (b == 0))


def alike(xs, ys):
    return all(x is None or x.shape == y.shape and same(x, y).all() for (_, x), (_, y) in zip(xs, ys))


def first(original, sealed, count=4):
    """The first operations that make other numbers of inputs that are the same."""
    out, seen = [], set()
    for (name, op, x, xs), (_, _, y, ys) in zip(original, sealed):
        if x is None or x.shape != y.shape or op in seen | MOVES or not alike(xs, ys):
            continue
        other = ~same(x, y)
        if other.any():
            seen.add(op)
            magnitudes = {k: [float(np.abs(v[other]).min()), float(np.abs(v[other]).max())] for k, v in (("original", x), ("sealed", y))}
            out.append({"name": name, "operation": op, "other": int(other.sum()), "of": x.size, **magnitudes})
    return out[:count]


def products(original, sealed):
    """What F16 weights are multiplied by."""
    out = dict.fromkeys(("inputs", "subnormal", "rows", "rows_with_subnormals", "rows_other", "rows_other_with_subnormals"), 0)
    for (_, op, x, xs), (_, _, y, ys) in zip(original, sealed):
        if op != "MUL_MAT" or x is None or xs[0][0] != F16 or xs[1][1].shape[:2] != (1, 1):
            continue  # the last: products with cached keys and values have heads
        a, b = (v[1][1].reshape(-1, v[1][1].shape[-1]) for v in (xs, ys))
        small = [(v != 0) & (np.abs(v) < NORMAL) for v in (a, b)]
        entered = same(a, b).all(1)
        other = entered & ~same(x.reshape(len(a), -1), y.reshape(len(a), -1)).all(1)
        touched = (small[0] | small[1]).any(1)
        for key, rows in (("rows", entered), ("rows_with_subnormals", entered & touched), ("rows_other", other), ("rows_other_with_subnormals", other & touched)):
            out[key] += int(rows.sum())
        out["inputs"] += a.size
        out["subnormal"] += int(small[0].sum())
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("sealed", type=Path)
    parser.add_argument("--flash", action="store_true", help="with flash attention")
    args = parser.parse_args()
    original, sealed = (record(p, flash_attn=args.flash) for p in (args.original, args.sealed))
    print(json.dumps({"first": first(original, sealed), "products": products(original, sealed)}))


if __name__ == "__main__":
    main()
