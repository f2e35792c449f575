"""Title search side by side: ours against transformers' own, and the exact search against both.

    python -m speed.trie_search --users 16 --dataset book --backbone smollm2-135m

Every pair runs in one process on the same users and is checked for equal results before it is timed as
a ratio; CPU seconds are the ones to read on a shared machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bench.registry import datasets
from bench.types import Dataset
from llmrec.decode.base import Decoded, Decoder
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.decode.regret import beam_regret
from llmrec.decode.scoring import score_all
from llmrec.lm.backbone import Backbone, load
from llmrec.prompt import Prompt, Prompter
from llmrec.trie import Trie, for_titles

T = TypeVar("T")
K = 10
UNAUDITED = Beam({"audit": 0})  # the clock is for the search alone


@dataclass(frozen=True)
class Task:
    """What is searched: a model, its prompts and the catalogue."""

    lm: Backbone
    prompts: list[Prompt]
    trie: Trie
    target_Q: Any

    def few(self, n: int) -> Task:
        """The first users only."""
        return Task(self.lm, self.prompts[:n], self.trie, self.target_Q[:n])


def clock(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run once; the result, and wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def timed(decoder: Decoder, task: Task) -> tuple[Decoded, dict[str, float]]:
    """Decode the task's users with one decoder."""
    return clock(lambda: decoder(task.lm, task.prompts, task.trie, K))


def pair(task: Task, *, space: str, length_penalty: float) -> dict[str, Any]:
    """Ten beams under one scoring rule, ours against transformers'."""
    theirs_options = {"length_penalty": length_penalty, "renormalize": space == "valid"}
    ours, our_time = timed(
        Beam({"space": space, "length_penalty": length_penalty, "audit": 0}), task
    )
    theirs, their_time = timed(Generate(theirs_options), task)
    real = (ours.leaf_QK >= 0) & (theirs.leaf_QK >= 0)
    gap = np.abs(np.where(real, ours.score_QK, 0) - np.where(real, theirs.score_QK, 0))
    return {
        "users": len(task.prompts),
        "same_ordered_lists": int((ours.leaf_QK == theirs.leaf_QK).all(1).sum()),
        "largest_score_gap": float(gap.max()),
        "ours": our_time,
        "transformers": their_time,
        "times_faster_cpu": their_time["cpu_s"] / our_time["cpu_s"],
        "times_faster_wall": their_time["wall_s"] / our_time["wall_s"],
        "tree_tokens_per_user": ours.facts["tree_tokens_per_user"],
        "steps": ours.facts["decode_steps"],
    }


def exact_pair(task: Task, n_whole: int) -> dict[str, Any]:
    """The exact search against ten beams in time, and against the whole catalogue in result."""
    found, exact_time = timed(Exact(), task)
    _, beam_time = timed(UNAUDITED, task)
    few = task.few(n_whole)
    whole_QL, whole_time = clock(lambda: score_all(few.lm, few.prompts, few.trie))
    best_QK = np.argsort(-whole_QL, axis=1, kind="stable")[:, :K]
    return {
        "users": len(task.prompts),
        "exact": exact_time,
        "beam": beam_time,
        "cost_of_exact_over_beam_cpu": exact_time["cpu_s"] / beam_time["cpu_s"],
        "certified_share": found.facts["certified_share"],
        "expansions_per_user": found.facts["expansions_per_user"],
        "tree_tokens_per_user": found.facts["tree_tokens_per_user"],
        "whole_catalogue_users": n_whole,
        "whole_catalogue": whole_time,
        "same_as_whole_catalogue": int((found.leaf_QK[:n_whole] == best_QK).all(1).sum()),
        "probability_total": [float(p) for p in np.exp(whole_QL).sum(1)],
    }


def make_task(dataset: Dataset, backbone: str, n_users: int) -> Task:
    """The first sampled test users of a dataset, for one backbone."""
    lm = load(backbone, device="cuda" if torch.cuda.is_available() else "cpu")
    exam = dataset.split.test.sample(n_users)
    prompter = Prompter(dataset.catalogue, lm.tokenizer)
    prompts = [prompter.prompt(history) for history in exam.queries.history]
    trie = for_titles(dataset.catalogue.titles, lm.tokenizer)
    return Task(lm, prompts, trie, trie.leaf_of_item_N[exam.target_Q])


def folder(name: str) -> Path | None:
    """BENCH_DATA, else a ``shared/data`` beside the repository, else None for the usual place."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if "BENCH_DATA" in os.environ or not (beside / name).is_dir():
        return None
    return beside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--whole", type=int, default=1, help="users scored on every title")
    parser.add_argument("--dataset", default="book")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = datasets.get(options.dataset)(folder(options.dataset))
    task = make_task(dataset, options.backbone, options.users)
    report: dict[str, Any] = {**vars(options), "k": K, "beams": K}
    timed(UNAUDITED, task.few(1))  # warm caches before the clock starts
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "exact": lambda: exact_pair(task, min(options.whole, options.users)),
        "regret_of_10_beams": lambda: beam_regret(
            task.lm, task.prompts, task.trie, K, beam=UNAUDITED, target_Q=task.target_Q
        ),
        "released_rule": lambda: pair(task, space="full", length_penalty=1.0),
        "restricted_rule": lambda: pair(task, space="valid", length_penalty=0.0),
    }
    for name, stage in stages.items():
        report[name] = stage()
        print(name, json.dumps(report[name], indent=1), flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
