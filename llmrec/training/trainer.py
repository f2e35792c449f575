"""Hugging Face's Trainer with our step: one of its batches is one optimizer step.

The step is cut into micro-batches here, so that rows can be sorted by length, halved when memory runs
out, and normalised by the count of counted tokens over all micro-batches and ranks of the optimizer step.

Every rank has a Trainer that takes itself to be alone and draws the whole batch; the step deals the rows
out, so each row is seen once a pass. Gradients are added up once, behind the last micro-batch, not within
DistributedDataParallel's backward pass: a rank may then have no row, or run out of memory and try again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments

from bench import ranks
from bench.disk.storage import writing
from bench.errors import Unavailable, out_of_memory
from llmrec.lm.backbone import Backbone
from llmrec.lm.device_costs import costs_of
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
from llmrec.training.compiled import CompiledLayers
from llmrec.training.exchange import add_up_gradients, rescale_gradients
from llmrec.training.memory import Peaks
from llmrec.training.order import Shuffle
from llmrec.training.precision import short_products


class Step(torch.nn.Module):
    """Model and loss as one module, from rows to their summed loss."""

    def __init__(self, lm: Backbone, batch_loss: BatchLoss) -> None:
        super().__init__()
        self.lm = lm
        self.batch_loss = batch_loss

    def forward(self, rows: Sequence[Any]) -> Tensor:
        """Summed loss of a micro-batch."""
        return self.batch_loss.sum(self.lm, rows)


def rows_of(batch: Sequence[int]) -> dict[str, list[int]]:
    """Row numbers as a batch; a list, since a tensor would go to the device and back."""
    return {"row": list(batch)}


class RankArguments(TrainingArguments):
    """Arguments of a Trainer that takes itself to be alone; the first rank writes to disk."""

    @property
    def should_save(self) -> bool:
        """Whether this process writes checkpoints."""
        return ranks.rank() == 0


class SelectingTrainer(Trainer):
    """Trainer that draws rows in our order, validates with the actual decoder and checkpoints our state.

    Attributes:
        step_module: the language model and the loss.
        validate: measures the model as it stands; None for no validation.
        order, micro_batch: of the rows; rows of a forward pass at present.
        seconds, last_loss: spent in optimizer steps so far; of the latest one.
        compiled: the model's layers, compiled or not.
        peaks: GPU memory of its parts.
        tf32: multiply float32 matrices in TensorFloat-32 on a GPU.
    """

    step_module: Step
    validate: Callable[[], dict[str, float]] | None
    order: Shuffle
    micro_batch: int
    seconds: float
    last_loss: float
    compiled: CompiledLayers | None = None
    peaks: Peaks
    tf32: bool = False

    def _get_train_sampler(self, *_: Any) -> Shuffle:
        return self.order

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validation by the actual decoder; leaves all generators as they were."""
        assert self.validate is not None, "there is no validation exam"
        self.step_module.eval()
        self.peaks.end("train")
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        compiled = self.compiled.paused() if self.compiled else nullcontext()
        with torch.random.fork_rng(devices=devices), torch.no_grad(), compiled:
            found = {f"eval_{name}": value for name, value in self.validate().items()}
        self.peaks.end("validate")
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(_of_rank(output_dir))
        ranks.wait()  # the first rank now writes the file that says that the checkpoint is whole

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(None if checkpoint is None else _of_rank(checkpoint))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if ranks.rank():
            return
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
        first = self.args.should_save and ranks.rank() == 0
        if first:  # what an earlier attempt has left there
            shutil.rmtree(folder_of(folder, step), ignore_errors=True)
        ranks.wait()
        with writing(folder_of(folder, step)):
            write()
        ranks.wait()  # each rank has written its random numbers
        if first:
            keep_only(folder, {step, self.state.best_global_step})
        ranks.wait()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_weights(self.step_module.lm, folder)
        state = json.loads((folder / STATE).read_text())
        self.step_module.batch_loss.load_state_dict(loss_state(folder))
        self.seconds, self.micro_batch = state["seconds"], state["micro_batch"]


def _of_rank(checkpoint: str) -> str:
    """The folder of a checkpoint in which this rank keeps its random generators."""
    return str(Path(checkpoint, *([f"rank-{ranks.rank()}"] if ranks.rank() else [])))


class Tuner(SelectingTrainer):
    """Trainer whose batches are row numbers.

    Args:
        step: the model and the batch_loss.
        rows: all training rows.
        validate: measures the model as it stands; None to skip.
        sampler: order of the rows.
        micro_batch: rows per forward pass to begin with.
        rate: share of the peak learning rate at a step; None for the schedule of Trainer's arguments.
        compiled: the model's layers, compiled or not.
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
        compiled: CompiledLayers | None = None,
        **rest: Any,
    ) -> None:
        self.rate, self.compiled = rate, compiled
        self._widest = 0  # rows of the largest micro-batch of this try
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
                fused=costs_of(self.step_module.lm.device).fused_optimizer or None,
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
        """One optimizer step; halves the micro-batch when memory runs out, or goes on uncompiled.

        Args:
            model: the step module.
            inputs: numbers of the rows of all ranks under ``row``.
            num_items_in_batch: not used; counts come from the loss.
        """
        started = time.perf_counter()
        model.train()
        lm, batch_loss = self.step_module.lm, self.step_module.batch_loss
        rows = [self.rows[row] for row in ranks.mine(inputs["row"])]
        count: float = batch_loss.count(rows) if rows else 0
        if ranks.size() > 1:
            count = float(ranks.summed(torch.tensor(count, dtype=torch.float64)))
        scale = 1 / max(count, 1.0)
        # a retry with smaller micro-batches has to see the loss and the random numbers of the first try
        before, chance = batch_loss.snapshot(), generators(self.args.device)
        while True:
            lm.begin_step(self.state.global_step, self.state.max_steps)
            try:
                with short_products(self.tf32):
                    total = self._accumulate(model, rows, scale)
                break
            except RuntimeError as fault:
                if out_of_memory(fault):
                    self._shrink(fault)
                elif self.compiled is None or not self.compiled.give_up(fault):
                    raise
                model.zero_grad()
                batch_loss.restore(before)
                restore_generators(chance, self.args.device)
        add_up_gradients(lm.trainable().values(), total)
        rescale_gradients(lm.trainable().values(), total, batch_loss.loss.rescale())
        self.last_loss = float(total)  # the one value of a step that the host waits for
        batch_loss.settle(lm, self.last_loss)
        self.seconds += time.perf_counter() - started
        return total

    def _accumulate(self, model: Any, rows: Sequence[Any], scale: float) -> Tensor:
        total = torch.zeros((), device=self.args.device)
        self._widest = 0
        for part in self.step_module.batch_loss.parts(rows, self.micro_batch) if rows else ():
            self._widest = max(self._widest, len(part))
            loss = model(part) * scale
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _shrink(self, fault: BaseException) -> None:
        if self.micro_batch == 1:
            raise Unavailable(
                "a single training row does not fit into the GPU's memory; use quant: 8, a shorter cutoff or "
                "a smaller backbone"
            ) from fault
        most = min(self.micro_batch, len(self.rows))
        if self.step_module.batch_loss.room:  # whose micro-batches tokens limit
            most = min(most, self._widest)
        self.micro_batch = max(1, most // 2)
        torch.cuda.empty_cache()
