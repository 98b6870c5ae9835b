"""The held-out loss of the arena's specimens, as transformers computes it.

    python specimens.py TEXT WINDOW WINDOWS FOLDER …

TEXT is a file whose bytes are the tokens. One JSON line for each folder: the mean
loss in nats per byte over the first WINDOWS windows, and, for a model with
experts, which part of each layer's choices every expert gets.
"""

import json
import sys
from pathlib import Path

import torch
from checkpoints import load


def shares(router_logits, chosen, experts):
    """How often each expert is among the chosen ones, layer by layer."""
    return [
        (torch.bincount(x.topk(chosen, dim=-1).indices.flatten(), minlength=experts) / (chosen * len(x))).tolist()
        for x in router_logits
    ]


@torch.no_grad()
def measure(folder, text, window, windows):
    """The JSON line of one folder."""
    model = load(folder)
    x = text[: window * windows].view(windows, window)
    y = text[1 : window * windows + 1].view(windows, window)
    sparse = getattr(model.config, "num_local_experts", None)
    options = {"output_router_logits": True} if sparse else {}
    out = model(input_ids=x, use_cache=False, **options)
    line = {"folder": folder, "loss": torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), y.flatten()).item()}
    if sparse:
        logits = [r.reshape(-1, sparse) for r in out.router_logits]
        line["expert_share"] = shares(logits, model.config.num_experts_per_tok, sparse)
    return line


def main():
    path, window, windows, *folders = sys.argv[1:]
    text = torch.tensor(list(Path(path).read_bytes()))
    for folder in folders:
        print(json.dumps(measure(folder, text, int(window), int(windows))), flush=True)


if __name__ == "__main__":
    main()
