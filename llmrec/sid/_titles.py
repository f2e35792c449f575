"""The distinct titles of a catalogue, in an order that says nothing of how items are numbered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bench.types import BoolArray, Catalogue, IntArray


@dataclass(frozen=True, eq=False)
class Titles:
    """Distinct titles, sorted by the hash of their text; T titles. All blank titles count as one.

    Attributes:
        item_T: one item of each title.
        of_N: the title of each item, -1 for padding, int64 [N + 1].
        seen_T: titles of which an item occurs in the training rows.
        blank_T: the title without text, if there is one.
    """

    item_T: IntArray
    of_N: IntArray
    seen_T: BoolArray
    blank_T: BoolArray

    @classmethod
    def of(cls, catalogue: Catalogue, seen_N: BoolArray) -> Titles:
        """The titles of a catalogue.

        Args:
            catalogue: the items.
            seen_N: items that occur in the training rows, bool [N + 1].
        """
        texts = [title if title.strip() else "" for title in catalogue.titles[1:]]
        order = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).digest())
        place = {text: at for at, text in enumerate(order)}
        of_N = np.array([-1, *(place[text] for text in texts)], np.int64)
        item_T = np.zeros(len(order), np.int64)
        item_T[of_N[:0:-1]] = np.arange(len(of_N) - 1, 0, -1)
        seen_T = np.bincount(of_N[1:], weights=seen_N[1:], minlength=len(order)) > 0
        return cls(item_T, of_N, seen_T, np.array([not text for text in order]))
