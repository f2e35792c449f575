"""What a user chooses of a suite: scale, profile and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Options of a run: scale, profile and filters; a filter that is None keeps everything."""

    scale: str = "embedded"
    profile: str = "corrected"
    data_root: Path | None = None
    datasets: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    losses: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    backbone: str | None = None
    tune: int = 0
    limit: int | None = None
    candidates: Literal["all", "known"] = "all"
