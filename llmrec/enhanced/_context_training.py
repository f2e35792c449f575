"""Training and ranking where a user vector needs more than the history: examples and the user's place.

The suite's trainer ranks by history alone; here the validation queries go through retrieval first. All else
(batches, checkpoints, resume, choice of the epoch) is the suite's.

Axes: Q queries, C examples, B batch, N items, K list.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from baselines import _recbole as rb
from baselines.training import BLOCK, Batches, Course, ExamTrainer, block
from bench import metrics
from bench.types import Exam, IntArray, Ragged, Ranking

Ask = Callable[[int], Ranking]


class ContextTrainer(ExamTrainer):
    """The suite's trainer with another way to rank the validation queries."""

    ask: Ask

    def _valid_epoch(self, valid_data: Exam, show_progress: bool = False) -> tuple[float, Any]:
        found = metrics.evaluate(
            self.ask(metrics.K), valid_data, train_count=self.course.train_count
        )
        return found["ndcg@5"], found


def train(
    model: Any, config: rb.Settings, dataset: rb.ArrayDataset, course: Course, ask: Ask
) -> None:
    """Train ``model`` in place up to its best epoch; as ``baselines.training.train``.

    Args:
        model: the module.
        config: RecBole's.
        dataset: training rows.
        course: validation, batch size, surroundings.
        ask: the model's ranking of the validation queries, by list length.

    Raises:
        ContractError: the loss is not finite.
    """
    trainer = ContextTrainer(config, model, course)
    trainer.ask = ask
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
    facts = {
        "epochs": max(trainer.train_loss_dict, default=trainer.start_epoch - 1) + 1,
        "best_epoch": trainer.best["epoch"] + 1,
        "valid_ndcg@5": trainer.best["metrics"]["ndcg@5"],
        "parameters_total": sum(p.numel() for p in model.parameters()),
    }
    course.run.facts.update(facts)


@torch.inference_mode()
def rank(
    model: Any, history: Ragged, user_Q: IntArray, example_QC: IntArray, k: int, width: int
) -> Ranking:
    """The ``k`` best items for each query, in blocks of one shape.

    Args:
        model: an ``InContextModel``.
        history: items seen before.
        user_Q: users' places, 0 unknown.
        example_QC: retrieved entries.
        k: length of the lists.
        width: longest history read.
    """
    device = next(model.parameters()).device
    model.eval()
    item_QK = np.zeros((len(history), k), np.int32)
    score_QK = np.full((len(history), k), -np.inf, np.float32)
    feature_MD = model.all_features()
    for start in range(0, len(history), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(history)))
        item_BH, length_B = block(history, rows, width, device)
        padded = np.pad(rows, (0, BLOCK - len(rows)), mode="edge")
        user_B, example_BC = (
            torch.from_numpy(np.ascontiguousarray(x[padded])).to(device)
            for x in (user_Q, example_QC)
        )
        user_BD, _ = model.informed(item_BH, length_B, user_B, example_BC, feature_MD)
        score_BN = F.pad(model.logits(user_BD), (1, 0), value=-torch.inf)[: len(rows)]
        best = score_BN.topk(min(k, model.n_items - 1))
        item_QK[rows, : best.indices.shape[1]] = best.indices.cpu().numpy()
        score_QK[rows, : best.values.shape[1]] = best.values.cpu().numpy()
    return Ranking(item_QK, score_QK)
