"""The training loop that all losses share, on Hugging Face's Trainer and Accelerate.

Every loss sees the same rows in the same order, is normalised by the global count of its optimizer step,
and keeps the epoch with the best NDCG@5 of the actual decoder on the validation queries. An interrupted run
goes on from its last epoch and ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.cell import SELECT_BY, Run
from bench.errors import ConfigError
from llmrec.lm.backbone import Backbone
from llmrec.training.batch_loss import BatchLoss

Validate = Callable[[], dict[str, float]]
CPU_MICRO_BATCH = 32
FROM_START = "cosine_from_start"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyperparameters of a training apart from the loss; defaults as in the paper.

    Attributes:
        epochs: passes over the rows.
        lr: peak learning rate of AdamW.
        batch: rows per optimizer step, over all ranks.
        warmup_steps: steps of linear warm-up, below 1 a share of all; at most a tenth of all.
        schedule: of the learning rate after that, ``linear`` or ``cosine``; both end at 0. With
            ``cosine_from_start`` the cosine is counted from the first step, see ``cosine_from_start``.
        floor: share of the peak where the warm-up begins and a cosine schedule ends.
        micro_batch: rows per forward pass; None begins with all (32 on a CPU) and halves when memory
            runs out. It moves results by rounding only, except where adapters have dropout: their
            draws follow the shape of the micro-batches.
        clip: largest gradient norm.
        patience: evaluations without a better one before training ends; None for all epochs.
        report_to: ``none``, ``tensorboard`` or ``wandb``.
    """

    epochs: int = 10
    lr: float = 1e-4
    batch: int = 128
    warmup_steps: float = 20
    schedule: str = "linear"
    floor: float = 0.0
    micro_batch: int | None = None
    clip: float = 1.0
    patience: int | None = None
    report_to: str = "none"


@dataclass(frozen=True)
class Training:
    """A training that is ready to run.

    Attributes:
        rows: training rows of the kind that the batch_loss takes.
        batch_loss: the loss with its state.
        recipe: optimizer and schedule.
        loop: called like ``tune``; None for ``tune`` itself.
    """

    rows: Sequence[Any]
    batch_loss: BatchLoss
    recipe: Recipe
    loop: Callable[..., None] | None = None

    def run(self, lm: Backbone, run: Run, validate: Validate | None = None) -> None:
        """Train ``lm`` in place; see ``tune``.

        Args:
            lm: the model.
            run: seeds, device, folder, progress.
            validate: metrics of the model as it stands; None keeps the last epoch.
        """
        (self.loop or tune)(lm, self.rows, self.batch_loss, self.recipe, run, validate)


def tune(
    lm: Backbone,
    rows: Sequence[Any],
    batch_loss: BatchLoss,
    recipe: Recipe,
    run: Run,
    validate: Validate | None = None,
) -> None:
    """Train ``lm`` in place and leave it with the weights of the best epoch.

    Checkpoints live in ``run.folder / "tuning"``; numbers go to ``run.facts``.

    Args:
        lm: its trainable parameters are trained.
        rows: training rows of the kind that the batch_loss takes.
        batch_loss: the loss with its state.
        recipe: optimizer and schedule.
        run: seeds, device, folder, progress.
        validate: metrics of the model as it stands, ``ndcg@5`` among them; None keeps the last epoch.

    Raises:
        ConfigError: a batch that the ranks cannot share.
        Unavailable: not even one row fits into memory.
    """
    from llmrec.training.trainer import Shuffle, Step, Tuner

    args = arguments(recipe, run, len(rows), validating=validate is not None)
    tuner = Tuner(
        Step(lm, batch_loss),
        rows,
        validate,
        Shuffle(len(rows), run.seed_for("batches")),
        micro_batch=recipe.micro_batch or first_try(recipe, run),
        rate=cosine_from_start(recipe.floor) if recipe.schedule == FROM_START else None,
        args=args,
        eval_dataset=range(1) if validate else None,  # Trainer wants one; evaluate() has its own
    )
    drive(tuner, recipe, run)


