"""Quantise a GGUF by llama.cpp's own quantiser, through llama-cpp-python.

    python gguf_quantise.py F32.gguf OUT [--importance FILE] TYPE [TYPE ...]

Writes OUT/TYPE.gguf; TYPE as llama-quantize has it (Q4_K_M, IQ4_XS, …), or F32 for a copy. MXFP4, which llama.cpp only
gives to experts by itself, is given to all matrices. FILE is the importance matrix that gguf_train.py writes, without which
llama.cpp refuses the types below three bits. Needs nothing but llama-cpp-python.
"""

import argparse
import ctypes
import json
import shutil
import sys
from pathlib import Path

import llama_cpp

NAMES = {"MXFP4": "MXFP4_MOE"}
PURE = {"MXFP4"}


def importance(path):
    """What llama_model_quantize takes: ended by a row without a name."""
    rows = json.loads(path.read_text())
    out = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()
    for entry, (name, values) in zip(out, rows.items()):
        entry.name, entry.size = name.encode(), len(values)
        entry.data = (ctypes.c_float * len(values))(*values)
    return out


def quantise(source, target, kind, matrix):
    if kind == "F32":
        shutil.copyfile(source, target)
        return
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + NAMES.get(kind, kind))
    params.nthread = 1
    params.pure = kind in PURE
    if matrix is not None:
        params.imatrix = matrix
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if code:
        sys.exit(f"{kind}: llama.cpp's quantiser fails with {code}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("types", nargs="+")
    parser.add_argument("--importance", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    matrix = importance(args.importance) if args.importance else None
    for kind in args.types:
        quantise(args.source, args.out / f"{kind}.gguf", kind, matrix)


main()
