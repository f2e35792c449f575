"""The MSL paper's tables and figures from stored rows, our numbers beside the published ones; no torch."""

from bench.paper.write import write_paper

__all__ = ["write_paper"]
