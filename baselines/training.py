"""Training by RecBole's Trainer, with our batches, our validation and a resume that is exact.

Axes: B batch, W training rows, H history, N items, K list.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines import _recbole as rb
from baselines.checkpoints import load_state, save_state
from bench.cell import SELECT_BY, K, Run
from bench.errors import ContractError
from bench.evaluation import metrics
from bench.types import Exam, IntArray, Ragged, Ranking

BLOCK = 512  # histories scored at a time
CHECKPOINT = "checkpoint.pt"
Scores = Callable[[IntArray, Tensor, Tensor], Tensor]


def columns(history: Ragged, target: Any, width: int) -> dict[str, Tensor]:
    """The fields of a RecBole dataset, without rows whose history is empty.

    Args:
        history: the items that a row's ``item_id_list`` shall hold; the last ``width`` are kept.
        target: the items that follow, int [W].
        width: length of ``item_id_list``.
    """
    row = np.flatnonzero(history.lengths > 0)
    kept = history if len(row) == len(history) else history.take(row)
    return {
        rb.HISTORY: torch.from_numpy(kept.padded(width, align="left").astype(np.int64)),
        rb.LENGTH: torch.from_numpy(np.minimum(kept.lengths, width).astype(np.int64)),
        rb.ITEM: torch.from_numpy(np.asarray(target)[row].astype(np.int64)),
        rb.ROW: torch.from_numpy(row.astype(np.int64)),
    }


class Batches:
    """The rows of a dataset in an order that depends on the seed and the epoch only.

    Yields RecBole Interactions (``item_id_list``, ``item_length``, ``item_id``, and ``row``, the number of
    the training row) to which the model's ``draw`` has added what it needs. All tensors stay on the device.

    Attributes:
        epoch: set before each pass.
    """

    shuffle = True

    def __init__(self, dataset: rb.ArrayDataset, model: Any, *, size: int, seed: int) -> None:
        self.dataset, self.model, self.size, self.seed, self.epoch = dataset, model, size, seed, 0

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.size)

    def __iter__(self) -> Iterator[Any]:
        rng = np.random.default_rng([self.seed, self.epoch])
        fields = self.dataset.inter_feat.interaction
        device = next(iter(fields.values())).device
        order = torch.from_numpy(rng.permutation(len(self.dataset))).to(device)
        for rows_B in order.split(self.size):
            batch = rb.Interaction({name: column[rows_B] for name, column in fields.items()})
            yield self.model.draw(batch, self.dataset, rng)


@torch.inference_mode()
def rank(model: Any, history: Ragged, k: int, width: int, scores: Scores | None = None) -> Ranking:
    """The ``k`` best items for each history.

    Blocks always have the same shape, so that a list does not depend on which others are asked for.

    Args:
        model: has ``scores(item_BH, length_B) -> [B, N + 1]``.
        history: items seen before; the last ``width`` are used.
        k: length of the lists.
        width: longest history of the model.
        scores: instead of the model's own where they depend on the query beyond its history: called
            with the queries' numbers ``[B]``, item_BH and length_B.
    """
    device = next(model.parameters()).device
    model.eval()
    item_QK = np.zeros((len(history), k), np.int32)
    score_QK = np.full((len(history), k), -np.inf, np.float32)
    for rows, padded in blocks(len(history)):
        inputs = block(history, padded, width, device)
        score_BN = scores(padded, *inputs) if scores else model.scores(*inputs)
        best = score_BN[: len(rows)].topk(min(k, model.n_items - 1))
        item_QK[rows, : best.indices.shape[1]] = best.indices.cpu().numpy()
        score_QK[rows, : best.values.shape[1]] = best.values.cpu().numpy()
    return Ranking(item_QK, score_QK)


def blocks(n_rows: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Row numbers in blocks, and each block again, filled up to BLOCK with copies of its last row."""
    for start in range(0, n_rows, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n_rows))
        yield rows, np.pad(rows, (0, BLOCK - len(rows)), mode="edge")


def block(history: Ragged, rows: IntArray, width: int, device: Any) -> tuple[Tensor, Tensor]:
    """Histories number ``rows`` as left-aligned tensors: their last items [B, width], lengths [B]."""
    part = history.take(rows)
    length_B = np.clip(part.lengths, 1, width)  # an empty history is read as one padding item
    item_BH = torch.from_numpy(part.padded(width, align="left").astype(np.int64))
    return item_BH.to(device), torch.from_numpy(length_B.astype(np.int64)).to(device)


@torch.inference_mode()
def encode(model: Any, history: Ragged, width: int) -> npt.NDArray[np.float32]:
    """User vectors of the module, float32 [Q, D].

    Args:
        model: has ``encode(item_BH, length_B) -> [B, D]``.
        history: items seen before; the last ``width`` are used.
        width: longest history of the model.
    """
    device = next(model.parameters()).device
    model.eval()
    parts = [np.zeros((0, model.hidden_size), np.float32)]
    for rows, padded in blocks(len(history)):
        user_BD = model.encode(*block(history, padded, width, device))
        parts.append(user_BD[: len(rows)].cpu().float().numpy())
    return np.concatenate(parts)


