"""What one tiny model of the interop suite is made of."""

import copy
from dataclasses import dataclass, field

import torch
from offline import transformers

VOCAB, HIDDEN, LAYERS = 29, 16, 2


@dataclass(frozen=True)
class Variant:
    """One tiny model: config class, model class and constructor arguments."""

    config: str
    model: str
    args: dict = field(default_factory=dict)
    shards: str | None = None  # max_shard_size of an additional sharded copy
    fp16: bool = False  # also saved in float16

    def build(self):
        """The model with transformers' own initial weights, in fp32, eager."""
        # Config classes fill in the dictionaries they are given: hand out copies.
        config = getattr(transformers, self.config)(**copy.deepcopy(self.args))
        config._attn_implementation = "eager"
        torch.manual_seed(0)
        return getattr(transformers, self.model)(config).eval()


COMMON = dict(
    vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=24, max_position_embeddings=64, rms_norm_eps=1e-5,
    tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
