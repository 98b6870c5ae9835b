"""Train a small Llama whose widths are multiples of 256, as K-quants of GGUF need them.

    python gguf_train.py TEXT OUT [STEPS]

TEXT is bytes below 128 (go run ./internal/demo/gentext -bytes 2000000 > TEXT); a token is a byte. OUT/model.safetensors
is bf16. 300 steps take a few minutes of one core and bring the loss below that of counting bytes by far.
OUT/importance.json is what llama.cpp calls an importance matrix: for every matrix, under its name in GGUF, the mean square
of what each column is multiplied by on TEXT.
"""

import json
import sys
from pathlib import Path

import torch
from gguf_models import LAYER, WHOLE
from transformers import LlamaConfig, LlamaForCausalLM

WINDOW, BATCH = 64, 16


def main():
    text = torch.tensor(list(Path(sys.argv[1]).read_bytes()))
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 300
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=128, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, tie_word_embeddings=False, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=None, rms_norm_eps=1e-5,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        at = torch.randint(0, len(text) - WINDOW - 1, (BATCH,))
        batch = torch.stack([text[i : i + WINDOW] for i in at])
        loss = model(input_ids=batch, labels=batch).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    model.to(torch.bfloat16).save_pretrained(sys.argv[2])
    rows = torch.stack([text[i * WINDOW : (i + 1) * WINDOW] for i in range(BATCH)])
    Path(sys.argv[2], "importance.json").write_text(json.dumps(importance(model.float().eval(), rows)))


def importance(model, rows):
    out = {}

    def note(name):
        def hook(_, inputs, __):
            out[name] = inputs[0].flatten(0, -2).square().mean(0).tolist()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            at, _, part = name.removeprefix("model.layers.").partition(".")
            module.register_forward_hook(note(f"blk.{at}.{LAYER[part]}.weight" if part else f"{WHOLE[name]}.weight"))
    with torch.no_grad():
        model(input_ids=rows)
    return out


if __name__ == "__main__":
    main()
