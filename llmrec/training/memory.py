"""GPU memory at the peak of a training's parts: its steps and its validations."""

from __future__ import annotations

from bench.execution.meter import gpu_peak_of_part


class Peaks:
    """The highest peak of each part; empty without a GPU, where the cell's own cost tells what it took."""

    def __init__(self) -> None:
        self.highest: dict[str, float] = {}

    def end(self, part: str) -> None:
        """Note what was taken since the latest part ended.

        Args:
            part: ``train`` or ``validate``.
        """
        if (peak := gpu_peak_of_part()) is not None:
            self.highest[part] = max(peak, self.highest.get(part, 0.0))

    def facts(self) -> dict[str, float]:
        """``train_peak_bytes`` and ``validate_peak_bytes``, as far as they are known."""
        return {f"{part}_peak_bytes": peak for part, peak in self.highest.items()}
