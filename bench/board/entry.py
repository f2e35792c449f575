"""One line of a table: a configuration, averaged over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.cell import Cell, Row
from bench.evaluation.metrics import ListMetric, Positions, find, gain, luck, weights
from bench.results.badges import badges
from bench.results.figures import TITLE, VALID, Figures
from bench.results.packed import Packed, positions_in
from bench.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Entry:
    """One configuration in one table.

    Attributes:
        rows: its rows, one a seed, by seed.
        paths: the packed files of those that are done, in the same order.
        figures: their numbers.
        mark: what distinguishes it from others of the same name; empty if the name is unique.
        published: whether its rows came with the repository, in a table of other rows.
    """

    rows: tuple[Row, ...]
    paths: tuple[Path, ...] = ()
    figures: tuple[Figures, ...] = ()
    mark: str = ""
    published: bool = False

    @property
    def cell(self) -> Cell:
        """The cell of the first seed."""
        return self.rows[0].cell

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """The rows that have numbers."""
        return tuple(row for row in self.rows if row.status == "done")

    @cached_property
    def question(self) -> str:
        """Hash of the configuration, the same for all datasets and seeds."""
        return replace(self.cell, dataset="", seed=0).slot

    @property
    def mixed(self) -> bool:
        """Whether its seeds were made by different code."""
        return len({row.provenance.get("code") for row in self.done}) > 1

    @cached_property
    def badges(self) -> tuple[str, ...]:
        """Badges of its rows, see ``bench.results.badges``."""
        found = dict.fromkeys(badge for row in self.done for badge in badges(row))
        return ("published", *found) if self.published else tuple(found)

    @property
    def family(self) -> str:
        """Family that the method declares; ``unknown`` if its rows do not have it."""
        return str(self.rows[0].facts.get("family", "unknown"))

    @property
    def name(self) -> str:
        """The method as tables show it, with ``mark`` where names would be the same."""
        row = self.rows[0]
        title = str(row.facts.get("title") or row.cell.method)
        extra = [str(row.facts.get("variant") or ""), self.mark, "tuned" if self.tuned else ""]
        extra += ["published"] * self.published
        extra = [word for word in extra if word]
        return f"{title} ({', '.join(extra)})" if extra else title

    @property
    def full_name(self) -> str:
        """Name with loss and decoder."""
        cell = self.cell
        loss = f" + {cell.loss}" if cell.loss else ""
        return f"{self.name}{loss}{f' / {cell.decoder}' if cell.decoder else ''}"

    @property
    def label(self) -> str:
        """The full name with the backbone: who a line is, in one cell."""
        backbone = self.cell.backbone
        return f"{self.full_name} [{backbone}]" if backbone else self.full_name

    @property
    def tuned(self) -> bool:
        """Whether its configuration was searched for on validation."""
        return bool(self.cell.tune or self.rows[0].facts.get("tuned"))

    @property
    def status(self) -> str:
        """``done``, or what failed or is missing, with the reason."""
        lacking = [row for row in self.rows if row.status != "done"]
        if not lacking:
            return "done"
        first = lacking[0]
        text = f"{first.status}: {first.reason}"
        return f"{len(lacking)} of {len(self.rows)} seeds {text}" if self.done else text

    @property
    def n(self) -> int:
        """Test rows."""
        return self.figures[0].n

    @cached_property
    def first_packed(self) -> Packed:
        """The whole packed file of the first seed, read when it is first asked for."""
        return Packed.load(self.paths[0])

    @property
    def user_Q(self) -> IntArray:
        """User of each query, int64 [Q]."""
        return self.first_packed.user_Q

    def positions(self, of: str = TITLE) -> list[Positions]:
        """Positions of the test targets, one a seed, read from the files.

        Args:
            of: ``title`` or ``item``.
        """
        return [positions_in(path, of) for path in self.paths]

    def mean(self, name: str, of: str = TITLE) -> float | None:
        """Mean over seeds of one metric; None where any of them lacks it.

        Args:
            name: of a metric with its cutoff, e.g. ``ndcg@10``.
            of: ``title``, ``item``, ``valid`` or a stratum.
        """
        metric, k = find(name)
        if of == VALID or issubclass(metric, ListMetric):
            return _mean(self.by_seed(name, of))
        if of not in self._shares:
            self._shares[of] = _share(self.figures, of)
        share_K = self._shares[of]
        return None if share_K is None else float(share_K[:k] @ weights(name))

    @cached_property
    def _shares(self) -> dict[str, FloatArray | None]:
        """By part of the exam, share of the targets at each rank, mean over seeds; filled when needed."""
        return {}

    def by_seed(self, name: str, of: str = TITLE) -> list[float | None]:
        """One metric for each seed.

        Args:
            name: of a metric with its cutoff, e.g. ``ndcg@10``.
            of: ``title``, ``item``, ``valid`` or a stratum.
        """
        found = [figures.mean(name, of) for figures in self.figures]
        if of == VALID:  # rows of the first make kept means of validation and not its positions
            pairs = zip(self.done, found, strict=True)
            return [row.valid.get(name) if value is None else value for row, value in pairs]
        return found

    def fact(self, name: str) -> float | None:
        """Mean over seeds of one number among the facts; None where any of them lacks it."""
        return _mean([row.facts.get(name) for row in self.done])


def _mean(found: Sequence[float | None]) -> float | None:
    known = [float(value) for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _share(figures: Sequence[Figures], of: str) -> FloatArray | None:
    counts = [one.counts.get(of) for one in figures]
    shares = [one.count_K / one.n for one in counts if one is not None and one.n]
    return np.mean(shares, axis=0) if shares and len(shares) == len(counts) else None


def gain_by_seed(positions: list[Positions], name: str) -> FloatArray:
    """One metric by seed and query, float64 [S, Q].

    Args:
        positions: of the same queries, one a seed.
        name: of a metric of positions, e.g. ``ndcg@10``.
    """
    return np.stack([np.asarray(gain(one, name), np.float64) for one in positions])


def mean_luck(positions: list[Positions], name: str) -> float:
    """Variance of a metric's mean over draws of random lists, mean over seeds; 0 if none are drawn.

    Args:
        positions: of the same queries, one a seed.
        name: of a metric of positions, e.g. ``ndcg@10``.
    """
    return float(np.mean([luck(one, name) for one in positions]))
