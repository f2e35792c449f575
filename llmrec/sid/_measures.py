"""What can be said of semantic ids before any recommender is trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.types import BoolArray, FloatArray, IntArray
from llmrec.sid._collisions import groups_of


def measures(code_TL: IntArray, sizes: tuple[int, ...], seen_T: BoolArray) -> dict[str, Any]:
    """Collisions, use of the codes and what never-trained titles share with trained ones.

    Args:
        code_TL: codes of the distinct titles before collisions are repaired.
        sizes: K of each level.
        seen_T: titles that occur in training.

    Returns:
        ``collision_rate`` is 1 - distinct codes / titles, ``largest_group`` the most titles of equal
        codes; ``used`` the share of each level's codes that some title has, and ``perplexity`` the
        exponential of the entropy of their shares; ``cold_prefix`` for each length the share of
        never-trained titles whose prefix of that length a trained title has (absent without such titles).
    """
    size_G = np.bincount(groups_of(code_TL))
    counts = [
        np.bincount(code_T, minlength=size) for code_T, size in zip(code_TL.T, sizes, strict=True)
    ]
    found: dict[str, Any] = {
        "titles": len(code_TL),
        "collision_rate": 1 - len(size_G) / len(code_TL),
        "largest_group": int(size_G.max()),
        "used": [float((count_K > 0).mean()) for count_K in counts],
        "perplexity": [_perplexity(count_K) for count_K in counts],
    }
    if (~seen_T).any():
        lengths = range(1, len(sizes) + 1)
        found["cold_prefix"] = [_shared(code_TL[:, :length], seen_T) for length in lengths]
    return found


def explained(row_TD: FloatArray, rebuilt_TD: FloatArray) -> float:
    """R2 of a reconstruction: 1 - squared error / squared distance to the mean.

    Args:
        row_TD: the vectors.
        rebuilt_TD: their reconstructions.
    """
    error = np.square(row_TD - rebuilt_TD).sum()
    return float(1 - error / np.square(row_TD - row_TD.mean(0)).sum())


def _perplexity(count_K: IntArray) -> float:
    share = count_K[count_K > 0] / count_K.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _shared(prefix_TL: IntArray, seen_T: BoolArray) -> float:
    group_T = groups_of(prefix_TL)
    return float(np.isin(group_T[~seen_T], group_T[seen_T]).mean())
