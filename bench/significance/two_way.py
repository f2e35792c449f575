"""From gains to an estimate: the one door of this room.

``two_way(...)`` takes each method's gains on the same test rows, whose users and target titles are known,
and gives an ``Estimate`` with intervals, differences and ranks that hold for other users, other targets and
other fits. All of 50 methods x 3 seeds x 20,000 rows takes about a third of a second on one core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.errors import DataError
from bench.significance.clusters import Clusters, Moments
from bench.significance.estimate import Estimate, Inputs
from bench.significance.seeds import PRIOR, between, means, pool, within
from bench.significance.spread import Sources
from bench.types import BoolArray, FloatArray, IntArray


def two_way(
    gain_MSQ: Sequence[FloatArray],
    user_Q: IntArray,
    title_Q: IntArray | None,
    *,
    luck_M: npt.ArrayLike = 0.0,
    chance_M: npt.ArrayLike = True,
    names: Sequence[str] | None = None,
    prior: float = PRIOR,
) -> Estimate:
    """Estimate the means of several methods and all that can be said of them.

    Args:
        gain_MSQ: for each method its gains between 0 and 1, float [S, Q]; S may differ, Q may not.
        user_Q: whose row it is.
        title_Q: class of the target's title; None where it is unknown, and then all statements are for
            these targets only.
        luck_M: variance of each mean over draws of random lists; 0 for a method that draws none.
        chance_M: whether training draws chance; a method whose fits all agree to the digit is taken not to.
        names: of the methods, for errors.
        prior: coefficient of variation of fits, where this table says little of it.

    Raises:
        DataError: a gain is not finite, or a method has another number of rows; names the method.
    """
    names = (
        tuple(names) if names is not None else tuple(f"method {m}" for m in range(len(gain_MSQ)))
    )
    assert len(names) == len(gain_MSQ) > 0, "one name a method"
    gain_MSQ = tuple(np.atleast_2d(np.asarray(gain_SQ, np.float64)) for gain_SQ in gain_MSQ)
    _check(gain_MSQ, names, user_Q, title_Q)
    drawn_M = np.broadcast_to(np.asarray(chance_M, bool), len(names)) & _fits_differ(gain_MSQ)
    luck_M = np.broadcast_to(np.asarray(luck_M, np.float64), len(names))
    return estimate(Inputs(gain_MSQ, user_Q, title_Q, luck_M, drawn_M, names, prior))


def estimate(inputs: Inputs) -> Estimate:
    """The same from inputs that are checked already."""
    seeds_M = np.array([len(gain_SQ) for gain_SQ in inputs.gain_MSQ])
    gain_QC = np.ascontiguousarray(np.concatenate(inputs.gain_MSQ).T)
    clusters, titles = [Clusters.of(inputs.user_Q)], None
    if inputs.title_Q is not None:
        titles = Clusters.of(inputs.title_Q)
        clusters += [titles, clusters[0].crossed(titles)]
    sums = [c.sums(gain_QC) for c in clusters]
    total = [means(total_GC, seeds_M) for total_GC in sums]
    moments = [Moments.of(c.influence(t)) for c, t in zip(clusters, total, strict=True)]
    between_M = np.where(inputs.chance_M, between(inputs.gain_MSQ), np.nan)
    return Estimate(
        inputs=inputs,
        users=clusters[0],
        titles=titles,
        user_UM=total[0],
        title_TM=total[1] if titles else None,
        sources=Sources(*moments),
        fits=pool(
            between_M,
            within(clusters, sums, seeds_M),
            total[0].sum(axis=0) / len(inputs.user_Q),
            seeds_M,
            inputs.prior,
        ),
        scope="these targets" if titles is None else "targets like these",
    )


def _fits_differ(gain_MSQ: Sequence[FloatArray]) -> BoolArray:
    """False for a method of several seeds that all gained the same on every row."""
    return np.array([len(g) == 1 or bool((g != g[0]).any()) for g in gain_MSQ])


def _check(
    gain_MSQ: Sequence[FloatArray],
    names: Sequence[str],
    user_Q: IntArray,
    title_Q: IntArray | None,
) -> None:
    n = len(user_Q)
    assert title_Q is None or len(title_Q) == n, "one target a row"
    for name, gain_SQ in zip(names, gain_MSQ, strict=True):
        if gain_SQ.shape[1] != n:
            raise DataError(
                f"{name} has gains of {gain_SQ.shape[1]} test rows, the table has {n}; "
                "compare methods on the same rows"
            )
        bad = int((~np.isfinite(gain_SQ)).sum())
        if bad:
            raise DataError(
                f"{name} has {bad} gains that are no finite number; gains lie between 0 and 1, "
                "run its cell again"
            )
