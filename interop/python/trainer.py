"""Trains tiny Llamas with transformers' Trainer, TRL's SFTTrainer and PEFT while
NeuroSealCallback seals what they save. Prints one JSON line for each check.

    python trainer.py first WORK     without the callback; with it, cut off after step 4; other trainers
    python trainer.py second WORK    goes on with the run that was cut off
    torchrun --nproc_per_node 2 trainer.py ranks WORK

The environment names the command (NEUROSEAL_COMMAND); PYTHONPATH holds the module.
"""

import functools
import hashlib
import inspect
import json
import logging
import os
import pathlib
import re
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import neuroseal
from neuroseal.transformers import NeuroSealCallback

STEPS, CUT, VOCABULARY = 6, 4, 96


def say(check, ok, detail=None):
    print(json.dumps({"check": check, "ok": bool(ok), "detail": detail}, default=str), flush=True)


def model():
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, attention_dropout=0.1,  # so that random states count
    ))  # fmt: skip


def rows(n=48):
    ids = torch.randint(0, VOCABULARY, (n, 12), generator=torch.Generator().manual_seed(2))
    return [{"input_ids": r, "labels": r} for r in ids]


def arguments(out, **more):
    return TrainingArguments(**({
        "output_dir": str(out), "max_steps": STEPS, "save_steps": 2, "save_total_limit": 2, "logging_steps": 1,
        "per_device_train_batch_size": 4, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True, "seed": 3, "disable_tqdm": True,
    } | more))  # fmt: skip


def losses(trainer):
    return {str(e["step"]): e["loss"].hex() for e in trainer.state.log_history if "loss" in e}


