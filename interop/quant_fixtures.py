"""Write the small quantised checkpoints of the Go tests.

    python quant_fixtures.py OUT [NAME ...]

OUT/NAME holds a one-layer model as the quantiser's own writer saves it where that runs on a CPU (bitsandbytes through
transformers, compressed-tensors), else as the format's documentation and its loader in transformers lay it out
(GPTQ, AWQ, MLX, fine-grained FP8, MXFP4 and NVFP4 need a GPU or another framework to write). The latter are marked
"by layout" below. reference.npz-free: OUT/NAME/dequantised.json holds the SHA-256 of every weight, dequantised to fp32
by PyTorch's own arithmetic, which the Go dequantisers must reproduce bit for bit.
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


FIXTURES = {
    "nf4": lambda f: bitsandbytes(f, True),
    "fp4": lambda f: bitsandbytes(f, True, "fp4"),
    "nf4-double": lambda f: bitsandbytes(f, True, "nf4", True),
    "int8": lambda f: bitsandbytes(f, False),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for name in args.names or FIXTURES:
        folder = args.out / name
        shutil.rmtree(folder, ignore_errors=True)
        FIXTURES[name](folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        print(folder, {k: (str(v.dtype), list(v.shape)) for k, v in load_file(folder / "model.safetensors").items() if "v_proj" in k or "experts" in k})


if __name__ == "__main__":
    main()
