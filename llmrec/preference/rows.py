"""Rows of a preference training: a prompt, the answer that was chosen and several that were not.

W rows, E draws of negatives, J = 1 + K answers a row (the positive first), N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import ConfigError, DataError
from bench.types import FloatArray, IntArray, Windows
from llmrec.preference.base import NegativesConfig
from llmrec.prompt import Prompt, TooLong
from llmrec.training.documents import Room
from llmrec.trie import Trie

if TYPE_CHECKING:
    from llmrec.generative._generative import Generative


@dataclass(frozen=True, eq=False)
class PreferenceRow:
    """One training row.

    Attributes:
        prompt: the prompt.
        leaf_EJ: its answers for each draw, the positive first.
        reference_EJ: their log-probabilities under the reference, or None where they are not needed.
        number: of the training row, for messages.
    """

    prompt: Prompt
    leaf_EJ: IntArray
    reference_EJ: FloatArray | None = None
    number: int = -1


def negatives(
    train: Windows, trie: Trie, config: NegativesConfig, *, seed: int, epoch: int = 0
) -> IntArray:
    """Negative titles for each training row, as leaves of the trie, [W, K].

    Drawn without replacement from the titles that are neither the target nor in the history; row ``w`` of
    an epoch depends on (seed, epoch, w) alone. Items with equal titles share a leaf.

    Args:
        train: training rows.
        trie: the catalogue.
        config: how many negatives, and how they are drawn.
        seed: of the draws.
        epoch: number of the epoch, from 0; 0 where negatives are drawn once.

    Raises:
        ConfigError: a row has fewer than K titles left.
    """
    leaf_N = trie.leaf_of_item_N.astype(np.int64)
    name_N = leaf_N if config.class_aware else np.arange(len(leaf_N)) - 1
    leaf_of_name = np.arange(trie.n_leaves) if config.class_aware else leaf_N[1:]
    weight = None
    if config.sampling == "popularity":
        weight = np.bincount(name_N[train.target_W], minlength=len(leaf_of_name)) + 1.0
    drawn_WK = np.empty((len(train), config.negatives), np.int64)
    free = np.ones(len(leaf_of_name), bool)
    for row, history in enumerate(train.history):
        taken = name_N[[*history, train.target_W[row]]]
        free[taken] = False
        left = np.flatnonzero(free)
        free[taken] = True
        if len(left) < config.negatives:
            raise ConfigError(
                f"training row {row} has {len(left)} titles left for {config.negatives} negatives; "
                "lower the loss option negatives"
            )
        share = None if weight is None else weight[left] / weight[left].sum()
        # a generator of its own, so that a row's negatives do not depend on the other rows
        chance = np.random.default_rng([seed, epoch, row])
        drawn_WK[row] = chance.choice(left, config.negatives, replace=False, p=share)
    return leaf_of_name[drawn_WK].astype(np.int64)


def preference_rows(
    method: Generative, train: Windows, config: NegativesConfig, *, seed: int, epochs: int
) -> list[PreferenceRow]:
    """Training rows with their answers for every draw.

    Args:
        method: makes the prompts; knows the catalogue.
        train: training rows.
        config: number of negatives, and whether they are drawn anew each epoch.
        seed: of the draws.
        epochs: passes over the rows.

    Raises:
        ConfigError: too few titles for the negatives.
        DataError: a row that does not fit the cutoff even with one history item.
    """
    draws = epochs if config.resample == "epoch" else 1
    trie = method.trie
    positive_W1 = trie.leaf_of_item_N[train.target_W].astype(np.int64)[:, None]
    leaf_EWJ = np.stack(
        [
            np.concatenate([positive_W1, negatives(train, trie, config, seed=seed, epoch=e)], 1)
            for e in range(draws)
        ]
    )
    longest_W = np.asarray(trie.answer.lengths)[leaf_EWJ].max((0, 2))
    rows = []
    for row, history in enumerate(train.history):
        shown = [int(item) for item in history][-(method.config.history or len(history)) :]
        try:
            prompt = method.prompter.prompt(shown, training=True, answer=int(longest_W[row]))
        except TooLong as fault:
            cutoff = method.config.cutoff
            raise DataError(f"training row {row}: {fault}; raise cutoff ({cutoff})") from fault
        rows.append(PreferenceRow(prompt, leaf_EWJ[:, row], number=row))
    return rows


def without_model(rows: Sequence[PreferenceRow], title_C: FloatArray) -> list[PreferenceRow]:
    """The rows with a number for each answer that depends on its title alone, in place of a reference model.

    Args:
        rows: training rows without reference.
        title_C: the number of each title, by leaf.
    """
    return [replace(row, reference_EJ=title_C[row.leaf_EJ].astype(np.float32)) for row in rows]


def longest_first(rows: Sequence[PreferenceRow], trie: Trie) -> IntArray:
    """Row numbers from the longest to the shortest, so that rows of a batch need little padding.

    Args:
        rows: training rows.
        trie: knows the length of their answers.
    """
    lengths = np.asarray(trie.answer.lengths)
    size = [len(row.prompt) + int(lengths[row.leaf_EJ[0]].sum()) for row in rows]
    return np.argsort(-np.array(size), kind="stable")


def parts_of(
    rows: Sequence[PreferenceRow], trie: Trie, size: int, room: Room | None
) -> list[IntArray]:
    """Row numbers of micro-batches of similar length, or of rows of tokens that rows fill end to end.

    Args:
        rows: of an optimizer step, or all rows.
        trie: knows the length of their answers.
        size: rows of a micro-batch at most.
        room: of a row of tokens; None for padded rows.
    """
    if room is None:
        return in_parts(longest_first(rows, trie), size)
    lengths = np.asarray(trie.answer.lengths)
    # of the longest draw, so that policy and reference cut alike in every epoch
    fed = [int((lengths[row.leaf_EJ] - 1).sum(1).max()) for row in rows]
    size_B = np.array([len(row.prompt) - room.shared for row in rows], np.int64) + np.array(fed)
    return list(room.parts(size_B, size))


def in_parts(order: IntArray, size: int) -> list[IntArray]:
    """Row numbers in batches, in their order.

    Training and reference both cut by this, since in 16 bits their numbers agree in equal batches only.

    Args:
        order: row numbers.
        size: of a batch; the last may be smaller.
    """
    return [order[start : start + size] for start in range(0, len(order), size)]
