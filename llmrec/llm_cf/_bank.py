"""The bank of in-context examples of LLM-CF, and which of them a history retrieves. numpy only.

The similarity of a history to an entry is the inner product of their mean title vectors; the target of the
history takes no part. Guards work on time, because on sliding windows of bounded length a later window of
the same user looks no longer than an earlier one, and a sampled row is most similar to itself. Windows of
one day tie in time, and sampled training rows come in a random order, so a tie says nothing of what came
first: for a training row both sides of it are banned.

Axes: M entries, N items, Q queries, T and D widths, C examples, H history, U users, B one block.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import ArtefactError
from bench.types import BoolArray, IntArray, Queries, Ragged, Windows
from llmrec.dllm2rec._teacher_files import titles_hash, train_hash

Guard = Literal["order", "global", "released"]
BLOCK = 512
FloatMatrix = npt.NDArray[np.float32]
ARRAYS = (
    "item_NT",
    "text_MT",
    "history_MH",
    "user_M",
    "row_M",
    "time_M",
    "item_M",
    "label_M",
    "users_U",
)


@dataclass(frozen=True, eq=False)
class Asked:
    """What retrieval is given of a query.

    Attributes:
        history: items before it.
        user_Q: user ids.
        time_Q: unix seconds.
        target_Q: what followed in a training row, 0 for others, which come after all training rows. It
            serves to ban examples that tell it, never to find any.
    """

    history: Ragged
    user_Q: IntArray
    time_Q: IntArray
    target_Q: IntArray

    @classmethod
    def rows(cls, train: Windows) -> Asked:
        """The training rows."""
        return cls(train.history, train.user_W, train.timestamp_W, train.target_W)

    @classmethod
    def queries(cls, queries: Queries) -> Asked:
        """Histories outside the training rows."""
        unknown_Q = np.zeros(len(queries), np.int64)
        return cls(queries.history, queries.user_Q, queries.timestamp_Q, unknown_Q)

    def take(self, at: IntArray) -> Asked:
        """The given ones."""
        return Asked(self.history.take(at), self.user_Q[at], self.time_Q[at], self.target_Q[at])


@dataclass(frozen=True, eq=False)
class Bank:
    """Examples with everything that is read from them.

    Attributes:
        item_NT: unit title vectors, zeros for padding and items without a title, float32 [N + 1, T].
        text_MT: unit vectors of the rationales, width 0 if there are none, float32.
        history_MH: history of each entry's row, left-aligned, int64.
        user_M, row_M, time_M: user id, place in the file and time of the row, int64.
        item_M, label_M: the item in question, and 1 if it was chosen, int64.
        users_U: user ids of the training rows, ascending, int64.
    """

    item_NT: FloatMatrix
    text_MT: FloatMatrix
    history_MH: IntArray
    user_M: IntArray
    row_M: IntArray
    time_M: IntArray
    item_M: IntArray
    label_M: IntArray
    users_U: IntArray

    @classmethod
    def read(cls, folder: Path, train: Windows, width: int) -> tuple[Bank, Mapping[str, Any]]:
        """A bank from the files of a ``cot`` cell, with their ``meta.json``.

        Args:
            folder: of the cell.
            train: the rows it must have been made from.
            width: longest history kept.

        Raises:
            ArtefactError: files are missing or were made from other rows.
        """
        from llmrec.llm_cf._cot_cache import COMMAND

        if not (folder / "meta.json").is_file():
            raise ArtefactError(f"no rationales in {folder}; make them with `{COMMAND}`")
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        wanted = {"train": train_hash(train), "items": titles_hash(train.catalogue)}
        if {key: meta[key] for key in wanted} != wanted:
            raise ArtefactError(
                f"the rationales in {folder} were made from other training rows or titles; make them "
                f"with `{COMMAND} --reuse never`"
            )
        with (folder / "entries.jsonl").open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        row_M, item_M, label_M = (np.array([x[k] for x in lines]) for k in ("row", "item", "label"))
        bank = cls(
            item_NT=np.load(folder / "item_emb.npy", allow_pickle=False),
            text_MT=np.load(folder / "cot_emb.npy", allow_pickle=False),
            history_MH=train.history.take(row_M).padded(width, align="left").astype(np.int64),
            user_M=train.user_W[row_M].astype(np.int64),
            row_M=row_M,
            time_M=train.timestamp_W[row_M].astype(np.int64),
            item_M=item_M,
            label_M=label_M,
            users_U=np.unique(train.user_W).astype(np.int64),
        )
        return bank, meta

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}, path)

    @classmethod
    def load(cls, path: Path) -> Bank:
        """Read what ``save`` wrote."""
        from safetensors.numpy import load_file

        return cls(**load_file(path))

    def place_of(self, user_Q: IntArray) -> IntArray:
        """Numbers of users in the user table, int64 [Q]: 0 for users without training rows."""
        at_Q = np.searchsorted(self.users_U, user_Q).clip(max=len(self.users_U) - 1)
        return np.where(self.users_U[at_Q] == user_Q, at_Q + 1, 0)

    @cached_property
    def length_M(self) -> IntArray:
        """Length of each entry's history."""
        return (self.history_MH > 0).sum(1)

    @cached_property
    def mean_MT(self) -> FloatMatrix:
        """Mean title vector of each entry's history."""
        return self._mean(self.history_MH)

    def _mean(self, item_QH: IntArray) -> FloatMatrix:
        """Mean over the items that have a title; zeros where none has, float32 [Q, T]."""
        vector_QHT = self.item_NT[item_QH]
        count_Q = vector_QHT.any(-1).sum(1)
        return vector_QHT.sum(1) / np.maximum(count_Q, 1)[:, None]

    def banned(self, asked: Asked, guard: Guard) -> BoolArray:
        """Entries that a query must not see, bool [Q, M].

        Args:
            asked: the queries.
            guard: the rule, see ``retrieve``.
        """
        same_QM = asked.user_Q[:, None] == self.user_M
        if guard == "released":
            return same_QM & (self.length_M > asked.history.lengths[:, None])
        time_Q1, training_Q1 = asked.time_Q[:, None], asked.target_Q[:, None] > 0
        late_QM = (self.time_M > time_Q1) | ((self.time_M == time_Q1) & training_Q1)
        return (late_QM if guard == "global" else same_QM & late_QM) | self._telling(asked, same_QM)

    def _telling(self, asked: Asked, same_QM: BoolArray) -> BoolArray:
        """Entries of the query's own user whose history holds the query's target, bool [Q, M]."""
        telling_QM = np.zeros_like(same_QM)
        query, entry = np.nonzero(same_QM & (asked.target_Q[:, None] > 0))
        held = self.history_MH[entry] == asked.target_Q[query, None]
        telling_QM[query, entry] = held.any(1)
        return telling_QM

    def retrieve(self, asked: Asked, *, n: int, guard: Guard, seed: int) -> IntArray:
        """Examples for each query: the most similar ones, half chosen and half not, in random order.

        Where a half has too few, the other fills in, then what there is repeats. A query without any title
        in its history gets random examples.

        Args:
            asked: the queries.
            n: examples each, even.
            guard: ``order`` (same user, at or after the query, or holding its target), ``global`` (that,
                and anybody at or after the query) or ``released`` (same user, longer history: the
                authors' rule, which lets a row retrieve itself).
            seed: of the order and of random examples; what a query gets depends on it and on the query only.

        Returns:
            Entries, int64 [Q, n]; a row of -1 where everything is banned.
        """
        found_QC = np.full((len(asked.user_Q), n), -1, np.int64)
        width = self.history_MH.shape[1]
        for start in range(0, len(found_QC), BLOCK):
            at = np.arange(start, min(start + BLOCK, len(found_QC)))
            block = asked.take(np.pad(at, (0, BLOCK - len(at)), mode="edge"))
            item_BH = block.history.padded(width, align="left").astype(np.int64)
            key_B = [
                _key(row, int(user), seed) for row, user in zip(item_BH, block.user_Q, strict=True)
            ]
            score_BM = self._score(self._mean(item_BH), key_B)
            banned_BM = self.banned(block, guard)
            score_BM[banned_BM] = -np.inf
            picked = self._pick(score_BM, n, key_B)[: len(at)]
            allowed = np.take_along_axis(~banned_BM[: len(at)], picked.clip(min=0), 1)
            assert (allowed | (picked < 0)).all(), "an example broke the guard"
            found_QC[at] = picked
        return found_QC

    def _score(self, mean_BT: FloatMatrix, key_B: list[int]) -> npt.NDArray[np.float32]:
        # rounded, so that equal histories tie whatever the block they are computed in
        score_BM = np.round(mean_BT @ self.mean_MT.T, 5)
        for row in np.flatnonzero(~mean_BT.any(1)):
            score_BM[row] = np.random.default_rng(key_B[row]).random(score_BM.shape[1])
        return score_BM

    def _pick(self, score_BM: Any, n: int, key_B: list[int]) -> IntArray:
        """Half of each label, filled up and shuffled, int64 [B, n]."""
        best = {label: _best(score_BM, self.label_M == label, n // 2) for label in (1, 0)}
        picked = np.concatenate([best[1], best[0]], 1)
        for row in np.flatnonzero((picked < 0).any(1) & (picked >= 0).any(1)):
            order = np.lexsort((np.arange(score_BM.shape[1]), -score_BM[row]))
            order = order[np.isfinite(score_BM[row][order])]
            own = picked[row][picked[row] >= 0]
            rest = order[~np.isin(order, own)]
            picked[row] = np.resize(np.concatenate([own, rest])[:n], n)
        for row, key in enumerate(key_B):
            picked[row] = np.random.default_rng(key).permutation(picked[row])
        return picked


def _best(score_BM: Any, of_M: BoolArray, n: int) -> IntArray:
    """The ``n`` highest entries among some, ties to the earlier one, -1 where all is banned."""
    entries = np.flatnonzero(of_M)
    left_BE = score_BM[:, entries]  # a copy, as the index is an array
    best_Bn = np.full((len(score_BM), n), -1, np.int64)
    rows = np.arange(len(score_BM))
    for place in range(n if len(entries) else 0):
        at_B = left_BE.argmax(1)
        there_B = np.isfinite(left_BE[rows, at_B])
        best_Bn[there_B, place] = entries[at_B[there_B]]
        left_BE[rows, at_B] = -np.inf
    return best_Bn


def _key(item_H: IntArray, user: int, seed: int) -> int:
    """A number for a query's content, 32 bits."""
    return zlib.crc32(np.array([seed, user, *item_H], np.int64).tobytes())
