"""Write the computation graph of a transformers model, without its weights.

usage: python export.py MODEL OUT.pt2 [--tokens N]

MODEL is a folder with config.json or a name on the Hugging Face hub; only the
config is read. Needs torch 2.5 or later and transformers 4.50 or later.
"""
import argparse, base64, inspect, json, sys, warnings, zlib
import torch, transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
KIND = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"


def build(config):
    """The model with buffers as they are and parameters that take no memory."""
    names = [n for n in (config.architectures or []) if hasattr(transformers, n)]
    autos = ["AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel"]
    known = [getattr(transformers, n) for n in names[:1] or autos]
    register = torch.nn.Module.register_parameter

    def light(self, name, p):
        register(self, name, p if p is None or p.is_meta else torch.nn.Parameter(p.to("meta"), p.requires_grad))

    torch.nn.Module.register_parameter = light
    try:
        for cls in known:
            make = getattr(cls, "_from_config" if names else "from_config")
            try:
                model = make(config, attn_implementation="eager", **{KIND: torch.float32}).eval()
                break
            except ValueError as e:
                if cls is known[-1]:
                    raise e
    finally:
        torch.nn.Module.register_parameter = register
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("batched_mm")
    return model


def square(v):
    return (v["height"], v["width"]) if isinstance(v, dict) else tuple(v) if isinstance(v, (list, tuple)) else (v, v)


def inputs(model, config, n):
    """One example of everything that the forward pass wants, by the config."""
    wants = inspect.signature(model.forward).parameters
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    sees = getattr(config, "vision_config", None) or config
    get = lambda k, d=None: getattr(config, k, None) or d
    n = min([n] + [v for v in (getattr(text, k, None) for k in ("n_positions", "max_position_embeddings")) if v])
    tokens = lambda: torch.arange(n)[None] % max(1, text.vocab_size - 3) + min(3, text.vocab_size - 1)
    out, main = {}, model.main_input_name
    if "input_ids" in wants and (main == "input_ids" or hasattr(config, "text_config")):
        out["input_ids"] = tokens()
        if getattr(text, "type_vocab_size", 0) and "token_type_ids" in wants:
            out["token_type_ids"] = torch.arange(n)[None] % text.type_vocab_size
    both = hasattr(config, "vision_config") and not any(hasattr(config, k) for k in ("image_token_id", "image_token_index"))
    if "pixel_values" in wants and (main == "pixel_values" or both):
        size = square(getattr(sees, "image_size", None) or 224)
        out["pixel_values"] = torch.rand(1, getattr(sees, "num_channels", None) or 3, *size)
    if "input_features" in wants and main == "input_features":
        frames = 2 * get("max_source_positions", 500)
        out["input_features"] = torch.rand(1, get("num_mel_bins", get("feature_size", 80)), frames)
        if get("model_type") != "whisper":
            out["input_features"] = out["input_features"].transpose(1, 2)
    if main == "input_values" and "input_values" in wants:
        out["input_values"] = torch.rand(1, 4000)
    if get("is_encoder_decoder") and "decoder_input_ids" in wants:
        out["decoder_input_ids"] = tokens()
    if not out:
        raise ValueError(f"no example of {main} can be made from the config")
    if "use_cache" in wants:
        out["use_cache"] = False
    return out


