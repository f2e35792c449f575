"""The derived cache: it spares reading, and nothing depends on it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from _board_rows import M, cell, done, tiny_board, write

from bench.board import write_board
from bench.results import figure_table
from bench.results.cache import Cache, key_of
from bench.results.packed import Packed


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


@pytest.fixture
def reads(monkeypatch):
    """Files that were read whole."""
    found, load = [], Packed.load
    monkeypatch.setattr(figure_table.Packed, "load", lambda path: found.append(path) or load(path))
    return found


def tables(rows, out):
    return {str(p.relative_to(out)): p.read_bytes() for p in write_board(rows, out)}


def test_a_second_build_reads_no_packed_file_and_writes_the_same(rows, reads, tmp_path):
    first = tables(rows, tmp_path / "out")
    assert len(reads) == 4 + 1, "each for its figures, one for the users of the table"
    reads.clear()
    assert tables(rows, tmp_path / "out") == first
    assert reads == []


def test_only_what_changed_is_read_again(rows, reads, tmp_path):
    tables(rows, tmp_path / "out")
    reads.clear()
    write(rows, *done([0, 0, 0, M, M, M], cell("bigrec")))
    now = tables(rows, tmp_path / "out")
    assert sum("bigrec" in path.name for path in reads) >= 1
    shutil.rmtree(tmp_path / ".cache")
    assert tables(rows, tmp_path / "out") == now


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "foreign", "folder"])
def test_a_damaged_cache_is_computed_again(rows, harm, tmp_path):
    first = tables(rows, tmp_path / "out")
    files = sorted((tmp_path / ".cache/rows").glob("*.npz"))
    assert len(files) == 2, "figures and one table"
    for path in files:
        content = bytearray(path.read_bytes())
        if harm == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif harm == "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        elif harm == "empty":
            path.write_bytes(b"")
        elif harm == "foreign":
            np.savez(path.open("wb"), other=np.arange(3))
        else:
            path.unlink()
            path.mkdir()
    assert tables(rows, tmp_path / "out") == first


def test_what_no_row_asks_for_is_forgotten(rows, tmp_path):
    tables(rows, tmp_path / "out")
    stale = tmp_path / ".cache/rows" / "0123.npz"
    stale.write_bytes(b"old")
    tables(rows, tmp_path / "out")
    assert not stale.exists()


def test_keys_depend_on_what_they_are_made_of():
    assert key_of(["a", "b"]) == key_of(["a", "b"]) != key_of(["b", "a"])


def test_without_a_folder_nothing_is_kept():
    cache = Cache(None)
    cache.save("a", {"x": np.arange(2)})
    assert cache.load("a") is None
    assert cache.forget_unused() is None
