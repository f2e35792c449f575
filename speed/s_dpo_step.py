"""One S-DPO step against one LML step, and the shared prefix against one sequence per answer.

    python -m speed.s_dpo_step [--rows 4] [--repeats 3] [--negatives 3]

All sides train the same adapters of the same model on the same real rows in one process: forward, backward
and AdamW. ``lml`` is our own LML step; ``plain`` is S-DPO with one sequence per answer and the reference
computed in the step, as released; ``plain_cached`` takes the reference from before the training;
``shared_prefix`` computes each prompt once. Ratios are medians over paired repeats of process CPU seconds
(device seconds on a GPU); ``with_reference`` adds the reference's share of one step, computed once for all
epochs. Equality of loss and gradients is checked first. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.cell import Run
from bench.method import configure
from bench.registry import datasets, losses
from bench.types import Dataset, Windows
from llmrec.generative.bigrec import BIGRec
from llmrec.lm.backbone import Lora, load
from llmrec.preference.rows import PreferenceRow
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.setup import preference_training
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.shared_prefix import LogProbs
from speed.msl_loss import seconds
from speed.trie_search import folder

PAPER = 4.2  # S-DPO's seconds over those of MSL (Fig. 7: 315-324 % faster)


def dataset() -> Dataset:
    """Book where the data are, else MovieLens-100K inside recbole."""
    name = "book" if folder("book") is not None else "ml_100k"
    return datasets.get(name)(folder(name))


@dataclass(frozen=True)
class Sides:
    """The work of one step by name, on the same rows."""

    method: BIGRec
    lml: TokenBatchLoss
    lml_rows: list[Any]
    rows: list[PreferenceRow]
    fast: PreferenceBatchLoss
    plain: PreferenceBatchLoss
    optimizer: torch.optim.Optimizer

    def gradient(self, batch_loss: Any, rows: list[Any]) -> tuple[float, Tensor]:
        """Mean loss and the gradient of all trained weights."""
        self.optimizer.zero_grad()
        loss = batch_loss.sum(self.method.lm, rows) / batch_loss.count(rows)
        loss.backward()
        parts = [p.grad.flatten() for p in self.method.lm.trainable().values()]
        return float(loss.detach()), torch.cat(parts)

    def step(self, batch_loss: Any, rows: list[Any]) -> None:
        """One optimizer step."""
        self.gradient(batch_loss, rows)
        self.optimizer.step()

    def reference(self, batch_loss: PreferenceBatchLoss) -> Tensor:
        """Log-probabilities of all answers without gradients."""
        prompts = [row.prompt for row in self.rows]
        leaf_BJ = np.stack([row.leaf_EJ[0] for row in self.rows])
        with torch.no_grad():
            return batch_loss.log_probs(self.method.lm, prompts, leaf_BJ)[0]

    def works(self) -> dict[str, Callable[[], Any]]:
        """What is timed, by name."""
        return {
            "lml": lambda: self.step(self.lml, self.lml_rows),
            "plain": lambda: (self.reference(self.plain), self.step(self.plain, self.rows)),
            "plain_cached": lambda: self.step(self.plain, self.rows),
            "shared_prefix": lambda: self.step(self.fast, self.rows),
            "reference": lambda: self.reference(self.fast),
        }


def prepare(data: Dataset, backbone: str, n_rows: int, negatives: int) -> Sides:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train: Windows = data.split.train.sample(n_rows)
    options = {"negatives": negatives}
    config = {"lora_dropout": 0.0, "micro_batch": n_rows, "batch": n_rows, "loss_options": options}
    method = BIGRec(configure(BIGRec, config), loss="s_dpo", decoder="beam", backbone=backbone)
    method.lm = load(backbone, device=device, lora=Lora(dropout=0.0))
    method._index(data.catalogue)
    with tempfile.TemporaryDirectory() as place:
        training = preference_training(
            SDPO, method, train, Run(seed=0, device=device, folder=Path(place))
        )
    fast = training.batch_loss
    assert isinstance(fast, PreferenceBatchLoss)
    shared = fast.log_probs.shared
    plain = PreferenceBatchLoss(
        fast.loss, LogProbs(fast.loss, method.trie, shared, together=False), steps_per_epoch=1
    )
    lml = losses.get("lml")(None, method.trie, vocabulary=method.lm.vocabulary, avt=1.0)
    return Sides(
        method,
        TokenBatchLoss(lml, method.trie, shared=shared),
        method.examples(train),
        list(training.rows),
        fast,
        plain,
        torch.optim.AdamW(method.lm.parameter_groups(), lr=1e-5),
    )


def equality(sides: Sides) -> dict[str, float]:
    """Loss and gradients of both routes at the first step; compiles and warms up on the way."""
    loss, gradient = sides.gradient(sides.fast, sides.rows)
    plain_loss, plain_gradient = sides.gradient(sides.plain, sides.rows)
    tokens = {"shared_prefix_tokens": sides.fast.tokens, "plain_tokens": sides.plain.tokens}
    sides.gradient(sides.lml, sides.lml_rows)
    return {
        **tokens,
        "lml_tokens": sides.lml.tokens,
        "first_loss": loss,
        "log_of_answers": math.log(sides.rows[0].leaf_EJ.shape[1]),
        "loss_difference": abs(loss - plain_loss),
        "gradient_difference": float((gradient - plain_gradient).norm() / plain_gradient.norm()),
    }


def report(sides: Sides, repeats: int) -> dict[str, Any]:
    about: dict[str, Any] = equality(sides)
    works = sides.works()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
            print(f"{name:40} {times[name][-1]:.3f} s", flush=True)
    about["seconds"] = {name: round(statistics.median(t), 3) for name, t in times.items()}
    for name in ("plain", "plain_cached", "shared_prefix"):
        pairs = zip(times[name], times["lml"], strict=True)
        about[f"{name}_over_lml"] = round(statistics.median(a / b for a, b in pairs), 2)
    epochs = sides.fast.loss.config.epochs
    triples = zip(times["shared_prefix"], times["reference"], times["lml"], strict=True)
    amortised = [(step + once / epochs) / lml for step, once, lml in triples]
    about["shared_prefix_with_reference_over_lml"] = round(statistics.median(amortised), 2)
    pairs = zip(times["plain"], times["shared_prefix"], strict=True)
    about["times_faster"] = round(statistics.median(a / b for a, b in pairs), 2)
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = dataset()
    found = report(
        prepare(data, options.backbone, options.rows, options.negatives), options.repeats
    )
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    about = {**vars(options), "dataset": data.name, "device": machine, "paper": PAPER}
    for name, value in found.items():
        print(f"{name:40} {value}")
    print(json.dumps({**about, "s_dpo_step": found}))


if __name__ == "__main__":
    main()
