"""What happens between the steps of a training: progress, the loss's own state, an early end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from bench.cell import Run
from llmrec.training.batch_loss import BatchLoss

if TYPE_CHECKING:
    from llmrec.training.trainer import SelectingTrainer


class Follow(TrainerCallback):
    """Callback that reports progress, lets the loss update its state, and ends training early."""

    def __init__(self, run: Run, batch_loss: BatchLoss, patience: int | None) -> None:
        self.run, self.batch_loss, self.patience = run, batch_loss, patience
        self.tuner: SelectingTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the loss update its state and report the step; called by Trainer."""
        self.batch_loss.step()
        loss = self.tuner.last_loss if self.tuner else float("nan")
        self.run.progress(state.global_step, state.max_steps, loss=loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End training once ``patience`` evaluations in a row brought nothing better; called by Trainer."""
        if exhausted(state.log_history, args.metric_for_best_model, self.patience):
            control.should_training_stop = True


def exhausted(log: Sequence[Mapping[str, Any]], metric: str, patience: int | None) -> bool:
    """Whether the last ``patience`` evaluations of a training brought nothing better.

    Args:
        log: entries of Trainer's ``log_history``.
        metric: its name without ``eval_``; higher is better.
        patience: evaluations without a better one that are allowed; None for any number.
    """
    seen = [entry[f"eval_{metric}"] for entry in log if f"eval_{metric}" in entry]
    return patience is not None and len(seen) - int(np.argmax([*seen, -np.inf])) > patience
