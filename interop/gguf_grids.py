"""Write gguf/grids.bin, the code books of the IQ types, from the gguf package.

    python gguf_grids.py OUT

The file holds, one after the other, the packed grids of IQ2_XXS, IQ2_XS, IQ2_S
(2 bits an element), IQ3_XXS, IQ3_S (4 bits), IQ1_S (2 bits; IQ1_M shares it):
an element is an index into the values that gguf/grids.go names, the first one
in the low bits.
"""

import sys
from pathlib import Path

from gguf import quants

PARTS = {"IQ2_XXS": 512, "IQ2_XS": 1024, "IQ2_S": 2048, "IQ3_XXS": 512, "IQ3_S": 1024, "IQ1_S": 4096}

out = b""
for name, size in PARTS.items():
    part = bytes.fromhex(getattr(quants, name).grid_hex.decode())
    assert len(part) == size, (name, len(part))
    out += part
Path(sys.argv[1]).write_bytes(out)
