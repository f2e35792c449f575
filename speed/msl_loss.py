"""Masked softmax without the vocabulary, against the released dense form, on real titles.

    python -m speed.msl_loss [--quick]

Both compute the loss of 512 answer tokens and the gradient of the hidden states, in pairs in one run.
Dense is what the authors' script does with the same rows: logits of all tokens, minus infinity where a
boolean [tokens x V] mask says so, then exp, sum, log; its mask is made beforehand and not counted. Times
are medians of process CPU seconds (device seconds on a GPU); memory is the allocator's own peak above
the inputs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import Unavailable
from llmrec.lm import llama3_tokens
from llmrec.lm.head import Head
from llmrec.losses import Answers
from llmrec.losses._valid import fan_out, plan  # noqa: PLC2701 the plan is part of what is measured
from llmrec.losses.msl import msl
from llmrec.trie import Trie, for_titles
from speed.avt import data_folder, read_targets, read_titles

ROWS = 512
SIZES = ((576, 49_152), (1024, 128_256))


class Pieces:
    """Words and signs as tokens, for a machine without a real tokenizer."""

    eos_token_id = 0

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {"<end>": 0}

    def __call__(self, texts: list[str], *, add_special_tokens: bool = False) -> dict[str, Any]:
        """Token ids of each text."""
        cut = [re.findall(r'"?\w{1,6}|\s?\W', text) for text in texts]
        known = self.vocabulary
        return {
            "input_ids": [[known.setdefault(piece, len(known)) for piece in row] for row in cut]
        }

    def get_vocab(self) -> dict[str, int]:
        """The pieces seen so far."""
        return self.vocabulary


def titles_and_targets() -> tuple[str, list[str], np.ndarray]:
    """Book where the data are, else the titles of ml-100k inside recbole."""
    book = data_folder() / "book"
    if book.is_dir():
        return "book", read_titles(book), read_targets(book / "train_10000.csv")
    import recbole

    items = Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.item"
    lines = items.read_text(encoding="utf-8").splitlines()[1:]
    titles = ["", *(line.split("\t")[1] for line in lines)]
    return "ml-100k", titles, np.random.default_rng(0).integers(1, len(titles), 10_000)


def small_ids(trie: Trie, vocabulary: int) -> Trie:
    """The same trie with its tokens spread over a smaller vocabulary; no fan-out changes."""
    if int(trie.token_E.max()) < vocabulary:
        return trie
    used = np.unique(trie.token_E)
    spread = np.sort(np.random.default_rng(0).choice(vocabulary, len(used), replace=False))
    answers = spread[np.searchsorted(used, trie.answer.values)]
    paths = np.split(answers, trie.answer.offsets[1:-1])
    item_paths = [paths[leaf] for leaf in trie.leaf_of_item_N[1:]]
    return Trie.of(item_paths, int(spread[np.searchsorted(used, trie.eos)]))


def dense(hidden_RD: Tensor, weight_VD: Tensor, token_R: Tensor, mask_RV: Tensor) -> Tensor:
    """The released form: mean over rows of log(sum over the mask of exp f) - f(y)."""
    logits_RV = (hidden_RD @ weight_VD.T).contiguous()
    positive_R = logits_RV.gather(1, token_R[:, None])[:, 0].exp()
    masked_RV = logits_RV.masked_fill(~mask_RV, float("-inf"))
    return (masked_RV.exp().sum(1).log() - positive_R.log()).mean()


def dense_mask(trie: Trie, answers: Answers, vocabulary: int) -> Tensor:
    mask_RV = torch.zeros(len(answers), vocabulary, dtype=torch.bool)
    for row, node in enumerate(answers.node_R.tolist()):
        mask_RV[row, torch.from_numpy(trie.children(node)[0]).long()] = True
    return mask_RV


def peak_bytes(work: Callable[[], Any]) -> int:
    """Most memory alive at a time above what was alive before, by the allocator's own record."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    steps = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([size for _, size in steps]).max())


