"""python -m arena_trl run TASK RESULT | check

run trains one trial. Every step is one line of JSON on standard output; whatever
libraries print goes to standard error. Exit status: 0 with a result, which may say that
the recipe is impossible here; 2 for a task that cannot be read; 1 for everything else.
Closing standard input stops it: nothing outlives whoever started it.
"""

import importlib
import importlib.util
import json
import os
import sys
import threading

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
NEEDED = ("numpy", "torch", "transformers", "accelerate", "peft", "datasets", "trl", "bitsandbytes")


def main(args):
    os.environ.update(OFFLINE)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if args == ["check"]:
        print(json.dumps(check()), file=out)
        return 0
    if len(args) != 3 or args[0] != "run":
        print("usage: python -m arena_trl run TASK RESULT | check", file=sys.stderr)
        return 2
    if os.environ.get("ARENA_TRL_STDIN") == "1":
        threading.Thread(target=until_closed, daemon=True).start()
    return run(args[1], args[2], out)


def run(task_path, result_path, out):
    from . import result, task

    first = os.environ.get("RANK", "0") == "0"
    try:
        with open(task_path, encoding="utf-8") as f:
            raw = json.load(f)
        try:
            t = task.parse(raw)
        except task.Unsupported as e:
            result.write(result_path, result.impossible(raw["trial"], e))
            return 0
    except (OSError, ValueError) as e:
        print(f"arena_trl: {e}", file=sys.stderr)
        return 2
    from . import trainer

    def report(step, loss):
        if first:
            print(json.dumps(result.finite({"step": step, "loss": loss})), file=out)

    try:
        res = trainer.run(t, report)
    except task.TaskError as e:
        print(f"arena_trl: {e}", file=sys.stderr)
        return 2
    if first:
        result.write(result_path, res)
    return 0


def check():
    """What is here and what is missing."""
    from . import result

    missing = [n for n in NEEDED if importlib.util.find_spec(n) is None]
    gpus = []
    if "torch" not in missing:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "missing": missing,
        "versions": result.versions(),
        "gpus": [{"name": g.name, "bytes": g.total_memory} for g in gpus],
    }


def until_closed():
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
