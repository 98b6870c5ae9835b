"""State space models, recurrent ones, encoders, encoder-decoders, vision and speech."""

FREE_DIMS = {}

VARIANTS = {}
