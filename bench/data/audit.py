"""What a dataset can and cannot show: cold targets, leakage, duplicates, overlap, popularity.

A board is read beside these numbers. On Book 64 % of the test targets never occur in train, so a model
that knows items by id alone can hit at most 36 %, and a list of untrained items drawn by chance is a
serious rival. Nothing here changes the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from bench.data.exams import rows_of
from bench.types import BoolArray, Dataset, IntArray, Windows

Fact = int | float | str | None
ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
TOP_SHARES = (0.01, 0.05, 0.10, 0.20)


@dataclass(frozen=True)
class Audit:
    """The findings, ready for a table or for JSON.

    Attributes:
        name, version: of the dataset.
        facts: by section, then by name. Shares are fractions of one, None is "cannot be known here".
        popularity_curve: share of training targets that go to the most popular items, at 0, 1 ... 100 %
            of the catalogue.
        history_lengths: by part, how many histories have 0, 1, 2 ... items.
        notes: what the reader of the data had to say.
    """

    name: str
    version: str
    facts: Mapping[str, Mapping[str, Fact]]
    popularity_curve: tuple[float, ...]
    history_lengths: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def audit(dataset: Dataset, sample_rows: int = 10_000) -> Audit:
    """Examine a dataset. Reads test targets, so it belongs beside a run, never inside a method.

    Args:
        dataset: any dataset.
        sample_rows: size of the training sample LLMs get, for its own cold share.
    """
    split = dataset.split
    parts = {"train": split.train, "valid": rows_of(split.valid), "test": rows_of(split.test)}
    count_N = np.sort(split.train.target_count[1:])[::-1]
    curve = np.concatenate([[0], np.cumsum(count_N) / max(1, count_N.sum())])
    facts: dict[str, Mapping[str, Fact]] = {
        "rows": {part: len(rows) for part, rows in parts.items()},
        "size": _size(parts),
        "cold test targets": _cold(parts, sample_rows),
        "repeats and overlap": _overlap(parts),
        "history": _history(parts),
        "time": _time(parts),
        "popularity": _popularity(count_N, curve),
        "titles": _titles(dataset, parts["test"]),
    }
    steps = np.round(np.arange(101) / 100 * len(count_N)).astype(int)
    lengths = {part: tuple(np.bincount(r.history.lengths).tolist()) for part, r in parts.items()}
    return Audit(
        dataset.name,
        dataset.version,
        facts,
        tuple(curve[steps].round(6).tolist()),
        lengths,
        dataset.notes,
    )


def _size(parts: Mapping[str, Windows]) -> dict[str, Fact]:
    """Interactions are rebuilt: a user with k windows, the first of l items, had l + k - 1."""
    everything = np.concatenate([rows.user_W for rows in parts.values()])
    lengths = np.concatenate([rows.sequences.lengths for rows in parts.values()])
    user_U, first_U, rows_U = np.unique(everything, return_index=True, return_counts=True)
    interactions = int((lengths[first_U] + rows_U - 1).sum())
    n_items = parts["train"].n_items
    return {
        "users": len(user_U),
        "items": n_items,
        "interactions (rebuilt from windows)": interactions,
        "density": interactions / (len(user_U) * n_items),
        "windows per user": len(everything) / len(user_U),
    }


def _cold(parts: Mapping[str, Windows], sample_rows: int) -> dict[str, Fact]:
    train, test = parts["train"], parts["test"]
    seen, with_valid = train.seen, train.seen | parts["valid"].seen
    sample = train.sample(sample_rows)
    class_N = train.catalogue.title_class
    named = np.isin(class_N, class_N[seen])
    target_Q = test.target_W
    return {
        "never in train": _share(~seen[target_Q]),
        "items never in train": int((~seen[1:]).sum()),
        "distinct cold targets": len(np.unique(target_Q[~seen[target_Q]])),
        "never in train or validation": _share(~with_valid[target_Q]),
        "items never in train or validation": int((~with_valid[1:]).sum()),
        f"never in a sample of {len(sample)} training rows": _share(~sample.seen[target_Q]),
        "ceiling of ID models (hit rate)": _share(seen[target_Q]),
        "ceiling of ID models, titles as identity": _share(named[target_Q]),
        "history items of test never in train": _share(~seen[test.history.values]),
        "test rows with nothing cold": _share(seen[target_Q] & ~_any_in_row(test, ~seen)),
    }


def _any_in_row(rows: Windows, flag_N: BoolArray) -> BoolArray:
    owner = np.repeat(np.arange(len(rows)), rows.history.lengths)
    return np.bincount(owner[flag_N[rows.history.values]], minlength=len(rows)) > 0


def _overlap(parts: Mapping[str, Windows]) -> dict[str, Fact]:
    train, test = parts["train"], parts["test"]
    inside = [_target_in_history(rows) for rows in (train, test)]
    rows_of_train = _row_keys(train)
    in_train = set(rows_of_train)
    known = np.isin(test.user_W, train.user_W)
    return {
        "train targets already in their history": _share(inside[0]),
        "test targets already in their history": _share(inside[1]),
        "train windows with a repeated item": _share(_repeats(train)),
        "test windows with a repeated item": _share(_repeats(test)),
        "test rows whose user has training rows": _share(known),
        "users in train and test": len(np.intersect1d(train.user_W, test.user_W)),
        "users in train and validation": len(np.intersect1d(train.user_W, parts["valid"].user_W)),
        "test windows that begin inside a training window": _share(_continues(test, train)),
        "duplicate rows in train": len(rows_of_train) - len(in_train),
        "test rows that are also training rows": sum(k in in_train for k in _row_keys(test)),
        "test targets with a higher id than the last item": _share(_id_step(test) > 0),
        "test targets among the next 10 ids after the last item": _share(_next_ids(test)),
    }


def _id_step(rows: Windows) -> IntArray:
    """Target id less the id of the last history item: half are above 0 where ids say nothing."""
    return rows.target_W.astype(np.int64) - rows.history.last


def _next_ids(rows: Windows) -> BoolArray:
    step_W = _id_step(rows)
    return (step_W > 0) & (step_W <= 10)


def _target_in_history(rows: Windows) -> BoolArray:
    owner = np.repeat(np.arange(len(rows)), rows.history.lengths)
    same = rows.history.values == rows.target_W[owner]
    return np.bincount(owner[same], minlength=len(rows)) > 0


def _repeats(rows: Windows) -> BoolArray:
    sequences = rows.sequences
    owner = np.repeat(np.arange(len(rows)), sequences.lengths)
    pair = np.unique(owner * (rows.n_items + 1) + sequences.values)
    return np.bincount(pair // (rows.n_items + 1), minlength=len(rows)) < sequences.lengths


def _row_keys(rows: Windows) -> list[bytes]:
    key = rows.sequences.append(np.zeros(len(rows), np.int32))
    return [
        row.tobytes() + user.tobytes() + time.tobytes()
        for row, user, time in zip(key, rows.user_W, rows.timestamp_W, strict=True)
    ]


def _continues(later: Windows, earlier: Windows) -> BoolArray:
    """Rows whose first two items stand side by side in an earlier window of the same user."""
    code, base = {}, later.n_items + 1
    users = np.unique(np.concatenate([earlier.user_W, later.user_W]))
    for part, rows in (("earlier", earlier), ("later", later)):
        sequences = rows.sequences
        owner = np.repeat(np.arange(len(rows)), sequences.lengths)
        user = np.searchsorted(users, rows.user_W)[owner].astype(np.int64)
        value = sequences.values.astype(np.int64)
        # int64 holds users * items**2 up to 9e18, far above any catalogue with windows
        pair = (user[:-1] * base + value[:-1]) * base + value[1:]
        within = owner[:-1] == owner[1:]
        starts = np.minimum(sequences.offsets[:-1], len(pair) - 1)
        code[part] = pair[within] if part == "earlier" else pair[starts]
    return np.isin(code["later"], code["earlier"])


def _history(parts: Mapping[str, Windows]) -> dict[str, Fact]:
    out: dict[str, Fact] = {}
    longest = max(int(rows.history.lengths.max()) for rows in parts.values())
    for part, rows in parts.items():
        lengths = rows.history.lengths
        out[f"{part}: shortest"] = int(lengths.min())
        out[f"{part}: mean"] = float(lengths.mean())
        out[f"{part}: longest"] = int(lengths.max())
        out[f"{part}: windows of full length {longest + 1}"] = _share(lengths == longest)
    return out


def _time(parts: Mapping[str, Windows]) -> dict[str, Fact]:
    out: dict[str, Fact] = {}
    for part, rows in parts.items():
        out[f"{part} begins"] = _day(rows.timestamp_W.min())
        out[f"{part} ends"] = _day(rows.timestamp_W.max())
    gap = parts["test"].timestamp_W.min() - parts["train"].timestamp_W.max()
    out["days from train's end to test's begin"] = round(float(gap) / 86400, 2)
    late = parts["train"].timestamp_W.max() > parts["test"].timestamp_W
    out["test targets before train's end"] = _share(late)
    return out


def _day(timestamp: int) -> str:
    try:
        return datetime.fromtimestamp(int(timestamp), timezone.utc).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{timestamp} s"  # not a time any calendar here knows


def _popularity(count_N: IntArray, curve: Any) -> dict[str, Fact]:
    n = len(count_N)
    rank = np.arange(n, 0, -1)  # the most popular item has the highest rank
    total = max(1, int(count_N.sum()))
    gini = float(2 * (rank * count_N).sum() / (n * total) - (n + 1) / n)
    out: dict[str, Fact] = {
        f"train targets on the top {100 * share:.0f} % of items": float(curve[round(share * n)])
        for share in TOP_SHARES
    }
    return {**out, "items never a train target": int((count_N == 0).sum()), "Gini": gini}


def _titles(dataset: Dataset, test: Windows) -> dict[str, Fact]:
    titles = dataset.catalogue.titles[1:]
    class_N = dataset.catalogue.title_class
    size_N = np.bincount(class_N[1:], minlength=len(class_N))[class_N]
    size_N[0] = 1
    longest = int(np.argmax([len(title) for title in titles]))
    return {
        "distinct titles": len(np.unique(class_N[1:])),
        "items that share a title": int((size_N > 1).sum()),
        "groups that share a title": len(np.unique(class_N[size_N > 1])),
        "largest group": int(size_N.max()),
        "test targets with a shared title": _share(size_N[test.target_W] > 1),
        "titles with HTML entities": sum(bool(ENTITY.search(title)) for title in titles),
        "empty titles": sum(not title.strip() for title in titles),
        "characters, mean": float(np.mean([len(title) for title in titles])),
        "characters, longest": len(titles[longest]),
        "item with the longest title": longest + 1,
    }


def _share(flags: BoolArray) -> float | None:
    return float(np.mean(flags)) if len(flags) else None
