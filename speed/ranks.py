"""Training on two ranks beside one process: gradients, losses and seconds.

    python -m speed.ranks [--rows 257] [--batch 128] [--backbone scratch] [--repeats 3]

Both sides train the same model on the same rows of MovieLens-100K with one thread a rank, over gloo; the last
batch is short, by default one row, so that the second rank has none. Printed for LML, MSL+ATS and S-DPO: the
largest difference between any entries of the two gradients of the first and of the last step, absolute and as
a share of the largest entry; the same of the weights at the end; and seconds of the optimizer steps, by the
wall and of the first rank's processor (what the wall would show if no other program ran), medians over paired
repeats. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.cell import Run
from bench.execution.grouping import enter_group, gather_group
from bench.method import configure
from bench.registry import datasets
from llmrec.generative._building import kept_tokens  # noqa: PLC2701 the model is built as in a cell
from llmrec.generative.bigrec import BIGRec
from llmrec.lm.backbone import SCRATCH
from llmrec.training.trainer import Tuner

LOSSES = ("lml", "msl_ats", "s_dpo")
RANKS = 2


@dataclass(frozen=True)
class Trained:
    """What a training left: gradients of its first and last step, its weights, its seconds in steps.

    Seconds are by the wall and of the processor, both of the first rank.
    """

    first: Tensor
    last: Tensor
    weights: Tensor
    seconds: tuple[float, float]


def train(loss: str, options: argparse.Namespace) -> Trained:
    """Train BIGRec for one epoch on this process, or on its share of the ranks."""
    torch.set_num_threads(1)
    gradients: list[Tensor] = []
    spent: list[tuple[float, float]] = []
    step = Tuner.training_step

    def seeing(tuner: Any, *given: Any) -> Tensor:
        before, cpu = tuner.seconds, time.process_time()
        total = step(tuner, *given)
        spent.append((tuner.seconds - before, time.process_time() - cpu))
        gradients.append(_flat(p.grad for p in tuner.step_module.lm.trainable().values()))
        return total

    data = datasets.get("ml_100k")(None).split.train.sample(options.rows)
    config = {"epochs": 1, "batch": options.batch, "micro_batch": 32, "quant": None}
    whole = BIGRec.complete(configure(BIGRec, config), loss=loss, decoder="beam")
    method = BIGRec(whole, loss=loss, decoder="beam", backbone=options.backbone)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Tuner, "training_step", seeing):
        run = Run(seed=0, device="cpu", folder=Path(folder))
        method._seed = run.seed_for("weights")
        scratch = options.backbone == SCRATCH
        method.lm = method._bare("cpu", kept_tokens(data.catalogue) if scratch else None)
        method._index(data.catalogue)
        method._training(data, run).run(method.lm, run, None)
    weights = _flat(method.lm.trainable().values())
    # the first step also waits for what is built at first use
    wall, processor = (sum(column) for column in zip(*spent[1:], strict=True))
    return Trained(gradients[0], gradients[-1], weights, (wall, processor))


def _flat(values: Any) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values]).clone()


def _child(channel: Connection, rank: int, options: argparse.Namespace) -> None:
    if rank:
        enter_group(channel.recv(), rank, RANKS, "cpu")
    loss = channel.recv()
    while loss:
        trained = train(loss, options)
        channel.send(vars(trained) if not rank else None)
        loss = channel.recv()


def _first(channel: Connection, options: argparse.Namespace) -> None:
    gather_group(RANKS, "cpu", channel.send)
    _child(channel, 0, options)


class Side:
    """Processes that train whenever they are told a loss."""

    def __init__(self, ranks: int, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.channels, self.processes = [], []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            body: Callable[..., None] = _first if ranks > 1 and rank == 0 else _child
            given = (theirs, options) if body is _first else (theirs, rank, options)
            process = context.Process(target=body, args=given)
            process.start()
            self.channels.append(ours)
            self.processes.append(process)
        if ranks > 1:
            port = self.channels[0].recv()
            for channel in self.channels[1:]:
                channel.send(port)

    def train(self, loss: str) -> Trained:
        """Train with a loss; what the first rank has in the end."""
        for channel in self.channels:
            channel.send(loss)
        first, *_ = [channel.recv() for channel in self.channels]
        return Trained(**first)

    def end(self) -> None:
        """Let the processes end."""
        for channel, process in zip(self.channels, self.processes, strict=True):
            channel.send("")
            process.join()


def _differs(one: Tensor, two: Tensor) -> tuple[float, float]:
    largest = float((one - two).abs().max())
    return largest, largest / float(one.abs().max())


def main() -> None:
    """Train on both sides and print what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=257)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--backbone", default=SCRATCH)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    alone, pair = Side(1, options), Side(RANKS, options)
    found: dict[str, Any] = {}
    for loss in LOSSES:
        ones, twos = [], []
        for _ in range(options.repeats):
            ones.append(alone.train(loss))
            twos.append(pair.train(loss))
        found[loss] = {
            name: _differs(getattr(ones[0], name), getattr(twos[0], name))
            for name in ("first", "last", "weights")
        }
        for name in ("first", "last", "weights"):
            largest, share = found[loss][name]
            print(f"{loss:8} {name:8} largest difference {largest:.1e}, {share:.1e} of the largest")
        for at, clock in enumerate(("wall", "processor")):
            one, two = (statistics.median(s.seconds[at] for s in sides) for sides in (ones, twos))
            found[loss][clock] = (one, two)
            print(f"{loss:8} {clock} seconds: one process {one:.2f}, two ranks {two:.2f}")
    for side in (alone, pair):
        side.end()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
