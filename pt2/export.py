"""Write the computation graph of a transformers model, without its weights.

MODEL is a folder with config.json or a name on the hub; only the config is read.
Needs torch 2.5 or later and transformers 4.50 or later; mixtures of experts, transformers 5."""
import argparse, base64, copy, inspect, json, pathlib, sys, unittest.mock, warnings, zlib
import torch, transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

warnings.filterwarnings("ignore"), transformers.logging.set_verbosity_error()
KIND = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"

def build(config):
    """The model with buffers as they are and parameters that take no memory."""
    cls = getattr(transformers, (config.architectures or ["AutoModel"])[0], transformers.AutoModel)
    config.use_associative_scan = False  # Mamba's, a vmap
    make = cls._from_config if hasattr(cls, "_from_config") else cls.from_config
    register = torch.nn.Module.register_parameter
    def light(self, name, p):
        register(self, name, p if p is None or p.is_meta else torch.nn.Parameter(p.to("meta"), p.requires_grad))
    with unittest.mock.patch.object(torch.nn.Module, "register_parameter", light):
        model = make(config, attn_implementation="eager", **{KIND: torch.float32}).eval()
    getattr(model, "set_experts_implementation", lambda _: None)("batched_mm")
    return model

def inputs(model, config, n):
    """One example of everything that the forward pass wants, by the config."""
    wants, main, out = inspect.signature(model.forward).parameters, model.main_input_name, {}
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    sees = getattr(config, "vision_config", None) or config
    get = lambda c, k, d: getattr(c, k, None) or d
    n = min(n, get(text, "n_positions", n), get(text, "max_position_embeddings", n))
    tokens = torch.arange(n)[None] % max(1, get(text, "vocab_size", 8) - 3) + 3
    images = hasattr(config, "vision_config") and not any(hasattr(config, "image_token_" + k) for k in ("id", "index"))
    if "input_ids" in wants and (main == "input_ids" or hasattr(config, "text_config")):
        out["input_ids"] = tokens
    if "input_ids" in out and get(text, "type_vocab_size", 0) and "token_type_ids" in wants:
        out["token_type_ids"] = torch.arange(n)[None] % text.type_vocab_size
    if "pixel_values" in wants and (main == "pixel_values" or images):
        size = get(sees, "image_size", 224)
        size = list(size.values())[:2] if isinstance(size, dict) else list(size) if isinstance(size, (list, tuple)) else [size] * 2
        video = [sees.num_frames] if hasattr(sees, "num_frames") else []
        out["pixel_values"] = torch.rand(1, *video, get(sees, "num_channels", 3), *size)
    mel = [get(config, "num_mel_bins", get(config, "feature_size", get(config, "input_feat_per_channel", 80))), 2 * get(config, "max_source_positions", 250)]
    if main == "input_features":
        out[main] = torch.rand(1, *(mel if config.model_type == "whisper" else mel[::-1]))
    if main == "input_values":
        out[main] = torch.rand(1, config.max_length, mel[0]) if hasattr(config, "num_mel_bins") else torch.rand(1, 4000)
    if get(config, "is_encoder_decoder", False) and "decoder_input_ids" in wants:
        out["decoder_input_ids"] = tokens.clone()
    if not out:
        raise ValueError(f"no example of {main} can be made from the config")
    return out | ({"use_cache": False} if "use_cache" in wants else {})

def export(model, example):
    """The exported program; parameters and inputs are shapes without values."""
    mode, memo, forward = FakeTensorMode(allow_non_fake_inputs=True), {}, model.forward
    for module in model.modules():
        for name, p in ((k, v) for k, v in module._parameters.items() if v is not None):
            with mode:
                fresh = torch.nn.Parameter(torch.empty(p.shape, dtype=p.dtype), False)
            module._parameters[name] = memo.setdefault(id(p), (p, fresh))[1]
    if torch.__version__.startswith("2.5."):  # which cannot trace a slice of a list of modules
        item = torch.nn.ModuleList.__getitem__
        torch.nn.ModuleList.__getitem__ = lambda self, i: [self[k] for k in range(len(self))[i]] if isinstance(i, slice) else item(self, i)
    masks = sys.modules.get("transformers.masking_utils")
    if hasattr(masks, "_vmap_for_bhqkv"):  # transformers 4; many torches cannot export a vmap
        masks._vmap_for_bhqkv = lambda f, bh_indices=True: lambda b, h, q, k: f(b[:, None, None, None] if bh_indices else b, h[:, None, None] if bh_indices else h, q[:, None], k)
    drop = ("loss", "encoder_last_hidden_state", "past_key_values")
    model.forward = lambda **kw: tuple(v for k, v in forward(**kw).items() if torch.is_tensor(v) and k not in drop)
    example = {k: mode.from_tensor(v) if torch.is_tensor(v) else v for k, v in example.items()}
    return torch.export.export(model, (), example, strict=False)

