"""Write the small quantised checkpoints of the Go tests.

    python quant_fixtures.py OUT [NAME ...]

OUT/NAME holds a one-layer model as the quantiser's own writer saves it (bitsandbytes through transformers,
compressed-tensors; quant_writers.py has those of GPTQModel, MLX-LM and ModelOpt), else as the format's documentation and
its loader in transformers lay it out: fine-grained FP8 and MXFP4 need a GPU to write, and no tool writes NVFP4 with room
above its largest scale. The latter are marked "by layout" below. OUT/NAME/dequantised.json holds the SHA-256 of every
weight, dequantised to fp32 by PyTorch's own arithmetic, which the Go dequantisers must reproduce bit for bit.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

LUT = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def llama(hidden=128, inter=256):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=hidden, intermediate_size=inter, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=hidden // 4, tie_word_embeddings=False, max_position_embeddings=64,
    )  # fmt: skip
    return randomise(LlamaForCausalLM(config))


def gpt_oss():
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, num_local_experts=3, num_experts_per_tok=2, sliding_window=32,
        layer_types=["full_attention"], max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    return randomise(GptOssForCausalLM(config))


def randomise(model):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.05 + (1 if "norm" in name else 0))
    return model.eval().to(torch.bfloat16)


def linears(state):
    return [k.removesuffix(".weight") for k, v in state.items() if k.endswith("_proj.weight") and v.dim() == 2]


def save(folder, config, state, extra):
    """Write a checkpoint by layout."""
    folder.mkdir(parents=True)
    config = dict(config, **extra)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def reference(folder, weights):
    sums = {k: hashlib.sha256(v.float().contiguous().numpy().tobytes()).hexdigest() for k, v in weights.items()}
    (folder / "dequantised.json").write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")


def bitsandbytes(folder, four, kind="nf4", double=False):
    from bitsandbytes import functional

    if four:
        conf = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
                                  bnb_4bit_compute_dtype=torch.bfloat16)  # fmt: skip
    else:
        conf = BitsAndBytesConfig(load_in_8bit=True)
    with tempfile.TemporaryDirectory() as plain:
        llama().save_pretrained(plain)
        model = LlamaForCausalLM.from_pretrained(plain, quantization_config=conf, device_map="cpu", dtype=torch.bfloat16)
        model.save_pretrained(folder)
    out = {}
    for name, module in model.named_modules():
        w = getattr(module, "weight", None)
        if getattr(w, "quant_state", None) is not None:
            code, s = w.quant_state.code, w.quant_state
            absmax = s.absmax
            if s.nested:
                absmax = functional.dequantize_blockwise(absmax, s.state2) + s.offset
            packed = w.data.flatten().long()
            codes = torch.stack([packed >> 4, packed & 15], 1).flatten()
            out[name + ".weight"] = (code.float()[codes].view(-1, s.blocksize) * absmax.float()[:, None]).view(s.shape)
        elif w is not None and w.dtype == torch.int8:
            scb = getattr(w, "SCB", None)
            scb = scb if scb is not None else module.state.SCB
            out[name + ".weight"] = w.data.float() * (scb.float()[:, None] / 127)
    assert out, folder
    reference(folder, out)


def by_layout(folder, build, extra, convert, dtype=torch.bfloat16):
    """Write a model whose linear maps convert(name, weight) turns into tensors and dequantised numbers."""
    model = build()
    state, out = dict(model.state_dict()), {}
    for name in linears(state):
        stored, numbers = convert(name, state.pop(name + ".weight").float())
        state.update({name + k: v for k, v in stored.items()})
        out[name + ".weight"] = numbers
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    save(folder, config, state, extra)
    reference(folder, out)


def fp8(folder, block=(64, 64)):
    """By layout: transformers' FineGrainedFP8 (DeepSeek-V3)."""

    def convert(_, w):
        r, c = ((n + b - 1) // b for n, b in zip(w.shape, block))
        padded = torch.zeros(r * block[0], c * block[1])
        padded[: w.shape[0], : w.shape[1]] = w
        amax = padded.view(r, block[0], c, block[1]).abs().amax((1, 3))
        inv = (amax / 448).float()
        full = inv.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: w.shape[0], : w.shape[1]]
        q = (w / full).to(torch.float8_e4m3fn)
        return {".weight": q, ".weight_scale_inv": inv}, q.float() * full

    by_layout(folder, llama, {"quantization_config": {
        "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": list(block),
    }}, convert)  # fmt: skip


