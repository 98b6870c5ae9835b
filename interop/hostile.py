"""Random configurations of every built-in family: sealed, loaded, compared.

    python hostile.py NEUROSEAL [--seed N] [--count N] [--only NAME,...] [--keep FOLDER]

Each case takes a variant of families.py, changes some keys of its config.json (other
values, null, absent: what transformers then assumes), fills all parameters and buffers
with noise, saves, locks with a random profile, and demands of transformers the same bits for
short, long and padded batches and for generation with a cache. Every fourth seal is also
verified and unlocked. A configuration that transformers or NeuroSeal refuses is counted, no
more. One JSON line for each case that fails, a summary at the end; exit status 1 on failure.
"""

import argparse
import collections
import copy
import filecmp
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import inputs as feed
import torch
from checkpoints import DTYPES, load, logits, model_class
from compare import vocabulary
from families import VARIANTS, randomise
from offline import transformers

ACTIVATIONS = ["silu", "gelu", "relu", "relu2", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "tanh", "swish", "sigmoid"]
EPSILONS = [1e-6, 1e-5, 1e-3, 0.03125, 0.1, 0.5]
FACTORS = [0.25, 0.37, 0.7, 1.0, 1.3, 2.0, 5.0]
OPTIONS = [
    ["--exclude", "residual"], ["--exclude", "norm"], ["--exclude", "vo", "--exclude", "ffn"], ["--include", "qk"],
    ["--include", "residual"], ["--include", "norm"], ["--include", "norm", "--exclude", "norm:*0*"], ["--exclude", "*layers.1*"],
    ["--scale", "3"], ["--scale", "1000000"], ["--include", "ffn", "--scale", "1e12"], ["--include", "residual", "--include", "norm"],
]  # fmt: skip
# Keys whose absence means a model of real size.
SIZES = ("size", "vocab", "num_", "n_", "_dim", "d_", "layers", "heads", "dim", "ffn", "length", "max_", "patch", "image",
         "rank", "state", "expand", "conv_kernel", "groups", "channels", "labels", "architectures", "model_type", "_config",
         "positions", "period", "offset", "type", "intermediate", "attention_types", "chunk")  # fmt: skip
FIXED = ("architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "id2label", "label2id", "num_labels",
         "vocab_size", "image_size", "patch_size", "max_position_embeddings", "use_cache", "is_encoder_decoder",
         "return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "problem_type",
         "n_positions", "hidden_size", "d_model")  # fmt: skip


def mutations(config, rng):
    """Change one key in place; says what, None if nothing could be changed."""
    key = rng.choice([k for k in config if k not in FIXED])
    value = config[key]
    if isinstance(value, dict) and value and key.endswith("_config"):
        what = mutations(value, rng)
        return what and f"{key}.{what}"
    if isinstance(value, dict) and value:
        inner = rng.choice(list(value))
        if isinstance(value[inner], float):
            value[inner] = value[inner] * rng.choice([0.25, 0.5, 2.0, 3.0])
            return f"{key}.{inner}={value[inner]}"
        return None
    if not any(s in key for s in SIZES) and rng.random() < 0.3:
        if rng.random() < 0.6:
            del config[key]
            return f"-{key}"
        config[key] = None
        return f"{key}=null"
    new = another(key, value, rng)
    if new is None or new == value:
        return None
    config[key] = new
    return f"{key}={new}"


