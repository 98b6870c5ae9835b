"""Write the tiny checkpoints that the interop tests seal.

    python make.py OUT [NAME ...]

makes OUT/NAME/fp32 and OUT/NAME/bf16 (and, where the variant asks for it,
OUT/NAME/fp16 and OUT/NAME/sharded), each a folder as save_pretrained writes it
plus reference.json. The parameters depend only on the variant, so two runs
write the same bytes.
"""

import argparse
from pathlib import Path

from checkpoints import DTYPES, save
from families import randomise, variants


def make(variant, folder):
    """Write every copy of one variant below folder."""
    attn = getattr(variant, "attn", "eager")
    copies = ["fp32", "bf16"] + (["fp16"] if variant.fp16 else [])
    for name in copies:
        # Each copy starts from fp32, so that rounding never happens twice.
        save(randomise(variant.build()), folder / name, DTYPES[name], attn)
    if variant.shards:
        save(randomise(variant.build()), folder / "sharded", DTYPES["bf16"], attn, max_shard_size=variant.shards)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="variants to make (default: all)")
    args = parser.parse_args()
    for name, variant in variants(args.names).items():
        make(variant, args.out / name)
        print(args.out / name)


if __name__ == "__main__":
    main()
