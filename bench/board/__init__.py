"""Rows to tables; loads no torch."""

from bench.board.frame import as_frame
from bench.board.rows import load_rows
from bench.board.sentence import headline
from bench.board.write import write_board

__all__ = ["as_frame", "headline", "load_rows", "write_board"]