def seconds(work: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return time.process_time() - start


@dataclass(frozen=True)
class Pair:
    """The same loss and gradient twice."""

    dense: Callable[[], tuple[Tensor, Tensor]]
    sparse: Callable[[], tuple[Tensor, Tensor]]
    facts: dict[str, float]


def prepare(trie: Trie, targets: np.ndarray, width: int, vocabulary: int) -> Pair:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    trie = small_ids(trie, vocabulary)
    leaves = trie.leaf_of_item_N[targets[:ROWS]]
    answers = Answers.of(trie, leaves).take(torch.arange(ROWS))
    mask_RV = dense_mask(trie, answers, vocabulary).to(device)
    answers = answers.to(torch.device(device))
    weight_VD = torch.randn(vocabulary, width, device=device) / width**0.5
    hidden_RD = torch.randn(ROWS, width, device=device, requires_grad=True)
    fan_out_R = fan_out(trie, answers.node_R)
    choice = fan_out_R > 1
    blocks = plan(trie, answers.token_R[choice], answers.node_R[choice])

    def with_gradient(loss: Tensor) -> tuple[Tensor, Tensor]:
        return loss.detach(), torch.autograd.grad(loss, hidden_RD)[0]

    return Pair(
        lambda: with_gradient(dense(hidden_RD, weight_VD, answers.token_R, mask_RV)),
        lambda: with_gradient(msl(hidden_RD, Head(weight_VD), answers, trie).mean()),
        {
            "avt": round(float(fan_out_R.float().mean()), 2),
            "rows_with_choice": int(choice.sum()),
            "blocks": len(blocks),
            "gathered_tokens": sum(len(block.token_U) for block in blocks),
            "dense_mask_mib": round(mask_RV.numel() / 2**20, 1),
        },
    )


def measure(trie: Trie, targets: np.ndarray, size: tuple[int, int], pairs: int) -> dict[str, Any]:
    pair = prepare(trie, targets, *size)
    loss_dense, gradient_dense = pair.dense()
    loss_sparse, gradient_sparse = pair.sparse()
    for _ in range(3):
        pair.sparse()
    timed = [
        (seconds(pair.dense), statistics.median(seconds(pair.sparse) for _ in range(9)))
        for _ in range(pairs)
    ]
    difference = (gradient_dense - gradient_sparse).norm() / gradient_dense.norm()
    dense_mib, sparse_mib = (peak_bytes(work) / 2**20 for work in (pair.dense, pair.sparse))
    return {
        "size": f"{size[0]}x{size[1]}",
        **pair.facts,
        "dense_ms": round(1e3 * statistics.median(a for a, _ in timed), 2),
        "sparse_ms": round(1e3 * statistics.median(b for _, b in timed), 2),
        "times_faster": round(statistics.median(a / b for a, b in timed), 1),
        "dense_mib": round(dense_mib, 1),
        "sparse_mib": round(sparse_mib, 2),
        "times_smaller": round(dense_mib / sparse_mib, 1),
        "loss": round(float(loss_dense), 6),
        "loss_difference": float((loss_dense - loss_sparse).abs()),
        "gradient_difference": float(difference),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair of the smaller size")
    quick = parser.parse_args().quick
    name, titles, targets = titles_and_targets()
    try:
        tokenizer, cut_by = llama3_tokens.load(), "llama-3"
    except Unavailable:
        tokenizer, cut_by = Pieces(), "words"
    trie = for_titles(titles, tokenizer)
    sizes = SIZES[:1] if quick else SIZES
    rows = [measure(trie, targets, size, 1 if quick else 5) for size in sizes]
    for key in rows[0]:
        print(f"{key:20}", *(f"{row[key]!s:>24}" for row in rows))
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    about = {"titles": name, "tokenizer": cut_by, "device": machine}
    print(json.dumps({**about, "threads": torch.get_num_threads(), "msl_loss": rows}))


if __name__ == "__main__":
    main()