def weights(m):
    h = hashlib.sha256()
    for name, t in sorted(m.state_dict().items()):
        h.update(name.encode() + t.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def files(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


class Watched(NeuroSealCallback):
    """Looks at the model, the checkpoint and the random states before and after."""

    def on_save(self, args, state, control, model=None, **kwargs):
        folder = pathlib.Path(args.output_dir) / f"checkpoint-{state.global_step}"

        def look():
            return weights(model), files(folder), folder.stat().st_mtime_ns, torch.random.get_rng_state().tolist()

        before = look()
        super().on_save(args, state, control, model=model, **kwargs)
        say(f"step {state.global_step}: model, checkpoint and random state unchanged", look() == before)
        if state.global_step in self.results:
            sealed = self.results[state.global_step].output
            found = neuroseal.verify(sealed, against=folder, run=True)
            say(f"step {state.global_step}: verified", found.ok and found.bit_exact_algebra and found.bit_exact_forward, found.notes)
            say(f"step {state.global_step}: weights differ", files(sealed)["model.safetensors"] != files(folder)["model.safetensors"])
            say(f"step {state.global_step}: same answers", same_answers(folder, sealed))


class Cut(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= CUT
        return control


def same_answers(original, sealed):
    ids = torch.arange(24).view(2, 12) % VOCABULARY
    for dtype in (torch.float32, torch.bfloat16):
        with torch.no_grad():
            a, b = (AutoModelForCausalLM.from_pretrained(f, dtype=dtype).eval()(ids).logits for f in (original, sealed))
        if not torch.equal(a, b):
            return False
    return True


def first(work):
    plain = Trainer(model=model(), args=arguments(work / "plain"), train_dataset=rows())
    plain.train()
    (work / "plain.json").write_text(json.dumps({"losses": losses(plain), "weights": weights(plain.model)}))

    callback = Watched(profile="max", verify=True, on_failure="raise")
    run = Trainer(model=model(), args=arguments(work / "run"), train_dataset=rows(), callbacks=[callback, Cut()])
    run.train()
    want = {k: v for k, v in losses(plain).items() if int(k) <= CUT}
    say("first half: same losses", losses(run) == want, [losses(run), want])
    say("first half: sealed", sorted(callback.results) == [2, 4] and not callback.failures, callback.failures)
    say("first half: seals differ, one key", len({r.seal_id for r in callback.results.values()}) == 2 and {r.key_file for r in callback.results.values()} == {work / "run" / "_sealed.key"})
    peft(work)
    sft(work)
    uploads()


def second(work):
    want = json.loads((work / "plain.json").read_text())
    out = work / "run"
    say("resumes from the unsealed checkpoint", get_last_checkpoint(out) == str(out / f"checkpoint-{CUT}"), get_last_checkpoint(out))
    callback = Watched(profile="max", verify=True, on_failure="raise")
    run = Trainer(model=model(), args=arguments(out), train_dataset=rows(), callbacks=[callback])
    run.train(resume_from_checkpoint=True)
    say("resumed: same losses", losses(run) == want["losses"], [losses(run), want["losses"]])
    say("resumed: same weights", weights(run.model) == want["weights"])
    sealed = out / "_sealed"
    say("rotation leaves the sealed ones", sorted(p.name for p in sealed.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"], os.listdir(sealed))
    say("rotation", sorted(p.name for p in out.iterdir()) == ["_sealed", "_sealed.key", "checkpoint-4", "checkpoint-6"], os.listdir(out))
    kinds = {p.name for p in (sealed / "checkpoint-6").iterdir()}
    say("nothing of the training in it", kinds == {"config.json", "generation_config.json", "model.safetensors", "neuroseal_config.json", "README.md"} - ({"README.md"} - kinds), sorted(kinds))
    inodes = [{p.stat().st_ino for p in f.iterdir()} for f in (sealed / "checkpoint-6", out / "checkpoint-6")]
    say("no file is shared", not inodes[0] & inodes[1])
    back = neuroseal.unlock(sealed / "checkpoint-6", work / "back", key_file=out / "_sealed.key")
    name = "model.safetensors"
    say("unlocked: the same bytes", back.exact and files(work / "back")[name] == files(out / "checkpoint-6")[name])
    try:
        Trainer(model=model(), args=arguments(out), train_dataset=rows()).train(resume_from_checkpoint=str(sealed / "checkpoint-6"))
        say("a sealed checkpoint cannot be resumed from by mistake", False)
    except FileNotFoundError as e:
        say("a sealed checkpoint cannot be resumed from by mistake", e.filename.endswith("trainer_state.json"), e.filename)


class Logs(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def peft(work):
    from peft import LoraConfig, get_peft_model

    logs = Logs()
    logging.getLogger("neuroseal").addHandler(logs)
    callback = NeuroSealCallback(on_failure="raise")
    m = get_peft_model(model(), LoraConfig(r=2, target_modules=["q_proj"]))
    Trainer(model=m, args=arguments(work / "peft"), train_dataset=rows(), callbacks=[callback]).train()
    logging.getLogger("neuroseal").removeHandler(logs)
    told = [t for t in logs.texts if "PEFT adapter" in t and "neuroseal adapter" in t]
    say("peft: said once, nothing sealed", len(told) == 1 and not callback.results and not list((work / "peft").glob("_*")), logs.texts)


def sft(work):
    """TRL, shards, the background, only the best at the end, the newest two."""
    import datasets
    from tokenizers import Tokenizer, models
    from trl import SFTConfig, SFTTrainer

    words = {f"w{i}": i for i in range(VOCABULARY - 2)} | {"[UNK]": VOCABULARY - 2, "[EOS]": VOCABULARY - 1}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="[UNK]")), eos_token="[EOS]", pad_token="[EOS]", unk_token="[UNK]")  # fmt: skip
    data = datasets.Dataset.from_list([{"input_ids": r["input_ids"].tolist()} for r in rows()])
    for name, more, want, options in (
        ("sft", {}, ["checkpoint-4", "checkpoint-6"], {"background": True, "keep": 2}),
        ("sft-end", {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True, "eval_strategy": "steps", "eval_steps": 2},
         ["checkpoint-2"], {"when": "end"}),
    ):  # fmt: skip
        m, out = model(), work / name
        m.save_pretrained = functools.partial(m.save_pretrained, max_shard_size="20KB")
        callback = NeuroSealCallback(profile="strong", verify=True, on_failure="raise", **options)
        args = SFTConfig(**arguments(out).to_dict() | {"output_dir": str(out), "max_length": 16} | more)
        trainer = SFTTrainer(model=m, args=args, train_dataset=data, eval_dataset=data.select(range(8)), processing_class=tokenizer, callbacks=[callback])
        trainer.train()
        sealed = sorted(p.name for p in (out / "_sealed").iterdir())
        best = pathlib.Path(trainer.state.best_model_checkpoint or "").name
        say(f"{name}: sealed", sealed == (want if name == "sft" else [best]), [sealed, best])
        for s in sealed:
            shards = len(list((out / "_sealed" / s).glob("*.safetensors")))
            say(f"{name}: shards, tokenizer", shards > 2 and (out / "_sealed" / s / "tokenizer.json").is_file(), shards)
            say(f"{name}: verified", neuroseal.verify(out / "_sealed" / s, against=out / s, run=True).ok)
        say(f"{name}: tidy", not list(out.glob("_sealing*")), os.listdir(out))


def uploads():
    """What the Trainer leaves out of its uploads holds for ours."""
    from huggingface_hub.utils import filter_repo_objects

    found = re.findall(r"ignore_patterns=\[(.*)\]", inspect.getsource(Trainer))
    patterns = ["_*", "checkpoint-*"]
    say("uploads: the Trainer's patterns", found and all(f == '"_*", f"{PREFIX_CHECKPOINT_DIR}-*"' for f in found), found)
    ours = ["_sealed/checkpoint-2/model.safetensors", "_sealed.key", "_sealing-checkpoint-2/model.safetensors", "config.json"]
    say("uploads: ours are left out", list(filter_repo_objects(ours, ignore_patterns=patterns)) == ["config.json"])


def ranks(work):
    callback = NeuroSealCallback(profile="max", on_failure="raise")
    trainer = Trainer(model=model(), args=arguments(work / "ranks", ddp_backend="gloo"), train_dataset=rows(), callbacks=[callback])
    trainer.train()
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    got = [None] * world
    torch.distributed.all_gather_object(got, [rank, sorted(callback.results)])
    if rank == 0:
        say("ranks: two processes, one seals", got == [[0, [2, 4, 6]], [1, []]], got)
        for n in (4, 6):
            out = work / "ranks"
            say(f"ranks: checkpoint-{n} verified", neuroseal.verify(out / "_sealed" / f"checkpoint-{n}", against=out / f"checkpoint-{n}").ok)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    {"first": first, "second": second, "ranks": ranks}[sys.argv[1]](pathlib.Path(sys.argv[2]))
