"""Quantise a GGUF by llama.cpp's own quantiser, through llama-cpp-python.

    python gguf_quantise.py F32.gguf OUT TYPE [TYPE ...]

Writes OUT/TYPE.gguf; TYPE as llama-quantize has it (Q4_K_M, IQ4_XS, …), or F32 for a copy. MXFP4 and NVFP4, which
llama.cpp only gives to experts by itself, are given to all matrices. Needs nothing but llama-cpp-python.
"""

import ctypes
import shutil
import sys
from pathlib import Path

import llama_cpp

NAMES = {"MXFP4": "MXFP4_MOE"}
PURE = {"MXFP4", "NVFP4"}


def quantise(source, target, kind):
    if kind == "F32":
        shutil.copyfile(source, target)
        return
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + NAMES.get(kind, kind))
    params.nthread = 1
    params.pure = kind in PURE
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if code:
        sys.exit(f"{kind}: llama.cpp's quantiser fails with {code}")


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for kind in sys.argv[3:]:
        quantise(source, out / f"{kind}.gguf", kind)


main()
