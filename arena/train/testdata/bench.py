#!/usr/bin/env python3
"""Measures PyTorch on the step of BenchmarkTrain: transformers' Llama of 6.45
million parameters, SDPA, float32, AdamW, 4 x 128 tokens.

    python3 arena/train/testdata/bench.py [--lora] [--threads N] [--steps N]
"""

import argparse
import os
import resource
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

p = argparse.ArgumentParser()
p.add_argument("--lora", action="store_true")
p.add_argument("--threads", type=int, default=1)
p.add_argument("--steps", type=int, default=10)
o = p.parse_args()
torch.set_num_threads(o.threads)
torch.manual_seed(0)
model = LlamaForCausalLM._from_config(LlamaConfig(
    hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4, head_dim=32,
    intermediate_size=688, vocab_size=4096, rms_norm_eps=1e-5, tie_word_embeddings=False,
    max_position_embeddings=512), attn_implementation="sdpa")
size = sum(x.numel() for x in model.parameters())
if o.lora:
    import peft
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=16, lora_alpha=32, target_modules=["v_proj", "o_proj", "up_proj", "down_proj"]))
trained = [x for x in model.parameters() if x.requires_grad]
opt = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)
x = torch.randint(0, 512, (4, 128))
y = torch.randint(0, 512, (4, 128))


def step():
    logits = model(input_ids=x, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
    opt.step()
    opt.zero_grad(set_to_none=True)


for _ in range(3):
    step()
began, cpu = time.perf_counter(), time.process_time()
for _ in range(o.steps):
    step()
took, used = time.perf_counter() - began, time.process_time() - cpu
tokens = o.steps * x.numel()
print(f"{'lora' if o.lora else 'full'} threads={o.threads} parameters={size} {tokens / took:.0f} tokens/s "
      f"{tokens / used:.0f} tokens/cpu-s peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB "
      f"load {os.getloadavg()[0]:.1f}")