def fp4(x):
    """The codes of the nearest numbers of LUT."""
    return (x[..., None] - LUT).abs().argmin(-1)


def mxfp4(folder):
    """By layout: gpt-oss's experts; [experts, in, out] in the network, blocks along in on disk."""
    model = gpt_oss()
    state, out = dict(model.state_dict()), {}
    for name in [k for k in state if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        w = state.pop(name).float().transpose(1, 2)  # [experts, out, in]
        x = w.reshape(*w.shape[:2], -1, 32)
        e = torch.floor(torch.log2(x.abs().amax(-1))) - 2
        q = fp4(x * torch.exp2(-e)[..., None])
        state[name + "_blocks"] = (q[..., 0::2] | q[..., 1::2] << 4).to(torch.uint8)
        state[name + "_scales"] = (e + 127).to(torch.uint8)
        out[name] = (LUT[q] * torch.exp2(e)[..., None]).reshape(w.shape).transpose(1, 2)
    config = model.config.to_dict() | {"architectures": ["GptOssForCausalLM"]}
    save(folder, config, state, {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}})
    reference(folder, out)


def nvfp4(folder, top):
    """By layout: modelopt's export, weights only. top: the largest block scale; the tool's own is 448, which leaves no
    room upwards."""

    def convert(_, w):
        x = w.view(w.shape[0], -1, 16)
        amax = x.abs().amax(-1)
        two = (w.abs().max() / (6 * top)).float()
        scale = (amax / 6 / two).to(torch.float8_e4m3fn)
        q = fp4(x / (scale.float() * two)[..., None])
        packed = (q[..., 0::2] | q[..., 1::2] << 4).reshape(w.shape[0], -1).to(torch.uint8)
        numbers = LUT[q] * (scale.float() * two)[..., None]
        return {".weight": packed, ".weight_scale": scale, ".weight_scale_2": two}, numbers.reshape(w.shape)

    by_layout(folder, llama, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, convert)