def export(model, example):
    """The exported program; parameters, buffers and inputs stand there as shapes."""
    mode, memo = FakeTensorMode(allow_non_fake_inputs=True), {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None and id(p) not in memo:
                with mode:
                    memo[id(p)] = p, torch.nn.Parameter(torch.empty(p.shape, dtype=p.dtype), False)
            if p is not None:
                module._parameters[name] = memo[id(p)][1]
    forward = model.forward

    def outputs(**kw):
        drop = ("loss", "encoder_last_hidden_state", "past_key_values")
        return tuple(v for k, v in forward(**kw).items() if torch.is_tensor(v) and k not in drop)

    model.forward = outputs
    example = {k: mode.from_tensor(v) if torch.is_tensor(v) else v for k, v in example.items()}
    return torch.export.export(model, (), example, strict=False)


class Moves(TorchDispatchMode):
    """Records what becomes of the checkpoint's tensors when they are loaded."""

    def __init__(self):
        super().__init__()
        self.nodes, self.ids, self.keep = [], {}, []

    def name(self, v):
        if torch.is_tensor(v):
            self.keep.append(v)
            return "%" + str(self.ids.setdefault(id(v), len(self.ids)))
        return [self.name(x) for x in v] if isinstance(v, (list, tuple)) else v if isinstance(v, (int, float)) else None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res = func(*args, **(kwargs or {}))
        given = {a.name: self.name(v) for a, v in zip(func._schema.arguments, args)}
        given.update({k: self.name(v) for k, v in (kwargs or {}).items()})
        self.nodes.append({"op": str(func), "in": given, "out": self.name(res if isinstance(res, (list, tuple)) else [res])})
        return res


def conversion(model):
    """How tensors on disk become those in memory (transformers 5), as moves."""
    try:
        from transformers import core_model_loading as loading
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:
        return None
    meta = {k: torch.empty(v.shape, dtype=v.dtype, device="meta") for k, v in model.state_dict().items()}
    disk = loading.revert_weight_conversion(model, dict(meta))
    every = get_model_conversion_mapping(model)
    renames = [m for m in every if isinstance(m, loading.WeightRenaming)]
    converters = [m for m in every if isinstance(m, loading.WeightConverter)]
    groups = {}
    for key in sorted(disk, key=loading.dot_natural_key):
        name, pattern = loading.rename_source_key(key, renames, converters, model.base_model_prefix, meta)
        made = [c for c in converters if pattern in c.source_patterns][0] if pattern else loading.WeightRenaming(key, name)
        group = groups.setdefault(name, loading.deepcopy(made))
        group.add_tensor(name, key, pattern or key, disk[key])
    with Moves() as log:
        leaves = {k: [log.name(v), list(v.shape)] for k, v in disk.items()}
        made = {}
        for name, group in groups.items():
            made.update(group.convert(name, model=model, config=model.config))
        weights = {k: log.name(v[0] if isinstance(v, list) else v) for k, v in made.items()}
    return {"leaves": leaves, "nodes": log.nodes, "weights": weights}


def main():
    args = argparse.ArgumentParser(description="write the computation graph of a transformers model")
    args.add_argument("model", help="folder with config.json, or a name on the hub")
    args.add_argument("out", help="OUT.pt2")
    args.add_argument("--tokens", type=int, default=8, help="length of the token sequence")
    args = args.parse_args()
    config = transformers.AutoConfig.from_pretrained(args.model)
    try:
        model = build(config)
        extra = {"torch": torch.__version__, "transformers": transformers.__version__, "class": type(model).__name__,
                 "model_type": config.model_type, "prefix": model.base_model_prefix, "conversion": conversion(model)}
        values = dict(model.named_buffers())
        names = {}
        for k, p in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(p), []).append(k)
        extra["ties"] = [v for v in names.values() if len(v) > 1]
        program = export(model, inputs(model, config, args.tokens))
        values.update({k: v for k, v in program.constants.items() if torch.is_tensor(v)})
        data = lambda v: base64.b64encode(zlib.compress(v.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(), 9)).decode()
        extra["buffers"] = {k: {"dtype": str(v.dtype)[6:], "shape": list(v.shape), "zlib": data(v)} for k, v in values.items()}
        hollow = lambda v: torch.empty(v.shape, dtype=v.dtype, device="meta")
        program._state_dict = {k: torch.nn.Parameter(hollow(v), False) if isinstance(v, torch.nn.Parameter) else hollow(v)
                               for k, v in program.state_dict.items()}
        torch.export.save(program, args.out, extra_files={"neuroseal.json": json.dumps(extra)})
    except Exception as e:
        sys.exit(f"error: {config.model_type} cannot be exported: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}")


if __name__ == "__main__":
    main()
