"""Whether a method left its inputs alone, which it is scored against afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from bench.errors import ContractError

DERIVED = ("title_class", "target_count", "seen")  # computed when first asked for, then kept


class Untouched:
    """Remembers inputs by a checksum, some milliseconds for the largest of the published datasets.

    Args:
        **inputs: windows, exams or queries by name.
    """

    def __init__(self, **inputs: Any) -> None:
        self.inputs = inputs
        self._seals = self._now()

    def _now(self) -> dict[str, str]:
        return {
            name: seal
            for given, thing in self.inputs.items()
            for name, seal in _seals(given, thing)
        }

    def check(self, what: str) -> None:
        """Refuse a method that wrote to its inputs.

        Args:
            what: the call that may have written, e.g. ``fit``.

        Raises:
            ContractError: names what was written to.
        """
        now = self._now()
        written = [name for name, seal in self._seals.items() if now.get(name) != seal]
        if written:
            raise ContractError(
                f"{what} wrote to its inputs ({', '.join(written[:5])}), so nothing can be scored; copy an "
                "array before changing it"
            )


def _seals(name: str, thing: Any) -> Iterator[tuple[str, str]]:
    """Place and checksum of every array in a nest of dataclasses, computed ones included."""
    if isinstance(thing, np.ndarray):
        head = f"{thing.dtype} {thing.shape}".encode()
        yield name, hashlib.sha1(head + np.ascontiguousarray(thing).tobytes()).hexdigest()
    elif is_dataclass(thing):
        for part in DERIVED:
            getattr(thing, part, None)
        for part, value in vars(thing).items():
            yield from _seals(f"{name}.{part}", value)
