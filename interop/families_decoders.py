"""Dense decoders beyond those of families.py."""

FREE_DIMS = {}

VARIANTS = {}