class Moves(TorchDispatchMode):
    """Records what becomes of the checkpoint's tensors when they are loaded."""
    def name(self, v):
        if torch.is_tensor(v):
            self.keep.append(v)
            return "%" + str(self.ids.setdefault(id(v), len(self.ids)))
        return [self.name(x) for x in v] if isinstance(v, (list, tuple)) else v if isinstance(v, (int, float)) else None
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res = func(*args, **(kwargs or {}))
        given = {a.name: v for a, v in zip(func._schema.arguments, args)} | (kwargs or {})
        self.nodes.append({"op": str(func), "in": {k: self.name(v) for k, v in given.items()},
                           "out": self.name(res if isinstance(res, (list, tuple)) else [res])})
        return res

def conversion(model):
    """How tensors on disk become those in memory (transformers 5), as moves."""
    if KIND == "torch_dtype":
        return None
    from transformers import conversion_mapping, core_model_loading as loading
    meta = {k: torch.empty(v.shape, dtype=v.dtype, device="meta") for k, v in model.state_dict().items()}
    disk, every, groups, made = loading.revert_weight_conversion(model, dict(meta)), conversion_mapping.get_model_conversion_mapping(model), {}, {}
    renames, converters = ([m for m in every if isinstance(m, c)] for c in (loading.WeightRenaming, loading.WeightConverter))
    for key in sorted(disk, key=loading.dot_natural_key):
        name, pattern = loading.rename_source_key(key, renames, converters, model.base_model_prefix, meta)
        rule = next(c for c in converters if pattern in c.source_patterns) if pattern else loading.WeightRenaming(key, name)
        groups.setdefault(name, copy.deepcopy(rule)).add_tensor(name, key, pattern or key, disk[key])
    log = Moves()
    log.nodes, log.ids, log.keep = [], {}, []
    with log:
        leaves = {k: [log.name(v), list(v.shape)] for k, v in disk.items()}
        for name, group in groups.items():
            new = group.convert(name, model=model, config=model.config)
            made.update(new[0] if isinstance(new, tuple) else new)  # transformers 5.0 adds its errors
        weights = {k: log.name(v[0] if isinstance(v, list) else v) for k, v in made.items()}
    return {"leaves": leaves, "nodes": log.nodes, "weights": weights}

def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("model"), args.add_argument("out"), args.add_argument("--tokens", type=int, default=8)
    args = args.parse_args()
    config = transformers.AutoConfig.from_pretrained(args.model)
    try:
        model, names = build(config), {}
        for k, p in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(p), []).append(k)
        extra = {"class": type(model).__name__, "model_type": config.model_type, "prefix": model.base_model_prefix,
                 "conversion": conversion(model), "ties": [v for v in names.values() if len(v) > 1]}
        values = dict(model.named_buffers())
        program = export(model, inputs(model, config, args.tokens))
        values.update({k: v for k, v in program.constants.items() if torch.is_tensor(v)})
        data = lambda v: zlib.compress(v.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes(), 9)
        extra["buffers"] = {k: {"dtype": str(v.dtype)[6:], "shape": list(v.shape), "zlib": base64.b64encode(data(v)).decode()} for k, v in values.items()}
        hollow = lambda v: (torch.nn.Parameter if isinstance(v, torch.nn.Parameter) else torch.clone)(torch.empty_like(v, device="meta"))
        program._state_dict = {k: hollow(v) for k, v in program.state_dict.items()}
        [node.meta.pop("stack_trace", None) for node in program.graph.nodes]
        torch.export.save(program, args.out, extra_files={"neuroseal.json": json.dumps(extra)})
    except Exception as e:
        pathlib.Path(args.out).unlink(missing_ok=True)
        hint = "; mixtures of experts need transformers 5" if KIND == "torch_dtype" and "data-dependent" in str(e) else ""
        sys.exit(f"error: {config.model_type} cannot be exported: {type(e).__name__}: {(str(e).strip().splitlines() or [''])[0]}{hint}")

if __name__ == "__main__":
    main()