def seed_everything(seed: int) -> None:
    """Seed torch (dropout) and Python (RecBole's own masks)."""
    torch.manual_seed(seed)
    random.seed(seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What a training needs besides the model.

    Attributes:
        valid: chooses the epoch.
        train_count: occurrences by item in training, for the scorer, int [N + 1].
        width: longest history.
        batch_size: rows a step.
        run: seeds, folder, progress.
        ask: the lists for the validation queries, by list length; None to rank by history alone.
    """

    valid: Exam
    train_count: Any
    width: int
    batch_size: int
    run: Run
    ask: Callable[[int], Ranking] | None = None


class Best(TypedDict):
    """The best epoch so far: number (-1 before the first), validation metrics, and weights."""

    epoch: int
    metrics: dict[str, float]
    state: dict[str, Tensor]


class ExamTrainer(rb.Trainer):  # type: ignore[misc]  # RecBole has no types
    """RecBole's Trainer that validates by the suite's scorer and can be killed at any time.

    Attributes:
        best: state of the best epoch so far, with its metrics and number.
    """

    def __init__(self, config: rb.Settings, model: Any, course: Course) -> None:
        super().__init__(config, model)
        self.course = course
        self.best: Best = {"epoch": -1, "metrics": {}, "state": {}}
        self.path = Path(config["checkpoint_dir"]) / CHECKPOINT

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        if self.learner != "adam" or self.model.as_recbole:
            return super()._build_optimizer(**kwargs)
        return torch.optim.Adam(
            self.model.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def _train_epoch(self, train_data: Batches, epoch_idx: int, **kwargs: Any) -> float:
        train_data.epoch = epoch_idx
        return super()._train_epoch(train_data, epoch_idx)

    def _check_nan(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise ContractError(
                f"{type(self.model).__name__}: the training loss is {loss.item()}; lower the learning rate"
            )

    def _valid_epoch(self, valid_data: Exam, show_progress: bool = False) -> tuple[float, Any]:
        course, history = self.course, valid_data.queries.history
        ranking = course.ask(K) if course.ask else rank(self.model, history, K, course.width)
        found = metrics.evaluate(ranking, valid_data, train_count=course.train_count)
        return found[SELECT_BY], found

    def after_epoch(self, epoch: int, score: float) -> None:
        """Keep the best weights, write the checkpoint and report progress; called by RecBole.

        Args:
            epoch: its number, from 0.
            score: NDCG@5 on the validation rows.
        """
        if self.cur_step == 0:
            state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self.best = {"epoch": epoch, "metrics": self.best_valid_result, "state": state}
        self._write(epoch)
        loss = self.train_loss_dict[epoch]
        self.course.run.progress(epoch + 1, self.epochs, ndcg5=score, loss=loss)

    def _write(self, epoch: int) -> None:
        state = {
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": [s.cpu() for s in torch.cuda.get_rng_state_all()],
            "python": random.getstate(),
        }
        save_state(self.path, state)

    def resume(self) -> None:
        """Continue where the checkpoint of this folder stopped, if there is one."""
        state = load_state(self.path, self.device)
        if state is None:
            return
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score, self.best = state["best_valid_score"], state["best"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
        # a checkpoint holds lists where Python's generator wants tuples
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))

    @property
    def stopped(self) -> bool:
        """Whether the training that was resumed had ended already."""
        return self.cur_step > self.stopping_step or self.start_epoch >= self.epochs


def train(model: Any, config: rb.Settings, dataset: rb.ArrayDataset, course: Course) -> None:
    """Train ``model`` in place up to its best epoch by validation NDCG@5 (title identity).

    Per epoch a checkpoint is written to the run's folder; a killed training that is started again ends in the
    same weights as an uninterrupted one (bit for bit on a CPU). ``run.facts`` gets ``epochs``,
    ``best_epoch`` (both from 1), ``valid_ndcg@5`` and ``parameters_total``.

    Args:
        model: the torch module.
        config: RecBole's configuration.
        dataset: training rows.
        course: validation, batch size, seeds and folder.

    Raises:
        ContractError: the loss is not finite.
    """
    trainer = ExamTrainer(config, model, course)
    config.check_all_read()
    trainer.resume()
    batches = Batches(dataset, model, size=course.batch_size, seed=course.run.seed_for("batches"))
    if not trainer.stopped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # RecBole's torch.cuda.amp.GradScaler
            trainer.fit(
                batches, course.valid, verbose=False, saved=False, callback_fn=trainer.after_epoch
            )
    model.load_state_dict(trainer.best["state"])
    course.run.facts.update(
        {
            "epochs": max(trainer.train_loss_dict, default=trainer.start_epoch - 1) + 1,
            "best_epoch": trainer.best["epoch"] + 1,
            f"valid_{SELECT_BY}": trainer.best["metrics"][SELECT_BY],
            "parameters_total": sum(p.numel() for p in model.parameters()),
        }
    )
