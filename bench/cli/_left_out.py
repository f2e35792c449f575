"""Files of rows that a verb leaves out: one line each, and the others go on."""

from __future__ import annotations

import sys

from bench.errors import BenchError
from bench.text.plain import one_line
from bench.text.secrets import without_secrets


class LeftOut:
    """Prints a line for each file that cannot be used, once however often it is met; counts them."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, fault: BenchError) -> None:
        """Say what is wrong with a file."""
        line = one_line(without_secrets(str(fault)), 600)
        if line not in self._said:
            self._said.add(line)
            print(f"left out: {line}", file=sys.stderr)

    def __len__(self) -> int:
        return len(self._said)
