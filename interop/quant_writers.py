"""Write the quantised checkpoints of the Go tests whose writers are heavy: GPTQModel, MLX-LM and NVIDIA's ModelOpt.

    python quant_writers.py OUT [NAME ...]

OUT/NAME holds the one-layer model of quant_fixtures.py as the tool itself quantises and saves it on a CPU, calibrated with
a few sentences where the method calibrates. OUT/NAME/dequantised.json holds the SHA-256 of every weight as the tool's own
code dequantises it, in fp32. What must be installed is in requirements-quant.txt; a name whose writer is missing fails.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import tempfile
from pathlib import Path

import quant_readers
import torch
from quant_fixtures import llama, reference

CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,'"
SENTENCES = [
    "the old king had a daughter who lived in a tower by the sea.",
    "every morning she counted the ships, and every evening the stars.",
    "one day a small boat came in, with nobody in it but a cat.",
    "it said that it had come to learn how to read.",
] * 4
KEPT = {"config.json", "model.safetensors"}


def plain(folder, *widths):
    """The model that is quantised."""
    llama(*widths).save_pretrained(folder)
    tokenizer(folder)


def tokenizer(folder):
    """A tokenizer of 32 characters: the tools insist on one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.WordLevel({c: i for i, c in enumerate([*CHARACTERS, "<s>", "<unk>"])}, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=t, unk_token="<unk>", bos_token="<s>", eos_token="<s>", pad_token="<unk>").save_pretrained(folder)


def gptqmodel(folder, **options):
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it wants two on any machine
    gptq = importlib.import_module("gptqmodel")
    with tempfile.TemporaryDirectory() as source:
        plain(source)
        config = gptq.QuantizeConfig(device="cpu", group_size=32, sym=False, offload_to_disk=False, **options)
        with contextlib.chdir(source):  # it writes logs where it runs
            model = gptq.GPTQModel.load(source, config)
            model.quantize(SENTENCES, batch_size=1)
        model.save(str(folder))


def mlx(folder, *widths, **options):
    from mlx_lm.convert import convert

    with tempfile.TemporaryDirectory() as source:
        plain(source, *widths)
        convert(source, mlx_path=str(folder), quantize=True, **options)


def modelopt(folder, recipe):
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    model = llama()
    model.config.architectures = ["LlamaForCausalLM"]
    ids = torch.arange(48).view(4, 12) % 31
    model = mtq.quantize(model, getattr(mtq, recipe), lambda m: m(ids))
    with torch.inference_mode():
        export_hf_checkpoint(model, export_dir=str(folder))


def affine(bits, group=32, **options):
    return lambda f: mlx(f, 64, 128, q_bits=bits, q_group_size=group, **options)


FIXTURES = {
    "gptq": lambda f: gptqmodel(f, bits=4),
    "gptq-order": lambda f: gptqmodel(f, bits=4, desc_act=True),
    "gptq-order-int8": lambda f: gptqmodel(f, bits=8, desc_act=True),
    "gptq-v2-int8": lambda f: gptqmodel(f, bits=8, format="gptq_v2"),
    "awq": lambda f: gptqmodel(f, bits=4, quant_method="awq"),
    "mlx": lambda f: mlx(f, q_bits=4, q_group_size=64),
    "mlx-int2": affine(2),
    "mlx-int3": affine(3),
    "mlx-int5": affine(5, 64),
    "mlx-int6": affine(6, dtype="float16"),
    "mlx-int8": affine(8, dtype="float32"),
    "mlx-mxfp4": affine(4, q_mode="mxfp4"),
    "mlx-mxfp8": affine(8, q_mode="mxfp8"),
    "mlx-nvfp4": affine(4, 16, q_mode="nvfp4"),
    "nvfp4": lambda f: modelopt(f, "W4A16_NVFP4_CFG"),
    "nvfp4-w4a4": lambda f: modelopt(f, "NVFP4_DEFAULT_CFG"),
    "modelopt-fp8": lambda f: modelopt(f, "FP8_DEFAULT_CFG"),
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
        for file in folder.iterdir():
            if file.name not in KEPT:
                file.unlink()
        with torch.no_grad():
            _, read = quant_readers.reader(folder)
            weights = {base + ".weight": torch.from_numpy(w) for base, w in read(folder, wide=True)}
        assert weights, folder
        reference(folder, weights)
        print(folder, len(weights), flush=True)


if __name__ == "__main__":
    main()
