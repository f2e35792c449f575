"""What a look of the microscope costs beside an optimizer step, on real Office rows.

    python -m speed.microscope [--backbone scratch] [--batch 64] [--steps 785] [--pairs 5]

Steps and looks alternate in one process, after one unmeasured pair, with the rows that the schedule of such a
training takes. Times are process CPU seconds. The share is looks x median look / (steps x median step). The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from bench.api import default_data_root
from bench.errors import BenchError
from bench.registry import datasets
from llmrec.lm import backbone
from llmrec.lm.backbone import Backbone, Lora
from llmrec.lm.device_costs import costs_of
from llmrec.lm.names import SCRATCH
from llmrec.losses.msl_ats import MSLATS
from llmrec.prompt import Prompter, all_texts
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.microscope import look, schedule
from llmrec.training.packing import Example
from llmrec.trie import for_titles

TARGET = 0.02


def setting(name: str, batch: int) -> tuple[Backbone, TokenBatchLoss, list[Example]]:
    """A model, the loss and the rows of one optimizer step."""
    office = datasets.get("office")(default_data_root())
    if name == SCRATCH:
        lm = backbone.scratch(all_texts(office.catalogue), seed=0)
    else:
        lm = backbone.load(name, lora=Lora(dropout=0.05), seed=0)
    trie = for_titles(office.catalogue.titles, lm.tokenizer)
    prompter = Prompter(office.catalogue, lm.tokenizer)
    train = office.split.train.sample(batch)
    rows = [
        Example(prompter.prompt(history, training=True), int(trie.leaf_of_item_N[target]))
        for history, target in zip(train.history, train.target_W, strict=True)
    ]
    loss = MSLATS(None, trie, vocabulary=lm.vocabulary, avt=trie.avt(train.target_W))
    return lm, TokenBatchLoss(loss, trie, shared=prompter.shared), rows


def step(lm: Backbone, batch_loss: TokenBatchLoss, rows: list[Example]) -> float:
    """CPU seconds of the forward and backward passes of an optimizer step."""
    started = time.process_time()
    lm.train().zero_grad()
    count = batch_loss.count(rows)
    for part in batch_loss.parts(rows, costs_of("cpu").micro_batch):
        (batch_loss.sum(lm, part) / count).backward()
    batch_loss.step()
    return time.process_time() - started


def looked(lm: Backbone, batch_loss: TokenBatchLoss, rows: list[Example]) -> float:
    """CPU seconds of a look with everything in it."""
    started = time.process_time()
    look(lm.eval(), batch_loss, rows)
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default=SCRATCH)
    parser.add_argument("--batch", type=int, default=64, help="rows of an optimizer step")
    parser.add_argument("--steps", type=int, default=785, help="steps of the training meant")
    parser.add_argument("--pairs", type=int, default=5, help="measured pairs")
    options = parser.parse_args()
    try:
        lm, batch_loss, rows = setting(options.backbone, options.batch)
    except BenchError as fault:
        print(json.dumps({"microscope": None, "left_out": str(fault)}))
        return 0
    n_rows, at = schedule(options.batch, options.steps, 0)
    pairs = [
        (step(lm, batch_loss, rows), looked(lm, batch_loss, rows[:n_rows]))
        for _ in range(options.pairs + 1)
    ][1:]
    steps, looks = (statistics.median(column) for column in zip(*pairs, strict=True))
    share = len(at) * looks / (options.steps * steps)
    result = {
        "backbone": options.backbone,
        "rows_of_a_step": options.batch,
        "rows_of_a_look": n_rows,
        "steps": options.steps,
        "looks": len(at),
        "step_seconds": round(steps, 4),
        "look_seconds": round(looks, 4),
        "share_of_step_time": round(share, 5),
        "target": TARGET,
    }
    print(json.dumps({"microscope": result}))
    return 0 if share < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
