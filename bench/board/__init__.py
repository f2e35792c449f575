"""Rows to tables; loads no torch."""

from bench.board.rows import as_frame, load_rows
from bench.board.write import write_board

__all__ = ["as_frame", "load_rows", "write_board"]
