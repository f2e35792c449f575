"""The nouns of the suite. numpy only, frozen, and small enough to hold in the head.

Axes, named once for the whole suite: B batch, Q queries, W windows (training rows), H history,
L tokens, V vocabulary, N items, K length of a recommendation list. Item ids run 1..N in the order of
the catalogue; 0 is padding everywhere and is never a valid recommendation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.ragged import IntArray as IntArray
from bench.ragged import Ragged as Ragged

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Identity = Literal["title", "item"]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Everything that may be recommended.

    Attributes:
        titles: by item id; ``titles[0]`` is the empty padding entry, so ``len(titles) == N + 1``.
        domain: names the prompt's verbs and nouns: toy, book, clothing, office, movie or item.
        item_names: by item id, what the items are called where the data came from, entry 0 empty; None
            where they have no other names than their ids.
    """

    titles: tuple[str, ...]
    domain: str = "item"
    item_names: tuple[str, ...] | None = None

    @property
    def n_items(self) -> int:
        """N, the number of items without the padding entry."""
        return len(self.titles) - 1

    def item_name(self, item: int) -> str:
        """What an item is called where the data came from."""
        return str(item) if self.item_names is None else self.item_names[item]

    @cached_property
    def title_class(self) -> IntArray:
        """Smallest item id with the same title, by item id, int32 [N + 1].

        The paper's scorer compares title strings, so items that share one are one answer. A title that
        is empty or white space says nothing of identity: such items stay apart.
        """
        first: dict[str, int] = {}
        ids = (first.setdefault(t, i) if t.strip() else i for i, t in enumerate(self.titles))
        return np.fromiter(ids, np.int32, len(self.titles))


@dataclass(frozen=True, eq=False)
class Windows:
    """Training rows in file order: what a method learns from.

    Attributes:
        catalogue: the items.
        user_W: user ids, int64.
        history: items before the target, oldest first.
        target_W: the item that followed, int32.
        timestamp_W: time of the target, unix seconds, int64; non-decreasing in published files.
    """

    catalogue: Catalogue
    user_W: IntArray
    history: Ragged
    target_W: IntArray
    timestamp_W: IntArray

    def __len__(self) -> int:
        return len(self.target_W)

    @property
    def n_items(self) -> int:
        """N of the catalogue."""
        return self.catalogue.n_items

    @cached_property
    def sequences(self) -> Ragged:
        """History and target as one row each."""
        return self.history.append(self.target_W)

    @cached_property
    def target_count(self) -> IntArray:
        """How often each item is a training target, int64 [N + 1]."""
        return np.bincount(self.target_W, minlength=self.n_items + 1)

    @cached_property
    def seen(self) -> BoolArray:
        """Items that occur anywhere in these rows, bool [N + 1]; ``seen[0]`` is False."""
        seen = np.zeros(self.n_items + 1, bool)
        seen[self.sequences.values] = True
        seen[0] = False
        return seen

    def take(self, rows: IntArray) -> Windows:
        """The given rows, in the given order."""
        return replace(
            self,
            user_W=self.user_W[rows],
            history=self.history.take(rows),
            target_W=self.target_W[rows],
            timestamp_W=self.timestamp_W[rows],
        )

    def sample(self, n_rows: int | None) -> Windows:
        """A fixed sample of rows without replacement; everything if ``n_rows`` is None or too many.

        Drawn as the authors drew train_10000.csv (NumPy's RandomState(42)), so that 10,000 rows of a
        published file are exactly the published sample, in its order.
        """
        if n_rows is None or n_rows >= len(self):
            return self
        return self.take(np.random.RandomState(42).choice(len(self), n_rows, replace=False))


@dataclass(frozen=True, eq=False)
class Queries:
    """Histories to continue. There is no target field, so a leak needs a deliberate act."""

    catalogue: Catalogue
    user_Q: IntArray
    history: Ragged
    timestamp_Q: IntArray

    def __len__(self) -> int:
        return len(self.user_Q)

    @property
    def last_Q(self) -> IntArray:
        """The most recent item of each history, 0 where there is none."""
        return self.history.last

    def take(self, rows: IntArray) -> Queries:
        """The given queries, in the given order."""
        return replace(
            self,
            user_Q=self.user_Q[rows],
            history=self.history.take(rows),
            timestamp_Q=self.timestamp_Q[rows],
        )


@dataclass(frozen=True, eq=False)
class Exam:
    """Queries with their answers. Methods get the validation exam; the test exam stays with the runner."""

    queries: Queries
    target_Q: IntArray

    def __len__(self) -> int:
        return len(self.target_Q)

    def take(self, rows: IntArray) -> Exam:
        """The given rows, in the given order."""
        return Exam(self.queries.take(rows), self.target_Q[rows])

    def sample(self, n_rows: int | None) -> Exam:
        """A fixed random sample of rows, kept in file order; everything if None or too many."""
        if n_rows is None or n_rows >= len(self):
            return self
        return self.take(
            np.sort(np.random.RandomState(42).choice(len(self), n_rows, replace=False))
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Training rows and the two exams. Only the runner ever holds all three.

    Attributes:
        uncut: where validation was cut out of the training rows, these rows before that.
        held_out: whether ``valid`` is no part of ``train``; if it is, it says nothing.
    """

    train: Windows
    valid: Exam
    test: Exam
    uncut: Windows | None = None
    held_out: bool = True

    def whole(self) -> Split:
        """The same with every training row there is, also those that ``valid`` was cut from."""
        if self.uncut is None:
            return self
        return replace(self, train=self.uncut, uncut=None, held_out=False)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named dataset, cut for an experiment.

    Attributes:
        version: hash of the files it was read from and of the switches that shaped it.
        notes: repairs and warnings of the reader, one sentence each, shown with every audit.
        user_names: by user id, what the users are called where the data came from; None where they have
            no other names than their ids.
    """

    name: str
    version: str
    catalogue: Catalogue
    split: Split
    notes: tuple[str, ...] = ()
    user_names: Mapping[int, str] | None = None

    def user_name(self, user: int) -> str:
        """What a user is called where the data came from."""
        return str(user) if self.user_names is None else self.user_names[user]


@dataclass(frozen=True, eq=False)
class RandomTail:
    """A list that goes on by chance: from ``start_Q`` on, uniform draws without replacement.

    Lets a random floor be scored by its expectation instead of by one draw.

    Attributes:
        start_Q: how many entries of the list are fixed, int [Q].
        pool: the items drawn from, bool [N + 1]; items already in the fixed part are not drawn again.
    """

    start_Q: IntArray
    pool: BoolArray


@dataclass(frozen=True, eq=False)
class Ranking:
    """Recommendation lists, best first.

    Attributes:
        item_QK: item ids, int [Q, K]; 0 fills a list that is shorter than K, at its end only.
        score_QK: the scores that ordered them, float [Q, K], or None.
        certified_Q: True where the decoder can prove that the list is the true top K, or None where the
            question does not arise.
        failed_Q: True where nothing could be generated (counted as a miss), or None.
        tail: what follows by chance (floors only).
        facts: numbers about the decoding as a whole (beams, steps, truncations), shown with the row.
    """

    item_QK: IntArray
    score_QK: FloatArray | None = None
    certified_Q: BoolArray | None = None
    failed_Q: BoolArray | None = None
    tail: RandomTail | None = None
    facts: Mapping[str, float | int | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item_QK)
