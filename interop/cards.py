"""Reads model cards as the hub's own client does.

usage: cards.py < JOBS

JOBS is a JSON list of paths of README.md files. For each, one line of JSON:
the metadata that huggingface_hub finds in it, the YAML of the seal's record in
its text, and whether what it would upload is what stands in the file.
"""

import json
import re
import sys

import yaml
from huggingface_hub import ModelCard

for path in json.load(sys.stdin):
    out = {"path": path}
    try:
        card = ModelCard.load(path, ignore_metadata_errors=False)
        out["metadata"] = card.data.to_dict()
        section = re.search(r"<!-- neuroseal:seal -->(.*)<!-- /neuroseal:seal -->", card.text, re.S).group(1)
        record = re.search(r"```yaml\r?\n(.*?)```", section, re.S).group(1)
        out["record"] = yaml.safe_load(record)["neuroseal"]
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        out["text"] = text.endswith(card.text)
    except Exception as e:  # noqa: BLE001 - the test names it
        out["error"] = f"{type(e).__name__}: {e}"
    print(json.dumps(out, default=str), flush=True)
