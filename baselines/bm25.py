"""BM25 of the titles of a whole history: what a search engine would find, without any training."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat
from scipy import sparse

from baselines.last_item_text import WORD
from baselines.nearest import NearestTitles
from bench.config import Config
from bench.registry import methods
from bench.types import Catalogue, FloatArray, IntArray


class BM25Config(Config):
    """The usual constants of BM25 and the weight of older items."""

    k1: NonNegativeFloat = 1.5
    """How fast repeats of a word in a title stop counting."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much long titles are held back: 0 not at all, 1 in proportion to their length."""
    recency: NonNegativeFloat = 0.0
    """The words of the r-th last history item count r^-recency; 0 makes all items equal."""


class BM25RecentConfig(BM25Config):
    """The same with recent items in front."""

    recency: NonNegativeFloat = 2.0
    """The words of the r-th last history item count r^-recency; large values leave only the last item."""


@methods.register("bm25")
class BM25(NearestTitles):
    """Titles found by the words of all titles in the history, the history itself left out.

    With n titles, df(t) of them holding the word t, tf(t, j) its count in title j, |j| the words of j::

        idf(t)      = ln(1 + (n - df(t) + 1/2) / (df(t) + 1/2))
        score(j; h) = sum_r r^-recency sum_{t in h_{-r}} idf(t) tf(t, j) (k1 + 1)
                      / (tf(t, j) + k1 (1 - b + b |j| / mean |.|))

    Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), with the idf of Lucene, which is
    never negative. Titles without a common word are not listed, so lists can be short.
    """

    Config = BM25Config
    search: ClassVar = {"k1": (0.9, 1.5, 2.0), "b": (0.4, 0.75, 1.0)}

    def weight(self, step_P: IntArray) -> FloatArray:
        """Power of the distance from the end."""
        return step_P.astype(np.float32) ** -self.config.recency

    def vectors(self, catalogue: Catalogue) -> tuple[Any, Any]:
        """Counts of words on the asking side, BM25 weights on the other, float32 [N + 1, words]."""
        from sklearn.feature_extraction.text import CountVectorizer

        try:
            count = CountVectorizer(token_pattern=WORD).fit_transform(catalogue.titles).tocsr()
        except ValueError:  # no title holds a single word
            nothing = sparse.csr_matrix((len(catalogue.titles), 1), dtype=np.float32)
            return nothing, nothing
        n, (k1, b) = catalogue.n_items, (self.config.k1, self.config.b)
        document_T = np.bincount(count.indices, minlength=count.shape[1])
        idf_T = np.log1p((n - document_T + 0.5) / (document_T + 0.5))
        length_N = np.asarray(count.sum(1)).ravel()
        relative_N = length_N / length_N[1:].mean()
        entry = count.tocoo()
        below = entry.data + k1 * (1 - b + b * relative_N[entry.row])
        weight = idf_T[entry.col] * entry.data * (k1 + 1) / below
        offered = sparse.csr_matrix((weight, (entry.row, entry.col)), count.shape, np.float32)
        return count.astype(np.float32), offered


@methods.register("bm25_recent")
class BM25Recent(BM25):
    """BM25 in which the words of recent items weigh more."""

    Config = BM25RecentConfig
    search: ClassVar = {**BM25.search, "recency": (0.5, 1.0, 2.0)}