def another(key, value, rng):
    """Another value for a key, None if there is none."""
    if "act" in key.split("_")[-1] or "activation" in key or key in ("hidden_act", "feed_forward_proj"):
        if isinstance(value, str):
            name = rng.choice(ACTIVATIONS)
            return ("gated-" if rng.random() < 0.5 else "") + name if key == "feed_forward_proj" else name
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        if key.endswith("_token_id"):
            return rng.randrange(29)
        return rng.choice([1, 2, 3, 4, 6, 8, value * 2, max(value // 2, 1), value + 1])
    if isinstance(value, float):
        if "eps" in key:
            return rng.choice(EPSILONS)
        if "dropout" in key or "pdrop" in key:
            return None
        return value * rng.choice(FACTORS) if value else rng.choice(FACTORS)
    if isinstance(value, list) and value and all(isinstance(x, str) for x in value):
        return [rng.choice(value) for _ in value]
    if isinstance(value, list) and value and all(isinstance(x, int) for x in value):
        return [rng.choice(value) for _ in value]
    if value is None:
        if "window" in key:
            return rng.choice([3, 8])
        if "eps" in key:
            return rng.choice(EPSILONS)
        if any(s in key for s in ("cap", "scal", "multiplier", "clip", "factor", "bound", "limit")):
            return rng.choice(FACTORS)
        if "bias" in key or "use_" in key or "norm" in key:
            return rng.random() < 0.5
        if any(s in key for s in ("head", "dim", "kv", "layers", "group", "expert")):
            return rng.choice([1, 2, 4])
    return None


def make(folder, rng, only, changes):
    """Write one random model; returns its name and changes. Anything that transformers refuses raises."""
    name = rng.choice(only)
    variant = VARIANTS[name]
    config = getattr(transformers, variant.config)(**copy.deepcopy(variant.args))
    raw = json.loads(config.to_json_string(use_diff=False))
    raw["architectures"] = [variant.model]
    done = []
    for _ in range(60):
        if len(done) == changes:
            break
        if what := mutations(raw, rng):
            done.append(what)
    Path(folder, "config.json").write_text(json.dumps(raw))
    config = transformers.AutoConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        probe = getattr(transformers, variant.model)(config)
    if sum(p.numel() for p in probe.parameters()) > 2_000_000:
        raise MemoryError("too large")
    torch.manual_seed(0)
    model = getattr(transformers, variant.model)(config).eval()
    randomise(model, rng.randrange(1000))
    state = set(model.state_dict())
    with torch.no_grad():
        for i, (n, b) in enumerate(model.named_buffers()):
            if n in state and b.is_floating_point():
                b.copy_(0.2 * torch.randn(b.shape, generator=torch.Generator().manual_seed(i)))
    kept = Path(folder, "config.json").read_text()
    dtype = rng.choice(["fp32", "bf16"])
    model.to(DTYPES[dtype]).save_pretrained(folder)
    Path(folder, "generation_config.json").unlink(missing_ok=True)
    if rng.random() < 0.7:
        Path(folder, "config.json").write_text(kept)
    return name, [*done, dtype]


def ask(model, lengths):
    """Everything that is compared of a model, as tensors by name."""
    out = {}
    vocab = vocabulary(model)
    random = torch.Generator().manual_seed(3)
    for batch, length in [(1, 1), (1, 6), (2, 21), (1, lengths)]:
        tokens = torch.randint(3, vocab, (batch, length), generator=random)
        for k, v in feed.run(model, feed.fill(model, tokens)).items():
            if k in (*feed.ANSWERS, *feed.MORE):
                out[f"{k} {batch}x{length}"] = v
    tokens = torch.randint(3, vocab, (2, 12), generator=random)
    given = feed.fill(model, tokens)
    if "input_ids" not in given:
        return out
    for side in ("left", "right"):
        mask = torch.ones_like(tokens)
        mask[0, slice(0, 5) if side == "left" else slice(7, None)] = 0
        given["attention_mask"] = mask
        try:
            got = feed.run(model, given)
        except (TypeError, RuntimeError, IndexError, ValueError):
            continue
        out[f"padded {side}"] = got[feed.answer(got)]
    if model.can_generate():
        given.pop("decoder_input_ids", None)
        given["attention_mask"] = torch.ones_like(tokens)
        try:
            got = transformers.GenerationMixin.generate(
                model, **given, do_sample=False, use_cache=True, min_new_tokens=10, max_new_tokens=10, pad_token_id=0,
                return_dict_in_generate=True, output_logits=True)  # fmt: skip
            out["generated"] = torch.stack(got.logits)
        except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, KeyError, AssertionError, NotImplementedError):
            pass
    return out


def answers(folder, dtype, attn):
    model = load(folder, DTYPES[dtype], attn)
    error = None
    for length in (70, 40, 21):
        try:
            return ask(model, length)
        except (IndexError, RuntimeError, ValueError) as e:
            error = e
    raise error


def differences(a, b):
    """Names of the answers that are not bit for bit the same. NaN in both is alike."""
    bad = []
    for k in a:
        if k not in b or a[k].shape != b[k].shape or not torch.equal(torch.nan_to_num(a[k], 7e7), torch.nan_to_num(b[k], 7e7)):
            diff = (a[k].float() - b[k].float()).abs().max().item() if k in b and a[k].shape == b[k].shape else None
            bad.append(f"{k}: {diff}")
    return bad


def run(binary, *args):
    return subprocess.run([binary, *map(str, args)], capture_output=True, text=True)


def case(binary, rng, work, only, count):
    src, dst, back = (Path(work, n) for n in ("src", "dst", "back"))
    src.mkdir()
    name, changes = "?", []
    try:
        name, changes = make(src, rng, only, rng.choice([0, 1, 2, 3, 4, 6]))
    except Exception as e:  # whatever transformers makes of a senseless configuration
        count["transformers refuses"] += 1
        return None
    profile = rng.choice(["max", "max", "max", "strong", "portable"])
    attn = rng.choice(["eager", "sdpa"])
    try:
        first = {d: answers(src, d, attn) for d in ("fp32", "bf16")}
    except Exception:
        count["transformers fails"] += 1
        return None
    options = rng.choice([[], [], *OPTIONS])
    key = ["--key-file", Path(binary).parent / "hostile.key", "-q"]
    lock = run(binary, "lock", src, dst, "--profile", profile, *key, "--allow-sealed", *options)
    told = {"name": name, "changes": changes, "profile": profile, "attn": attn, "options": options}
    if lock.returncode == 2 and "leave no group" in lock.stderr:
        count["nothing chosen"] += 1
        return None
    if lock.returncode == 14:
        count["refused"] += 1
        count["refused: " + lock.stderr[:150].replace(str(src), "")] += 1
        return None
    if lock.returncode:
        return told | {"lock": lock.returncode, "stderr": lock.stderr[-400:]}
    bad = []
    for dtype, want in first.items():
        try:
            bad += [f"{dtype} {d}" for d in differences(want, answers(dst, dtype, attn))]
        except Exception as e:
            bad.append(f"{dtype} {type(e).__name__}: {e}"[:200])
    if profile == "portable":
        try:
            if all(torch.isfinite(x).all() for x in answers(src, "fp16", attn).values()):
                count["fp16"] += 1
                got = answers(dst, "fp16", attn)
                bad += [f"fp16 not finite: {k}" for k, x in got.items() if not torch.isfinite(x).all()]
        except Exception as e:
            count[f"fp16 {type(e).__name__}"] += 1
    if rng.random() < 0.25:
        count["verified, unlocked"] += 1
        v = run(binary, "verify", dst, "--against", src, "--run")
        if v.returncode:
            bad.append(f"verify {v.returncode}: {v.stderr[-300:]}")
        u = run(binary, "unlock", dst, back, *key)
        if u.returncode:
            bad.append(f"unlock {u.returncode}: {u.stderr[-300:]}")
        else:
            names = [f.name for f in src.iterdir() if f.is_file()]
            _, differ, errors = filecmp.cmpfiles(src, back, names, shallow=False)
            if differ or errors:
                bad.append(f"unlocked files differ: {differ} {errors}")
    count["compared"] += 1
    finite = all(torch.isfinite(x).all() for x in first["fp32"].values())
    count["compared, not finite"] += not finite
    return told | {"bad": bad} if bad else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    only = [n for n in VARIANTS if any(n.startswith(o) for o in args.only.split(","))]
    count = collections.Counter()
    failed = 0
    for seed in range(args.seed, args.seed + args.count):
        with tempfile.TemporaryDirectory() as work:
            failure = case(args.binary, random.Random(seed), work, only, count)
            if failure:
                failed += 1
                print(json.dumps({"seed": seed} | failure), flush=True)
                if args.keep:
                    shutil.copytree(work, args.keep / str(seed), dirs_exist_ok=True)
    for k, v in count.most_common():
        print(f"{v:6d} {k}".replace("\n", " "), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
