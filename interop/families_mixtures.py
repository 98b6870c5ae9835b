"""Mixtures of experts and hybrids of recent years."""

FREE_DIMS = {}

VARIANTS = {}
