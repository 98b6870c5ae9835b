#!/usr/bin/env python3
"""Measures PyTorch on the step of tools/bench-train and BenchmarkTrain:
transformers' Llama, SDPA, float32, AdamW, 4 x 128 tokens.

    python3 arena/train/testdata/bench.py [--model 6m|135m] [--lora MODULES] [--threads N] [--seconds S] [--json]

MODULES is a comma-separated list of modules, or all-linear; empty: full
fine-tuning. With --json the sample is printed as tools/bench-train reads it.
"""

import argparse
import json
import os
import resource
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "6m": dict(hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4, head_dim=32,
               intermediate_size=688, vocab_size=4096, rms_norm_eps=1e-5, tie_word_embeddings=False,
               max_position_embeddings=512),
    "135m": dict(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
                 intermediate_size=1536, vocab_size=49152, rms_norm_eps=1e-5, tie_word_embeddings=True,
                 max_position_embeddings=8192),
}

p = argparse.ArgumentParser()
p.add_argument("--model", choices=SHAPES, default="6m")
p.add_argument("--lora", default="")
p.add_argument("--threads", type=int, default=1)
p.add_argument("--seconds", type=float, default=5)
p.add_argument("--json", action="store_true")
o = p.parse_args()
torch.set_num_threads(o.threads)
torch.manual_seed(0)
model = LlamaForCausalLM._from_config(LlamaConfig(**SHAPES[o.model]), attn_implementation="sdpa")
size = sum(x.numel() for x in model.parameters())
if o.lora:
    import peft
    modules = o.lora if o.lora == "all-linear" else o.lora.split(",")
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules=modules))
model.train()
trained = [x for x in model.parameters() if x.requires_grad]
opt = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)
x = torch.randint(0, 512, (4, 128))
y = torch.randint(0, 512, (4, 128))


def step():
    logits = model(input_ids=x, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
    loss.backward()
    opt.step()
    opt.zero_grad(set_to_none=True)
    return loss.item()


losses = [step() for _ in range(2)]
tokens, took = 0, 0.0
began, cpu = time.perf_counter(), time.process_time()
while took < o.seconds:
    step()
    tokens += x.numel()
    took = time.perf_counter() - began
used = time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
load = os.getloadavg()[0]
if o.json:
    print(json.dumps(dict(tokens=tokens, wall_s=took, cpu_s=used, peak_mib=peak, loss=losses[0], load=load)))
else:
    print(f"{o.model} {o.lora or 'full'} threads={o.threads} parameters={size} {tokens / took:.0f} tokens/s "
          f"{tokens / used:.0f} tokens/cpu-s peak {peak:.0f} MiB load {load:.1f}")
