"""What a user chooses of a suite: scale, profile and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Options of a run: scale, profile and filters; a filter that is None keeps everything.

    ``config`` has values for every asked method that has the key; dots reach into nested mappings.
    """

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
    config: Mapping[str, Any] = field(default_factory=dict)