def cosine_from_start(floor: float) -> Callable[[int, int, int], float]:
    """The course of the learning rate in LLaRA's released code, as a function of step, warm-up and total.

    It rises in a line from ``floor`` during the warm-up and then follows a cosine from 1 at step 0 to
    ``floor`` at the last step, so that it starts below its peak; all as shares of the peak.
    """

    def rate(step: int, warmup: int, total: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * step / warmup
        return floor + (1 - floor) * (1 + math.cos(math.pi * step / max(total, 1))) / 2

    return rate


def drive(tuner: Any, recipe: Recipe, run: Run) -> None:
    """Train from the newest checkpoint on and leave the model with the weights of the best epoch.

    Args:
        tuner: a Trainer with our ``step_module``, ``validate`` and checkpoints (see ``_trainer``).
        recipe: its patience ends training early.
        run: hears of progress and gets the facts.
    """
    from transformers import PrinterCallback

    from llmrec.training.checkpoint import load_weights, loss_state
    from llmrec.training.trainer import Follow

    lm, batch_loss = tuner.step_module.lm, tuner.step_module.batch_loss
    folder = Path(tuner.args.output_dir)
    follow = Follow(run, batch_loss, recipe.patience)
    follow.tuner = tuner
    tuner.add_callback(follow)
    tuner.remove_callback(PrinterCallback)
    if not _ended_early(tuner, last_checkpoint(folder), recipe.patience):
        tuner.train(resume_from_checkpoint=last_checkpoint(folder))
    best = tuner.state.best_global_step
    if tuner.validate is not None and best:
        chosen = folder / f"checkpoint-{best}"
        load_weights(lm, chosen)
        if (tau := loss_state(chosen).get("tau")) is not None:
            run.facts["tau_of_best_epoch"] = tau  # the fact tau is the last epoch's
    lm.eval()
    run.facts.update(_facts(tuner, lm, batch_loss))


def _ended_early(tuner: Any, checkpoint: str | None, patience: int | None) -> bool:
    """Whether patience had run out at this checkpoint; the tuner is then as it was left.

    Trainer forgets on resuming that it was told to stop, and would train one epoch more.
    """
    from transformers import TrainerState

    from llmrec.training.trainer import exhausted

    if checkpoint is None:
        return False
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    if not exhausted(state.log_history, SELECT_BY, patience):
        return False
    tuner.state = state
    tuner._load_from_checkpoint(checkpoint)
    return True


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end, or None."""
    # transformers writes this file last, but in place: a kill may leave it cut
    written = folder.glob("checkpoint-*/trainer_state.json")
    whole = [path.parent for path in written if _parses(path)]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return None if newest is None else str(newest)


def _parses(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def first_try(recipe: Recipe, run: Run) -> int:
    """Rows of the first forward pass where the recipe names no micro-batch.

    Args:
        recipe: its batch is tried as a whole on a GPU.
        run: its device decides.
    """
    return CPU_MICRO_BATCH if run.device == "cpu" else recipe.batch


def arguments(
    recipe: Recipe,
    run: Run,
    n_rows: int,
    *,
    validating: bool,
    kind: Any = None,
    **more: Any,
) -> Any:
    """TrainingArguments of a recipe.

    Args:
        recipe: the recipe.
        run: its folder takes the checkpoints.
        n_rows: training rows.
        validating: whether there is an evaluation after each epoch.
        kind: a subclass of TrainingArguments.
        **more: values that differ or that the subclass adds.

    Raises:
        ConfigError: a batch that the ranks cannot share.
    """
    from accelerate import PartialState
    from transformers import TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    ranks = PartialState(cpu=run.device == "cpu").num_processes
    if recipe.batch % ranks:
        raise ConfigError(f"batch is {recipe.batch}; it must be a multiple of {ranks} ranks")
    total = -(-n_rows // recipe.batch) * recipe.epochs
    warmup = recipe.warmup_steps if recipe.warmup_steps >= 1 else total * recipe.warmup_steps
    values: dict[str, Any] = dict(
        output_dir=str(run.folder / "tuning"),
        per_device_train_batch_size=recipe.batch // ranks,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        warmup_steps=int(min(warmup, total // 10)),
        max_grad_norm=recipe.clip,
        weight_decay=0.0,
        seed=run.seed_for("dropout"),
        use_cpu=run.device == "cpu",
        eval_strategy="epoch" if validating else "no",
        save_strategy="epoch",
        save_total_limit=1,
        metric_for_best_model=SELECT_BY if validating else None,
        greater_is_better=True if validating else None,
        logging_strategy="epoch",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=run.device != "cpu",
        report_to=recipe.report_to,
    )
    values |= _schedule(recipe)
    args = (kind or TrainingArguments)(**(values | more))
    args._n_gpu = min(args.n_gpu, 1)  # several visible GPUs mean ranks, never DataParallel
    return args


def _schedule(recipe: Recipe) -> dict[str, Any]:
    """The learning rate's course, in the names of transformers."""
    if recipe.schedule == FROM_START:
        return {}  # no schedule of transformers, see Tuner.create_scheduler
    if not recipe.floor:
        return {"lr_scheduler_type": recipe.schedule}
    if recipe.schedule != "cosine":
        raise ConfigError(f"floor is {recipe.floor} with schedule {recipe.schedule!r}; use cosine")
    rates = {"min_lr_rate": recipe.floor, "warmup_lr_rate": recipe.floor}
    return {"lr_scheduler_type": "cosine_warmup_with_min_lr", "lr_scheduler_kwargs": rates}


def _facts(tuner: Any, lm: Backbone, batch_loss: BatchLoss) -> dict[str, Any]:
    state = tuner.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    scores = [e[f"eval_{SELECT_BY}"] for e in state.log_history if f"eval_{SELECT_BY}" in e]
    best = scores.index(max(scores)) + 1 if scores else round(state.epoch or 0)
    facts: dict[str, Any] = dict(batch_loss.facts())
    facts |= {
        "epochs": round(state.epoch or 0),
        "best_epoch": best,
        "steps": state.global_step,
        "micro_batch": tuner.micro_batch,
        "parameters_trained": sum(p.numel() for p in lm.trainable().values()),
        "parameters_total": sum(p.numel() for p in lm.parameters()),
        "loss_by_epoch": losses,
        f"valid_{SELECT_BY}_by_epoch": scores,
    }
    if tuner.seconds and "train_tokens" in facts:
        facts["train_tokens_per_second"] = facts["train_tokens"] / tuner.seconds
    if tuner.args.device.type == "cuda":
        facts["train_peak_bytes"] = torch.cuda.max_memory_allocated()
    return facts
