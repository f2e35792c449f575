"""The training loop that all losses share, on Hugging Face's Trainer and Accelerate.

Every loss sees the same rows in the same order, is normalised by the global count of its optimizer step,
and keeps the epoch with the best NDCG@5 of the actual decoder on the validation queries. An interrupted run
goes on from its last epoch and ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ranks
from bench.cell import SELECT_BY, Run
from bench.disk.manifest import check_folder
from llmrec.lm.backbone import Backbone
from llmrec.lm.device_costs import costs_of
from llmrec.training.arguments import FROM_START, arguments, cosine_from_start
from llmrec.training.batch_loss import BatchLoss
from llmrec.training.checkpoint import folder_of, last_checkpoint, load_weights, loss_state
from llmrec.training.memory import Peaks

Validate = Callable[[], dict[str, float]]


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
        weight_decay: of AdamW, where the model's own groups name none.
        patience: evaluations without a better one before training ends; None for all epochs.
        compile: whether the model's layers are compiled, ``on`` or ``off``; ``auto`` asks the device's table.
        tf32: multiply float32 matrices in TensorFloat-32 on a GPU.
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
    weight_decay: float = 0.0
    patience: int | None = None
    compile: str = "auto"
    tf32: bool = False
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
        ConfigError: a schedule that is none.
        Unavailable: not even one row fits into memory.
    """
    from llmrec.training.compiled import CompiledLayers
    from llmrec.training.order import Shuffle
    from llmrec.training.trainer import RankArguments, Step, Tuner

    validating = validate is not None
    auto = recipe.compile == "auto" and costs_of(run.device).compile_layers
    compiled = CompiledLayers(lm, wanted=recipe.compile == "on" or auto)
    args = arguments(recipe, run, len(rows), validating=validating, kind=RankArguments)
    tuner = Tuner(
        Step(lm, batch_loss),
        rows,
        validate,
        Shuffle(len(rows), run.seed_for("batches")),
        micro_batch=recipe.micro_batch or first_try(recipe, run),
        rate=cosine_from_start(recipe.floor) if recipe.schedule == FROM_START else None,
        compiled=compiled,
        args=args,
        eval_dataset=range(1) if validate else None,  # Trainer wants one; evaluate() has its own
    )
    tuner.tf32 = recipe.tf32
    try:
        drive(tuner, recipe, run, rows)
    finally:
        compiled.end()
    run.facts["compiled"] = compiled.fact
    if recipe.tf32:
        run.facts["tf32"] = "asked for" if run.device == "cpu" else "yes"


def drive(tuner: Any, recipe: Recipe, run: Run, rows: Sequence[Any]) -> None:
    """Train from the newest checkpoint on and leave the model with the weights of the best epoch.

    Args:
        tuner: a Trainer with our ``step_module``, ``validate`` and checkpoints (see ``_trainer``).
        recipe: its patience ends training early.
        run: hears of progress and gets the facts.
        rows: all training rows.
    """
    from transformers import PrinterCallback

    from llmrec.training.follow import Follow

    lm, batch_loss = tuner.step_module.lm, tuner.step_module.batch_loss
    folder = Path(tuner.args.output_dir)
    follow = Follow(run, batch_loss, recipe.patience)
    follow.tuner, tuner.peaks = tuner, Peaks()
    tuner.add_callback(follow)
    if run.microscope is not None:
        from llmrec.training.microscope import Microscope

        tuner.add_callback(Microscope(tuner, rows, run))
    tuner.remove_callback(PrinterCallback)
    if not _ended_early(tuner, last_checkpoint(folder), recipe.patience):
        tuner.train(resume_from_checkpoint=last_checkpoint(folder))
    best = tuner.state.best_global_step
    ranks.wait()  # the checkpoint of the best epoch is written by the first rank
    if tuner.validate is not None and best:
        chosen = folder_of(folder, best)
        check_folder(chosen)
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

    from llmrec.training.follow import exhausted

    if checkpoint is None:
        return False
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    if not exhausted(state.log_history, SELECT_BY, patience):
        return False
    tuner.state = state
    tuner._load_from_checkpoint(checkpoint)
    return True


def first_try(recipe: Recipe, run: Run) -> int:
    """Rows of the first forward pass where the recipe names no micro-batch.

    Args:
        recipe: its batch is tried as a whole on a GPU.
        run: its device decides.
    """
    return costs_of(run.device).micro_batch or recipe.batch


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
    tuner.peaks.end("train")
    return facts | tuner.peaks.facts()