def compressed(folder, weights, activations=None, layout="pack-quantized"):
    """Written by compressed-tensors itself, with scales from minimum and maximum."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    model = llama()
    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=QuantizationArgs(**activations) if activations else None)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"], format=layout, quantization_status="frozen")
    apply_quantization_config(model, config)
    out = {}
    for name, module in model.named_modules():
        if not hasattr(module, "weight_scale"):
            continue
        w = module.weight.data.float()
        top = None
        if args.strategy in ("group", "tensor_group"):
            x = w.view(w.shape[0], -1, args.group_size)
            lo, hi = x.amin(-1), x.amax(-1)
        elif args.strategy == "channel":
            lo, hi = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
        elif args.strategy == "block":
            r, c = args.block_structure
            x = w.view(w.shape[0] // r, r, w.shape[1] // c, c)
            lo, hi = x.amin((1, 3)), x.amax((1, 3))
        else:
            lo, hi = w.min().view(1), w.max().view(1)
        if args.strategy == "tensor_group":
            top = generate_gparam(w.min(), w.max())
            module.weight_global_scale.data.copy_(top)
        scale, zero = calculate_qparams(lo, hi, args, top)
        module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
        if getattr(module, "weight_zero_point", None) is not None:
            module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
        if getattr(module, "input_scale", None) is not None:
            module.input_scale.data.fill_(0.0371 if args.type == "int" else 0.0093)  # of ordinary activations
    compressor = ModelCompressor.from_pretrained_model(model, layout)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    state = load_file(folder / "model.safetensors")
    for name in linears({k.replace("weight_packed", "weight"): v for k, v in state.items()}):
        out[name + ".weight"] = decompress(state, name, args)
    reference(folder, out)


def decompress(state, name, args):
    """Codes times scales in fp32."""
    scale = state[name + ".weight_scale"].float()
    if name + ".weight_global_scale" in state:
        from compressed_tensors.compressors.nvfp4 import unpack_fp4_from_uint8

        packed = state[name + ".weight_packed"]
        q = unpack_fp4_from_uint8(packed, packed.shape[0], 2 * packed.shape[1], torch.float32)
        return q * (scale / state[name + ".weight_global_scale"]).repeat_interleave(args.group_size, 1)
    zero = state.get(name + ".weight_zero_point")
    if name + ".weight_packed" in state:
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

        shape = torch.Size(state[name + ".weight_shape"].tolist())
        q = unpack_from_int32(state[name + ".weight_packed"], args.num_bits, shape).float()
        if zero is not None:
            zero = unpack_from_int32(zero, args.num_bits, torch.Size([shape[0], scale.shape[1]]), packed_dim=0)
    else:
        q = state[name + ".weight"].float()
    if scale.dim() < 2:
        scale = scale.view(-1, 1)
    rows, columns = (n // k for n, k in zip(q.shape, scale.shape))
    full = lambda t: t.float().repeat_interleave(rows, 0).repeat_interleave(columns, 1)  # noqa: E731
    return (q if zero is None else q - full(zero)) * full(scale)


INT = {"type": "int", "symmetric": True}
FLOAT = {"type": "float", "symmetric": True, "num_bits": 8}
NVFP4 = {"type": "float", "symmetric": True, "num_bits": 4, "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}
STATIC = {"strategy": "tensor", "dynamic": False, "symmetric": True, "num_bits": 8}
TOKEN = {"strategy": "token", "dynamic": True, "symmetric": True, "num_bits": 8}

FIXTURES = {
    "nf4": lambda f: bitsandbytes(f, True),
    "fp4": lambda f: bitsandbytes(f, True, "fp4"),
    "nf4-double": lambda f: bitsandbytes(f, True, "nf4", True),
    "int8": lambda f: bitsandbytes(f, False),
    "fp8": fp8,
    "fp8-partial": lambda f: fp8(f, (96, 64)),
    "mxfp4": mxfp4,
    "nvfp4-room": lambda f: nvfp4(f, 7.0),
    "ct-int4-group": lambda f: compressed(f, INT | {"num_bits": 4, "strategy": "group", "group_size": 32}),
    "ct-int4-zero": lambda f: compressed(f, INT | {"num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False}),
    "ct-int8-channel": lambda f: compressed(f, INT | {"num_bits": 8, "strategy": "channel"}),
    "ct-w8a8": lambda f: compressed(f, INT | {"num_bits": 8, "strategy": "channel"}, TOKEN | {"type": "int"}, "int-quantized"),
    "ct-fp8-channel": lambda f: compressed(f, FLOAT | {"strategy": "channel"}, TOKEN | {"type": "float"}, "float-quantized"),
    "ct-fp8-static": lambda f: compressed(f, FLOAT | {"strategy": "channel"}, STATIC | {"type": "float"}, "float-quantized"),
    "ct-w8a8-static": lambda f: compressed(f, INT | {"num_bits": 8, "strategy": "channel"}, STATIC | {"type": "int"}, "int-quantized"),
    "ct-fp8-tensor": lambda f: compressed(f, FLOAT | {"strategy": "tensor"}, TOKEN | {"type": "float"}, "float-quantized"),
    "ct-fp8-block": lambda f: compressed(f, FLOAT | {"strategy": "block", "block_structure": [64, 64]}, None, "float-quantized"),
    "ct-nvfp4": lambda f: compressed(f, NVFP4, None, "nvfp4-pack-quantized"),
}


def codes(file):
    """Codes of other people's quantisers for numbers that any language can compute: the SHA-256 of one byte a code."""
    import numpy as np
    from bitsandbytes import functional
    from gguf import GGMLQuantizationType as Type, quants

    n = np.arange(4096, dtype=np.uint32)
    x = ((n * np.uint32(2654435761) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)) ** 3
    out = {}
    for kind, skip in ((Type.Q8_0, 2), (Type.Q4_0, 2), (Type.Q4_1, 4)):
        blocks = quants.quantize(x, kind).reshape(4096 // 32, -1)[:, skip:]
        q = blocks if kind == Type.Q8_0 else np.concatenate([blocks & 15, blocks >> 4], 1)
        out[kind.name] = hashlib.sha256(np.ascontiguousarray(q).tobytes()).hexdigest()
    packed, _ = functional.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type="nf4")
    packed = packed.flatten().numpy()
    out["NF4"] = hashlib.sha256(np.stack([packed >> 4, packed & 15], 1).tobytes()).hexdigest()
    file.write_text(json.dumps(out, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if not args.names:
        codes(args.out / "codes.json")
    for name in args.names or FIXTURES:
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        FIXTURES[name](folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        print(folder, {k: (str(v.dtype), list(v.shape)) for k, v in load_file(folder / "model.safetensors").items() if "v_proj" in k or "experts" in k})


if __name__ == "__main__":
    main()
