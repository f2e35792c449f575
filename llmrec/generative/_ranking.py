"""From histories to prompts and training rows, and from decoded answers to rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bench.errors import DataError
from bench.types import BoolArray, Queries, Ranking, Windows
from llmrec.decode.base import Decoded
from llmrec.generative._config import GenerativeConfig
from llmrec.prompt import Prompt, Prompter, TooLong
from llmrec.training.packing import Example
from llmrec.trie import Trie


def shown(history: Any, most: int | None) -> list[int]:
    """The last ``most`` items of a history; None for all.

    Args:
        history: item ids, oldest first.
        most: at most this many; None for all.
    """
    return [int(item) for item in history][-(most or len(history)) :]


def prompts_for(
    prompter: Prompter, queries: Queries, most: int | None
) -> tuple[list[Prompt], BoolArray]:
    """Prompts of all queries that fit the cutoff, and which ones do, bool [Q].

    Args:
        prompter: makes the prompts.
        queries: histories.
        most: latest items shown; None for all.
    """
    prompts: list[Prompt] = []
    fits_Q = np.zeros(len(queries), bool)
    for query, history in enumerate(queries.history):
        try:
            prompts.append(prompter.prompt(shown(history, most)))
            fits_Q[query] = True
        except TooLong:
            continue  # counted as a miss through failed_Q
    return prompts, fits_Q


def examples_of(
    prompter: Prompter, trie: Trie, train: Windows, config: GenerativeConfig
) -> list[Example]:
    """Training rows as prompts with the leaf of their answer.

    With ``cut_answers`` an over-long row keeps what fits of its answer, and is left out if nothing does.

    Args:
        prompter: makes the prompts.
        trie: the catalogue.
        train: training rows.
        config: history length and what happens to long rows.

    Raises:
        DataError: a row that does not fit the cutoff even with the beginnings of one title and the answer.
    """
    leaf_W = trie.leaf_of_item_N[train.target_W]
    rows = []
    for row, history in enumerate(train.history):
        length = int(trie.answer.lengths[leaf_W[row]])
        items, keep = shown(history, config.history), None
        try:
            prompt = prompter.prompt(items, training=True, answer=length)
        except TooLong:
            prompt = _beside_long_answer(prompter, items, row)
            keep = min(length, config.cutoff - len(prompt))
        rows.append(Example(prompt, int(leaf_W[row]), keep, number=row))
    if not config.cut_answers:
        return rows
    room = [config.cutoff - len(row.prompt) for row in rows]
    return [replace(row, keep=left) for row, left in zip(rows, room, strict=True) if left > 0]


def _beside_long_answer(prompter: Prompter, items: list[int], row: int) -> Prompt:
    """A prompt that leaves room for the beginning of an answer where there is none for all of it."""
    try:
        return prompter.prompt(items, training=True, answer=prompter.cutoff // 4)
    except TooLong as fault:
        raise DataError(f"training row {row}: {fault}; raise cutoff ({prompter.cutoff})") from fault


def as_ranking(
    decoded: Decoded, fits_Q: BoolArray, trie: Trie, k: int, facts: Mapping[str, Any]
) -> Ranking:
    """Lists of item ids: each answer is named by its smallest item id.

    Args:
        decoded: lists of the queries that had a prompt.
        fits_Q: which queries those are; the others are failed.
        trie: what the leaves stand for.
        k: width of the lists; what the catalogue cannot fill is 0.
        facts: numbers to add to the decoder's own.
    """
    width = decoded.leaf_QK.shape[1]
    first = trie.leaf_items.values[trie.leaf_items.offsets[:-1]]
    item_QK = np.zeros((len(fits_Q), k), np.int32)
    score_QK = np.full((len(fits_Q), k), -np.inf, np.float32)
    item_QK[fits_Q, :width] = np.where(decoded.leaf_QK >= 0, first[decoded.leaf_QK], 0)
    score_QK[fits_Q, :width] = decoded.score_QK
    failed_Q = ~fits_Q
    failed_Q[fits_Q] = decoded.failed_Q
    certified_Q = None
    if decoded.certified_Q is not None:
        certified_Q = np.zeros(len(fits_Q), bool)
        certified_Q[fits_Q] = decoded.certified_Q
    return Ranking(item_QK, score_QK, certified_Q, failed_Q, facts={**facts, **decoded.facts})
