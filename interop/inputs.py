"""What models of every kind read beside tokens, and what they answer."""

import inspect

import torch

# The first of these that a model returns is its answer; a graph's first output.
ANSWERS = ["logits", "logits_per_image", "prediction_logits", "text_embeds", "image_embeds", "last_hidden_state"]
# What else a graph returns, in its order.
MORE = ["seq_relationship_logits", "text_embeds", "image_embeds", "last_hidden_state", "pooler_output"]


def arguments(model):
    """The names of a model's inputs, of those that this suite can fill."""
    names = set(inspect.signature(model.forward).parameters)
    config = model.config
    if config.model_type == "dinov2" and config.use_mask_token:
        names.add("bool_masked_pos")  # a classifier hands it on
    elif config.model_type != "dinov2":
        names.discard("bool_masked_pos")
    if not hasattr(config, "type_vocab_size"):
        names.discard("token_type_ids")
    if not getattr(config, "is_encoder_decoder", False):
        names.discard("decoder_input_ids")
    known = ["input_ids", "token_type_ids", "pixel_values", "bool_masked_pos", "input_features", "decoder_input_ids"]
    return [n for n in known if n in names]


def fill(model, tokens):
    """Inputs of a model by name, given its text tokens [batch, length]."""
    tokens = torch.as_tensor(tokens)
    batch, length = tokens.shape
    config = model.config
    random = torch.Generator().manual_seed(7)
    dtype = next(model.parameters()).dtype

    def reals(*shape):
        return torch.randn(batch, *shape, generator=random).to(dtype)

    out = {}
    for name in arguments(model):
        if name == "input_ids":
            out[name] = tokens
        elif name == "decoder_input_ids":
            out[name] = tokens.flip(1)
        elif name == "token_type_ids":
            out[name] = (torch.arange(length) % config.type_vocab_size).expand(batch, length)
        elif name == "input_features":
            out[name] = reals(config.num_mel_bins, 2 * config.max_source_positions)
        else:
            vision = getattr(config, "vision_config", config)
            if name == "pixel_values":
                out[name] = reals(vision.num_channels, vision.image_size, vision.image_size)
            else:
                n = (vision.image_size // vision.patch_size) ** 2
                out[name] = (torch.arange(n) % 3 == 1).expand(batch, n)
    return out


def run(model, inputs):
    """All tensors that a model returns, by name, without a cache."""
    cache = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    with torch.no_grad():
        out = model(**inputs, **cache)
    return {k: v for k, v in out.items() if isinstance(v, torch.Tensor)}


def answer(outputs):
    """Name of the answer among a model's outputs."""
    return next(n for n in ANSWERS if n in outputs)


def more(outputs):
    """Names of the other outputs that a graph returns, in its order."""
    return [n for n in MORE if n in outputs and n != answer(outputs)]
