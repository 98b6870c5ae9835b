"""One trial with TRL's SFTTrainer: the windows of the exported text in their order, no
shuffling, no packing, no padding."""

import gc
import math
import os
import sys
import tempfile
import time

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

from . import adapters, models, optimizers, result, tokens
from .schedule import Divergence, factor
from .task import PARTS, Unsupported

# Tuners that choose among tasks, and those whose own forward needs the logits, which
# TRL's fused head does not make.
TASKED = ("poly", "multitask-prompt-tuning", "multitask_prompt_tuning")
UNFUSED = ("cpt", "adaption-prompt", "adaption_prompt", "xlora")


def run(task, report=lambda step, loss: None):
    """Runs a trial and returns its result. What does not apply to the model is a result
    with status impossible."""
    res = result.new(task.trial)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="arena-trl-") as scratch:
            train(task, res, report, scratch)
    except Unsupported as e:
        return result.impossible(task.trial, e)
    except adapters.REFUSALS as e:
        # A tuner that PEFT builds may still not run in this model. Before that, and with
        # what both engines have, an error is an error.
        known = task.train.kind in PARTS or task.train.kind in adapters.OWN
        if known or not res["trainable"] or "memory" in str(e):
            raise
        return result.impossible(task.trial, f"PEFT's {task.train.kind}: {models.first_line(e) or type(e).__name__}")
    res["seconds"] = time.monotonic() - began
    res["peak_bytes"] = peak()
    return res


def train(task, res, report, scratch):
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    model = models.load(task)
    data = tokens.read(task, models.vocabulary(model))
    model = adapters.attach(model, task)
    res["versions"]["device"] = device()
    res["trainable"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    t = build(model, task, data["train"], scratch)
    watch = Watch(t, task, data, res, report)
    t.add_callback(watch)
    try:
        t.train()
    finally:
        t.model = t.model_wrapped = None
        gc.collect()
    watch.finish()


def build(model, task, windows, scratch):
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    optimizer = optimizers.build(model, task)
    schedule = LambdaLR(optimizer, lambda s: factor(task.schedule, s, task.warmup, task.steps))
    args = arguments(task, scratch)
    try:
        t = Trainer(
            model=model,
            args=args,
            train_dataset=dataset(windows),
            data_collator=Collator(task.train.kind in TASKED),
            processing_class=no_tokenizer(),
            optimizers=(optimizer, schedule),
        )
    except ValueError as e:  # an adapter on the head, a quantised model without adapters
        raise Unsupported(f"SFTTrainer: {models.first_line(e)}") from e
    t.half = task.precision == "fp16"
    t.fused = task.train.kind not in UNFUSED
    # The loss is the mean over a batch's targets, with virtual tokens too.
    t.model_accepts_loss_kwargs = False
    # On a quantised base SFTTrainer rounds adapters to bf16 whatever was asked.
    for n, p in model.named_parameters():
        if n in kept:
            p.data = kept[n]
    return t


def arguments(task, scratch):
    replicas = int(os.environ.get("WORLD_SIZE", "1"))
    if task.batch % replicas:
        raise Unsupported(f"a batch of {task.batch} on {replicas} replicas")
    return SFTConfig(
        output_dir=scratch,
        max_steps=task.steps,
        per_device_train_batch_size=task.batch // replicas,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        learning_rate=task.lr,
        max_grad_norm=task.clip,
        bf16=False,  # the precision is that of the weights
        fp16=task.precision == "fp16" and torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        seed=task.seed % (1 << 32),
        max_length=None,
        packing=False,
        router_aux_loss_coef=0.0,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )


def dataset(windows):
    return Dataset.from_dict({"input_ids": windows}).with_format("numpy")


def no_tokenizer():
    """SFTTrainer wants a tokenizer; the tokens are there already."""
    t = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>")


class Collator:
    def __init__(self, tasked):
        self.tasked = tasked

    def __call__(self, rows):
        ids = torch.from_numpy(np.stack([r["input_ids"] for r in rows]).astype(np.int64))
        out = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
        if self.tasked:
            out["task_ids"] = torch.zeros(len(rows), dtype=torch.int64)
        return out


class Trainer(SFTTrainer):
    """SFTTrainer that sees batch s at step s and tells its losses."""

    fused = True
    half = False
    last = math.nan

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def mixed(self):
        """fp16 arithmetic; accelerate has that, with a scaler, on GPUs only."""
        return torch.autocast(self.args.device.type, torch.float16, enabled=self.half)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.last = self.accelerator.gather(loss.detach().float().reshape(1)).mean().item()
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        with self.mixed():
            if self.fused:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            out = model(**inputs)
        return (out.loss, out) if return_outputs else out.loss


class Watch(TrainerCallback):
    """Records losses, looks at held-out texts, and stops what diverges."""

    def __init__(self, trainer, task, data, res, report):
        self.trainer, self.task, self.data, self.res, self.report = trainer, task, data, res, report
        self.steps = set(task.eval_steps())
        self.divergence = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.look(0)
        start = self.res["evals"][0]["target"]
        self.divergence = Divergence(start, models.vocabulary(self.trainer.model))

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Tuners that re-allocate ranks do so before gradients are cleared."""
        base = getattr(self.trainer.model, "base_model", None)
        if hasattr(base, "update_and_allocate"):
            base.update_and_allocate(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        loss, res = self.trainer.last, self.res
        res["losses"].append(loss)
        res["steps"] = state.global_step
        res["tokens"] += self.task.batch * self.task.window
        self.report(state.global_step, loss)
        if self.divergence.step(loss):
            res["status"] = result.DIVERGED
            control.should_training_stop = True
        elif state.global_step in self.steps:
            self.look(state.global_step)

    def look(self, step):
        e = {"step": step}
        for name in ("target", "retained"):
            with self.trainer.mixed():
                e[name] = heldout(self.trainer.model, self.data[name], self.task)
        self.res["evals"].append(e)

    def finish(self):
        """The losses of steps are those before the update: the last one shows here."""
        res = self.res
        if res["status"] == result.DONE and not math.isfinite(res["evals"][-1]["target"]):
            res["status"] = result.DIVERGED


@torch.no_grad()
def heldout(model, windows, task):
    """Mean cross-entropy in nats. As in PEFT, the last virtual token of a soft prompt
    predicts the first token."""
    was, device = model.training, model.get_input_embeddings().weight.device
    model.eval()
    total, count = 0.0, 0
    tasked = {"task_ids": torch.zeros(task.batch, dtype=torch.int64, device=device)} if task.train.kind in TASKED else {}
    for at in range(0, len(windows), task.batch):
        ids = torch.from_numpy(windows[at : at + task.batch].astype(np.int64)).to(device)
        if tasked:
            tasked["task_ids"] = tasked["task_ids"][: len(ids)]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **tasked).logits[:, :-1].float()
        targets = ids[:, 1:] if logits.shape[1] < ids.shape[1] else ids
        logits = logits[:, -targets.shape[1] :].flatten(0, 1)
        targets = targets.flatten().to(logits.device)
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += len(targets)
    model.train(was)
    return total / count


def device():
    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def peak():
    """Bytes: of the GPUs together, else of this process."""
    if torch.cuda.is_available():
        return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return rss if sys.platform == "darwin" else rss * 1024
