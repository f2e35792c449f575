"""Packed positions: small, exact, and jealous of every byte."""

from __future__ import annotations

import numpy as np
import pytest

from bench.errors import ArtefactError
from bench.evaluation.metrics import means
from bench.evaluation.positions import MISSING, Positions
from bench.results.packed import Packed


def test_packed_positions_come_back_and_are_small(tmp_path):
    rng = np.random.default_rng(0)
    n = 4383
    hit = rng.random(n) < 0.04
    found = Positions(np.where(hit, rng.integers(0, 10, n), MISSING).astype(np.uint8))
    tail = Positions(
        found.position_Q,
        np.where(hit, 0, 1 / 257).astype(np.float32),
        np.full(n, 3, np.uint8),
    )
    masks = {"cold": rng.random(n) < 0.6}
    packed = Packed(found, tail, rng.integers(0, 3412, n), masks)
    packed.save(tmp_path / "a.npz")
    packed.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.npz").stat().st_size < 16_000
    back = Packed.load(tmp_path / "a.npz")
    assert back.title.chance_Q is None
    np.testing.assert_array_equal(back.title.position_Q, found.position_Q)
    np.testing.assert_array_equal(back.user_Q, packed.user_Q)
    np.testing.assert_array_equal(back.masks["cold"], masks["cold"])
    assert means(back.item) == means(tail)


def test_any_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    found = Positions(np.arange(10, dtype=np.uint8))
    Packed(found, found, np.arange(10)).save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        path.write_bytes(bytes(damaged))
        with pytest.raises(ArtefactError, match=r"a\.npz"):
            Packed.load(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ArtefactError, match="no positions kept"):
        Packed.load(tmp_path / "none.npz")
