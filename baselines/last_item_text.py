"""The items whose titles are most like the title of the last one: text without a language model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveInt, model_validator
from scipy import sparse
from typing_extensions import Self

from baselines._floor import Floor, top_of_rows
from bench.cell import Run
from bench.config import Config
from bench.errors import ConfigError
from bench.registry import methods
from bench.types import Catalogue, Exam, FloatArray, IntArray, Queries, Ranking, Windows

CHUNK = 512  # distinct last items compared at a time
# scikit-learn's own pattern drops one-letter words, the digit of "Level 1" too
WORD = r"(?u)\b\w+\b"


class LastItemTextConfig(Config):
    """What a title is cut into."""

    analyser: Literal["word", "char_wb"] = "word"
    """``word`` for word n-grams, ``char_wb`` for character n-grams inside words."""
    longest: PositiveInt = 2
    """Longest n-gram; the shortest is 1 for words and 2 for characters."""

    @model_validator(mode="after")
    def _longest_is_not_shortest(self) -> Self:
        if self.longest < self.shortest:
            raise ConfigError(f"longest is {self.longest}, expected {self.shortest} or more")
        return self

    @property
    def shortest(self) -> int:
        """Shortest n-gram."""
        return 1 if self.analyser == "word" else 2


@methods.register("last_item_text")
class LastItemText(Floor):
    """Nearest titles of the last history item by the cosine of their TF-IDF vectors.

    Scikit-learn's TfidfVectorizer over the whole catalogue, sublinear term counts, unit length. The last
    item itself is left out, items that share its title are not. Titles without a common n-gram are not
    listed, so lists can be short; ties go to the smaller id. It needs no training, so new items are
    recommended as readily as old ones.
    """

    tags = frozenset({"text"})
    Config = LastItemTextConfig
    search: ClassVar = {"analyser": ("word", "char_wb"), "longest": (2, 3, 4)}

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Nothing to learn: everything is in the titles."""

    def save(self, folder: Path) -> None:
        """Nothing to write."""

    def load(self, folder: Path, *, device: str) -> None:
        """Nothing to read."""

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """At most ``k`` items with the most similar titles."""
        vector = title_vectors(queries.catalogue, self.config)
        # queries with the same last item have the same list
        last_U, of_Q = np.unique(queries.last_Q, return_inverse=True)
        item: list[IntArray] = [np.zeros((0, k), np.int32)]
        score: list[FloatArray] = [np.zeros((0, k), np.float32)]
        for i in range(0, len(last_U), CHUNK):
            own_U = last_U[i : i + CHUNK]
            cosine = (vector[own_U] @ vector.T).tocoo()
            other = cosine.col != own_U[cosine.row]
            kept = (cosine.data[other], (cosine.row[other], cosine.col[other]))
            item_UK, score_UK = top_of_rows(sparse.csr_matrix(kept, cosine.shape), k)
            item.append(item_UK)
            score.append(score_UK)
        return Ranking(np.concatenate(item)[of_Q], np.concatenate(score)[of_Q])


def title_vectors(catalogue: Catalogue, config: LastItemTextConfig) -> sparse.csr_matrix:
    """TF-IDF vectors of all titles, of unit length, by item id, sparse [N + 1, grams].

    Args:
        catalogue: the titles.
        config: what they are cut into.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    tfidf = TfidfVectorizer(
        analyzer=config.analyser,
        ngram_range=(config.shortest, config.longest),
        sublinear_tf=True,
        token_pattern=WORD if config.analyser == "word" else None,
    )
    try:
        return tfidf.fit_transform(catalogue.titles).tocsr()
    except ValueError:  # no title holds a single n-gram
        return sparse.csr_matrix((len(catalogue.titles), 1))
