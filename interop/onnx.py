"""Export tiny models to ONNX, with the outputs that onnxruntime computes from them.

    python onnx.py OUT [NAME ...]

writes OUT/NAME.onnx (one file, weights inside; NAME ends in "-raw" for an
export without the exporter's optimiser, "-script" for the TorchScript
exporter, "-data" for weights in a file of their own) and OUT/NAME.json with
inputs and outputs. The weights depend only on the name. A family that cannot
be exported prints one line with the reason.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

# This file is called onnx.py, and its folder comes first on the path.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import transformers as T  # noqa: E402

VOCAB, WIDTH, TOKENS = 29, 16, 5
LLAMA = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=24, max_position_embeddings=32, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
T5 = dict(vocab_size=VOCAB, d_model=WIDTH, d_kv=4, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0,
          relative_attention_num_buckets=8, relative_attention_max_distance=16)
VIT = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, image_size=8, patch_size=4)
WHISPER = dict(vocab_size=VOCAB, num_mel_bins=8, d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
               decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=20,
               max_target_positions=11, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
GPT2 = dict(vocab_size=VOCAB, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=TOKENS, bos_token_id=1, eos_token_id=2)
BERT = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
            max_position_embeddings=TOKENS, pad_token_id=0)
MAMBA = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, state_size=5, time_step_rank=3, expand=2, conv_kernel=4)
MOE = dict(num_local_experts=4, num_experts_per_tok=2)

# name: config class, model class, config, kind of input
FAMILIES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", LLAMA, "lm"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT2, "lm"),
    "bert": ("BertConfig", "BertForMaskedLM", BERT, "types"),
    "vit": ("ViTConfig", "ViTForImageClassification", VIT, "image"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", dict(LLAMA, head_dim=8), "lm"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", dict(LLAMA, head_dim=8, sliding_window=4, tie_word_embeddings=True), "lm"),
    "neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}, "lm"),
    "opt": ("OPTConfig", "OPTForCausalLM", dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4,
                                                ffn_dim=24, max_position_embeddings=TOKENS, word_embed_proj_dim=WIDTH), "lm"),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", dict(LLAMA, **MOE), "lm"),
    "mamba": ("MambaConfig", "MambaForCausalLM", MAMBA, "lm"),
    "t5": ("T5Config", "T5ForConditionalGeneration", T5, "seq2seq"),
    "whisper": ("WhisperConfig", "WhisperForConditionalGeneration", WHISPER, "speech"),
}
MAIN = ("llama", "gpt2", "bert", "vit")


def names():
    out = []
    for f in FAMILIES:
        out += [f, f + "-raw"]
        if f in ("bert", "vit", "t5", "whisper"):
            out.append(f + "-script")
    return out + ["llama-data"]


def build(family):
    cfg, cls, conf, kind = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(T, cfg)(**conf)
    config._attn_implementation = "eager"
    model = getattr(T, cls)(config).eval()
    if hasattr(model, "set_experts_implementation"):
        try:
            model.set_experts_implementation("batched_mm")
        except ValueError:
            pass
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=g) * 0.1)
    return model, kind


def inputs(kind):
    g = torch.Generator().manual_seed(2)
    ids = lambda n=TOKENS: torch.randint(3, VOCAB, (1, n), generator=g)  # noqa: E731
    if kind == "lm":
        return dict(input_ids=ids(), use_cache=False)
    if kind == "types":
        return dict(input_ids=ids(), token_type_ids=torch.tensor([[0, 0, 1, 1, 1]]))
    if kind == "image":
        return dict(pixel_values=torch.randn(1, 3, 8, 8, generator=g))
    if kind == "seq2seq":
        return dict(input_ids=ids(), decoder_input_ids=ids(4), use_cache=False)
    return dict(input_features=torch.randn(1, 8, 40, generator=g), decoder_input_ids=ids(4), use_cache=False)


class First(torch.nn.Module):
    """The model with tensors in and its first output out."""

    def __init__(self, model, keys, fixed):
        super().__init__()
        self.model, self.keys, self.fixed = model, keys, fixed

    def forward(self, *args):
        return self.model(**dict(zip(self.keys, args)), **self.fixed, return_dict=False)[0]


def export(name, out):
    family, _, form = name.partition("-")
    model, kind = build(family)
    args = inputs(kind)
    fixed = {k: v for k, v in args.items() if not torch.is_tensor(v)}
    args = {k: v for k, v in args.items() if torch.is_tensor(v)}
    path = out / (name + ".onnx")
    options = dict(dynamo=True, optimize=form != "raw", external_data=form == "data", verbose=False)
    target, values, kwargs = model, (), dict(args, **fixed)
    if form == "script":
        options = dict(dynamo=False, opset_version=17)
    if form == "script" or kind in ("lm", "types"):
        target, values, kwargs = First(model, list(args), fixed), tuple(args.values()), None
    else:
        kwargs["return_dict"] = False
    with torch.no_grad():
        torch.onnx.export(target, values, str(path), kwargs=kwargs, input_names=list(args), output_names=["out"], **options)
    slim(path)
    return reference(path, args)


def slim(path):
    """Drop what only debuggers read."""
    m = onnx.load(str(path), load_external_data=False)
    for owner in [m, m.graph, *m.graph.node, *m.graph.initializer, *m.graph.input, *m.graph.output, *m.graph.value_info]:
        del owner.metadata_props[:]
        owner.doc_string = ""
    onnx.save(m, str(path))


def reference(path, args):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {k: v.numpy() for k, v in args.items() if k in {i.name for i in session.get_inputs()}}
    got = session.run(None, feed)
    flat = lambda x: np.asarray(x).astype(float).ravel().round(7).tolist()  # noqa: E731
    return dict(inputs={k: flat(v) for k, v in feed.items()}, output=flat(got[0]), shape=list(got[0].shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="exports to make (default: all)")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name in a.names or names():
        try:
            record = export(name, a.out)
        except Exception as e:  # noqa: BLE001
            print(f"{name}: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}")
            continue
        (a.out / (name + ".json")).write_text(json.dumps(record, separators=(",", ":")) + "\n")
        print(name)


if __name__ == "__main__":
    main()
