"""Recipes for tuning a pretrained model, compared on validation rows.

    python -m llmrec.recipes --data data/office [--rows 320] [--valid 200] [--recipes adapters,whole]

Each recipe trains the same rows in the same order with the same loss. What is compared is how probable the
tuned model makes the next item's title among all titles: the negative log-probability under the trie's
masked softmax (MSL, Eq. 5), in nats a title, mean over validation rows. It reads every row,
where NDCG reads the few that hit, so that 200 rows tell recipes apart; and it is no training loss of the
untuned model, whose value is printed first. Differences to the first recipe are paired over rows, with
their standard error. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cell import Run
from bench.errors import BenchError
from bench.method import configure
from bench.registry import datasets, methods
from bench.types import Exam, FloatArray, Windows
from llmrec.generative._config import ZERO_SHOT
from llmrec.losses.msl import MSL
from llmrec.training.batch_loss import TokenBatchLoss

EVERY_MAP = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"lora_r": 8, "lr": 1e-4},  # as published for Llama-3-8B
    "paper_1e-3": {"lora_r": 8, "lr": 1e-3},
    "adapters_3e-4": {"lora_r": 16, "lora_alpha": 32, "lora_targets": EVERY_MAP, "lr": 3e-4},
    "adapters_1e-3": {"lora_r": 16, "lora_alpha": 32, "lora_targets": EVERY_MAP, "lr": 1e-3},
    "adapters_3e-3": {"lora_r": 16, "lora_alpha": 32, "lora_targets": EVERY_MAP, "lr": 3e-3},
    "whole_3e-5": {"lora_r": 0, "lr": 3e-5},
    "whole_1e-4": {"lora_r": 0, "lr": 1e-4},
    "whole_3e-4": {"lora_r": 0, "lr": 3e-4},
}


def as_windows(exam: Exam) -> Windows:
    """Validation rows in the form of training rows."""
    queries = exam.queries
    return Windows(
        catalogue=queries.catalogue,
        user_W=queries.user_Q,
        history=queries.history,
        target_W=exam.target_Q,
        timestamp_W=queries.timestamp_Q,
    )


def title_nll(method: Any, exam: Exam) -> FloatArray:
    """Negative log-probability of each target's title among all titles, in nats, [Q].

    Args:
        method: a fitted method whose language model writes titles.
        exam: the rows; every prompt has to fit the cutoff.
    """
    lm, trie = method.lm, method.trie
    vocabulary = min(lm.vocabulary, len(lm.tokenizer))
    options = configure(MSL, {"loss_norm": "seq_sum_mean"})
    loss = MSL(options, trie, vocabulary=vocabulary, avt=trie.avt(exam.target_Q))
    batch_loss = TokenBatchLoss(loss, trie, shared=method.prompter.shared)
    lm.eval()
    with torch.no_grad():
        rows = method.examples(as_windows(exam))
        return np.array([float(batch_loss.sum(lm, [row])) for row in rows])


def trained(train: Windows, exam: Exam, config: dict[str, Any], *, loss: str, device: str) -> Any:
    """BIGRec tuned by one recipe, without validation on the way."""
    kind = methods.get("bigrec")
    values = configure(kind, {**config, "valid_rows": 0})
    whole = kind.complete(values, loss=loss, decoder="beam")
    method = kind(whole, loss=loss, decoder="beam", backbone="smollm2-135m")
    with tempfile.TemporaryDirectory() as folder:
        method.fit(train, exam.take(np.arange(0)), Run(seed=0, device=device, folder=Path(folder)))
    return method


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="folder of a dataset: data/office")
    parser.add_argument("--rows", type=int, default=320, help="training rows, one pass")
    parser.add_argument("--valid", type=int, default=200, help="validation rows")
    parser.add_argument("--batch", type=int, default=16, help="rows an optimizer step")
    parser.add_argument("--history", type=int, help="most recent items shown; all if left out")
    parser.add_argument("--micro-batch", type=int, help="rows a forward pass; found if left out")
    parser.add_argument("--loss", default="lml", help="training loss, the same for every recipe")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="comma-separated names")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> int:
    """Print one line a recipe, as it ends."""
    asked = parsed()
    names = asked.recipes.split(",")
    if unknown := sorted(set(names) - set(RECIPES)):
        print(f"unknown recipes {unknown}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    split = datasets.get(asked.data.name)(asked.data.parent).split
    train, exam = split.train.sample(asked.rows), split.valid.sample(asked.valid)
    steps = {
        "epochs": 1,
        "batch": asked.batch,
        "micro_batch": asked.micro_batch,
        "warmup_steps": 2,
        "history": asked.history,
    }
    found: dict[str, dict[str, float]] = {}
    for name in ["untuned", *names]:
        started = time.process_time()
        loss = ZERO_SHOT if name == "untuned" else asked.loss
        method = trained(
            train, exam, {**steps, **RECIPES.get(name, {})}, loss=loss, device=asked.device
        )
        fit_seconds = time.process_time() - started
        nll_Q = title_nll(method, exam)
        if name in {"untuned", names[0]}:
            base_Q = nll_Q
        gap_Q = nll_Q - base_Q
        found[name] = {
            "nll": float(nll_Q.mean()),
            "gap": float(gap_Q.mean()),
            "standard_error": float(gap_Q.std(ddof=1) / np.sqrt(len(gap_Q))),
            "fit_cpu_seconds": fit_seconds,
        }
        numbers = found[name]
        print(
            f"{name:14} {numbers['nll']:7.3f} nats a title  {numbers['gap']:+.3f} "
            f"± {numbers['standard_error']:.3f}  fit {fit_seconds:,.0f} s",
            flush=True,
        )
    print(json.dumps({"dataset": asked.data.name, "rows": asked.rows, "recipes": found}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"error: {error}")
