"""Semantic ids as data, as tokens of a vocabulary and as a trie.

Every distinct title has one sequence of L codes; level l has its own K_l codes, and its own tokens: code c of
level l is token ``first + K_0 + .. + K_{l-1} + c``. N items, L levels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.errors import ArtefactError, DataError
from bench.types import IntArray
from llmrec.trie import Trie

TABLE, META = "codes.safetensors", "codes.json"


@dataclass(frozen=True, eq=False)
class Codes:
    """The semantic ids of a catalogue.

    Attributes:
        code_NL: code of each item at each level, int32 [N + 1, L]; row 0 (padding) is -1.
        sizes: K of each level.
        titles: hash of the titles that the codes belong to.
    """

    code_NL: IntArray
    sizes: tuple[int, ...]
    titles: str

    def __post_init__(self) -> None:
        assert self.code_NL.shape[1] == len(self.sizes), f"codes of {len(self.sizes)} levels"
        own_NL = self.code_NL[1:]
        wrong = np.argwhere((own_NL < 0) | (own_NL >= np.array(self.sizes)))
        if len(wrong):
            item, level = wrong[0]
            raise DataError(
                f"code {own_NL[item, level]} of item {item + 1} at level {level + 1}; codes of this level "
                f"are 0 to {self.sizes[level] - 1}"
            )

    @property
    def n_tokens(self) -> int:
        """Number of tokens that all levels need."""
        return sum(self.sizes)

    @property
    def levels(self) -> int:
        """L, tokens of an item."""
        return len(self.sizes)

    @cached_property
    def names(self) -> list[str]:
        """What the tokens are called, such as ``<b17>``: the letter is the level, the number the code."""
        return [
            f"<{chr(ord('a') + level)}{code}>"
            for level, size in enumerate(self.sizes)
            for code in range(size)
        ]

    def tokens(self, first: int) -> IntArray:
        """The tokens of each item, int32 [N + 1, L]; row 0 means nothing.

        Args:
            first: token of code 0 of the first level.
        """
        before_L = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        return (self.code_NL + first + before_L).astype(np.int32)

    def trie(self, first: int, eos: int, base: str = "") -> Trie:
        """The trie of all semantic ids, each closed by the end token; items with equal codes share a leaf.

        Args:
            first: token of code 0 of the first level.
            eos: the end token.
            base: names the tokens below ``first``; part of the fingerprint.
        """
        paths = [[*row, eos] for row in self.tokens(first)[1:].tolist()]
        return Trie.of(paths, eos, self.fingerprint(f"{base}:{first}:{eos}"))

    def fingerprint(self, base: str) -> str:
        """Sixteen hex digits that change with any code, any title or the tokens around them.

        Args:
            base: names everything else.
        """
        made = hashlib.sha256(f"{base}:{self.sizes}:{self.titles}".encode())
        made.update(np.ascontiguousarray(self.code_NL, np.int32).tobytes())
        return made.hexdigest()[:16]

    def require(self, titles: Sequence[str]) -> None:
        """Refuse codes that belong to another catalogue.

        Args:
            titles: by item id.

        Raises:
            ArtefactError: number or text of the titles differ.
        """
        if len(titles) != len(self.code_NL) or hash_of(titles) != self.titles:
            raise ArtefactError(
                f"the semantic ids are of other titles ({len(self.code_NL) - 1} items) than this catalogue "
                f"({len(titles) - 1} items); run the cell again with --reuse never"
            )

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        save_file({"code_NL": np.ascontiguousarray(self.code_NL)}, folder / TABLE)
        meta = {"sizes": list(self.sizes), "titles": self.titles}
        (folder / META).write_text(json.dumps(meta))

    @classmethod
    def load(cls, folder: Path) -> Codes:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the folder holds no semantic ids.
        """
        if not (folder / META).is_file():
            raise ArtefactError(f"no {META} in {folder}; run the cell again with --reuse never")
        meta = json.loads((folder / META).read_text())
        return cls(load_file(folder / TABLE)["code_NL"], tuple(meta["sizes"]), meta["titles"])


def hash_of(titles: Sequence[str]) -> str:
    """Sixteen hex digits that change with any title or their order."""
    made = hashlib.sha256()
    for title in titles:
        made.update(title.encode() + b"\0")
    return made.hexdigest()[:16]
