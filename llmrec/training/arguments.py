"""A training's hyperparameters in the terms of transformers: its arguments and learning-rate schedules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from bench import ranks
from bench.cell import SELECT_BY, Run
from bench.errors import ConfigError

if TYPE_CHECKING:
    from llmrec.training.loop import Recipe

FROM_START = "cosine_from_start"


def arguments(
    recipe: Recipe,
    run: Run,
    n_rows: int,
    *,
    validating: bool,
    kind: Any = None,
    **more: Any,
) -> Any:
    """Transformers' TrainingArguments for a recipe.

    Args:
        recipe: the recipe.
        run: its folder takes the checkpoints.
        n_rows: training rows.
        validating: whether there is an evaluation after each epoch.
        kind: a subclass of TrainingArguments.
        **more: values that differ or that the subclass adds.

    Raises:
        ConfigError: a floor with a schedule that has none.
    """
    from transformers import TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    total = -(-n_rows // recipe.batch) * recipe.epochs
    warmup = recipe.warmup_steps if recipe.warmup_steps >= 1 else total * recipe.warmup_steps
    values: dict[str, Any] = dict(
        output_dir=str(run.folder / "tuning"),
        per_device_train_batch_size=recipe.batch,  # Trainer knows of no ranks, see ``trainer``
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        warmup_steps=int(min(warmup, total // 10)),
        max_grad_norm=recipe.clip,
        weight_decay=recipe.weight_decay,
        seed=run.seed_for("dropout" if ranks.rank() == 0 else f"dropout of rank {ranks.rank()}"),
        use_cpu=run.device == "cpu",
        eval_strategy="epoch" if validating else "no",
        save_strategy="epoch",
        metric_for_best_model=SELECT_BY if validating else None,
        greater_is_better=True if validating else None,
        logging_strategy="epoch",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        logging_nan_inf_filter=False,  # a loss that is not finite ends the training; looking costs a read
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


class Rate(Protocol):
    """A learning-rate schedule as a share of the peak rate."""

    def __call__(self, step: int, warmup: int, total: int) -> float:
        """The share at one optimizer step.

        Args:
            step: its number, from 0.
            warmup: steps of the warm-up.
            total: steps of the whole training.
        """


def cosine_from_start(floor: float) -> Rate:
    """The learning-rate schedule of LLaRA's released code.

    It rises in a line from ``floor`` during the warm-up and then follows a cosine from 1 at step 0 to
    ``floor`` at the last step, so that it starts below its peak; all as shares of the peak.
    """

    def rate(step: int, warmup: int, total: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * step / warmup
        return floor + (1 - floor) * (1 + math.cos(math.pi * step / max(total, 1))) / 2

    return rate
