"""Hugging Face's Trainer with our step: one of its batches is one optimizer step of this rank.

The step is cut into micro-batches here, so that rows can be sorted by length, halved when memory runs
out, and normalised by the global count of the optimizer step: sum of the loss over all micro-batches and
ranks, divided by the number of counted tokens over all of them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback

from bench.cell import Run
from bench.disk.storage import writing
from bench.errors import Unavailable
from llmrec.lm.backbone import Backbone
from llmrec.training.arguments import Rate
from llmrec.training.batch_loss import BatchLoss
from llmrec.training.checkpoint import (
    STATE,
    folder_of,
    generators,
    keep_only,
    load_weights,
    loss_state,
    restore_generators,
    save_weights,
)


class Shuffle(Sampler[int]):
    """The same order of rows for every loss: it depends on the seed and the epoch alone."""

    def __init__(self, n_rows: int, seed: int) -> None:
        self.n_rows, self.seed, self.epoch = n_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_rows)
        return iter(order.tolist())


class Step(torch.nn.Module):
    """Model and loss as one module, from rows to their summed loss, for distributed wrappers."""

    def __init__(self, lm: Backbone, batch_loss: BatchLoss) -> None:
        super().__init__()
        self.lm = lm
        self.batch_loss = batch_loss

    def forward(self, rows: Sequence[Any]) -> Tensor:
        """Summed loss of a micro-batch."""
        return self.batch_loss.sum(self.lm, rows)


def rows_of(batch: Sequence[int]) -> dict[str, Tensor]:
    """Row numbers as a batch."""
    return {"row": torch.tensor(batch)}


class SelectingTrainer(Trainer):
    """Trainer that draws rows in our order, validates with the actual decoder and checkpoints our state.

    Attributes:
        step_module: the language model and the loss.
        validate: measures the model as it stands; None for no validation.
        order: the order of the rows.
        micro_batch: rows of a forward pass at present.
        seconds: spent in optimizer steps so far.
        last_loss: of the latest optimizer step.
    """

    step_module: Step
    validate: Callable[[], dict[str, float]] | None
    order: Shuffle
    micro_batch: int
    seconds: float
    last_loss: float

    def _get_train_sampler(self, *_: Any) -> Shuffle:
        return self.order

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation by the actual decoder; leaves all generators as they were."""
        assert self.validate is not None, "there is no validation exam"
        self.step_module.eval()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            found = {f"eval_{name}": value for name, value in self.validate().items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        target = output_dir or self.args.output_dir
        assert target is not None, "``arguments`` always names a folder for checkpoints"
        folder = Path(target)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.step_module.lm, folder)
        state = {
            "batch_loss": dict(self.step_module.batch_loss.state_dict()),
            "seconds": self.seconds,
            "micro_batch": self.micro_batch,
        }
        (folder / STATE).write_text(json.dumps(state))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.seal_after(partial(super()._save_checkpoint, model, trial))

    def seal_after(self, write: Callable[[], None]) -> None:
        """Write a checkpoint, seal it, and only then remove those that it makes superfluous.

        Raises:
            StorageError: the disk is full or may not be written.
        """
        folder, step = Path(str(self.args.output_dir)), self.state.global_step
        if self.args.should_save:  # what an earlier attempt has left there
            shutil.rmtree(folder_of(folder, step), ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with writing(folder_of(folder, step)):
            write()
        self.accelerator.wait_for_everyone()  # each rank has written its random numbers
        if self.args.should_save:
            keep_only(folder, {step, self.state.best_global_step})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_weights(self.step_module.lm, folder)
        state = json.loads((folder / STATE).read_text())
        self.step_module.batch_loss.load_state_dict(loss_state(folder))
        self.seconds, self.micro_batch = state["seconds"], state["micro_batch"]


class Tuner(SelectingTrainer):
    """Trainer whose batches are row numbers.

    Args:
        step: the model and the batch_loss.
        rows: all training rows.
        validate: measures the model as it stands; None to skip.
        sampler: order of the rows.
        micro_batch: rows per forward pass to begin with.
        rate: share of the peak learning rate, a function of step, warm-up steps and all steps; None for
            the schedule that Trainer's arguments name.
        **rest: for Trainer.
    """

    loss_is_scaled_for_ga = True  # sums are divided by the global count, nothing is left to scale

    def __init__(
        self,
        step: Step,
        rows: Sequence[Any],
        validate: Callable[[], dict[str, float]] | None,
        sampler: Shuffle,
        *,
        micro_batch: int,
        rate: Rate | None = None,
        **rest: Any,
    ) -> None:
        self.rate = rate
        self.rows, self.validate, self.order = rows, validate, sampler
        self.micro_batch, self.seconds, self.last_loss = micro_batch, 0.0, float("nan")
        super().__init__(step, train_dataset=range(len(rows)), data_collator=rows_of, **rest)
        self.step_module = step

    def create_optimizer(self, *_: Any) -> torch.optim.Optimizer:
        """AdamW over the groups the model names."""
        if self.optimizer is None:
            groups = self.step_module.lm.parameter_groups()
            args = self.args
            self.optimizer = torch.optim.AdamW(
                groups,
                lr=args.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
                weight_decay=args.weight_decay,
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning-rate schedule, by ``rate`` or by Trainer's arguments; called by Trainer.

        Args:
            num_training_steps: steps of the whole training.
            optimizer: None for the trainer's own.
        """
        if self.rate is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            share = partial(self.rate, warmup=warmup, total=num_training_steps)
            chosen = optimizer or self.optimizer
            assert chosen is not None, "Trainer makes the optimizer before its schedule"
            self.lr_scheduler = LambdaLR(chosen, share)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One optimizer step of this rank; halves the micro-batch when GPU memory runs out.

        Args:
            model: the step module, as a distributed wrapper shows it.
            inputs: numbers of this rank's rows under ``row``.
            num_items_in_batch: passed by Trainer and not used; counts come from the loss.
        """
        started = time.perf_counter()
        model.train()
        lm, batch_loss = self.step_module.lm, self.step_module.batch_loss
        rows = [self.rows[row] for row in inputs["row"].tolist()]
        mine = torch.tensor(batch_loss.count(rows), device=self.args.device)
        count = float(self.accelerator.reduce(mine, "sum"))
        scale = self.accelerator.num_processes / max(count, 1.0)  # DDP takes the mean over ranks
        # a retry with smaller micro-batches has to see the loss and the random numbers of the first try
        before, chance = batch_loss.snapshot(), generators(self.args.device)
        while True:
            lm.begin_step(self.state.global_step, self.state.max_steps)
            try:
                total = self._accumulate(model, rows, scale)
                break
            except torch.cuda.OutOfMemoryError as fault:
                self._shrink(model, fault)
                batch_loss.restore(before)
                restore_generators(chance, self.args.device)
        self.seconds += time.perf_counter() - started
        self.last_loss = float(total)
        return total

    def _accumulate(self, model: Any, rows: Sequence[Any], scale: float) -> Tensor:
        parts = list(self.step_module.batch_loss.parts(rows, self.micro_batch))
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(parts, 1):
            # ranks exchange gradients once a step, with the last micro-batch
            last = number == len(parts)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss = model(part) * scale
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _shrink(self, model: Any, fault: BaseException) -> None:
        if self.micro_batch == 1:
            raise Unavailable(
                "a single training row does not fit into the GPU's memory; use quant: 8, a shorter "
                "cutoff or a smaller backbone"
            ) from fault
        self.micro_batch = max(1, min(self.micro_batch, len(self.rows)) // 2)
        model.zero_grad()
        torch.cuda.empty_cache()


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
