"""Packed positions: small, exact, and jealous of every byte."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from _board_rows import lists_of

from bench.errors import ArtefactError, DataError
from bench.evaluation.lists import Lists, distinct
from bench.evaluation.metrics import means
from bench.evaluation.positions import MISSING, Positions
from bench.results.packed import Packed, positions_in
from bench.types import Catalogue, Exam, Queries, Ragged


def _of_the_first_make(path):
    """A file as the first rows had it: 32-bit users, one array a stratum, no targets, no lists."""
    rng = np.random.default_rng(1)
    warm = rng.random(40) < 0.3
    body = io.BytesIO()
    np.savez_compressed(
        body,
        **{
            "user_Q": rng.integers(0, 12, 40).astype(np.int32),
            "title.position_Q": np.where(warm, 3, MISSING).astype(np.uint8),
            "item.position_Q": np.where(warm, 4, MISSING).astype(np.uint8),
            "mask.warm": np.packbits(warm),
            "mask.cold": np.packbits(~warm),
        },
    )
    with zipfile.ZipFile(body, "a") as archive:
        archive.comment = b"0" * 64
    content = body.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


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
    for number in range(len(whole)):
        damaged = bytearray(whole)
        damaged[number] ^= 0x01
        path.write_bytes(bytes(damaged))
        with pytest.raises(ArtefactError, match=r"a\.npz"):
            Packed.load(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ArtefactError, match="no positions kept"):
        Packed.load(tmp_path / "none.npz")


def test_users_keep_64_bits_and_targets_lists_and_validation_come_back(tmp_path):
    found = Positions(np.array([0, MISSING], np.uint8))
    lists = lists_of([[2, 1], []])
    user_Q = np.array([7, 7 + (1 << 32)])
    packed = Packed(found, found, user_Q, {}, found, np.array([2, 9], np.int32), lists)
    packed.save(tmp_path / "a.npz")
    back = Packed.load(tmp_path / "a.npz")
    assert len(np.unique(back.user_Q)) == 2
    assert back.valid.position_Q.tolist() == [0, MISSING]
    assert back.target_Q.tolist() == [2, 9]
    np.testing.assert_array_equal(back.lists.title_QK, lists.title_QK)
    for name in ("title_D", "count_D", "seen_D", "n_titles", "n_train", "by_chance"):
        np.testing.assert_array_equal(getattr(back.lists, name), getattr(lists, name), name)
    assert positions_in(tmp_path / "a.npz", "item").position_Q.tolist() == [0, MISSING]


def test_files_of_the_first_make_are_read_and_take_their_targets(tmp_path):
    """They lie in the repository: 32-bit users, one array a stratum, no targets."""
    packed = Packed.load(_of_the_first_make(tmp_path / "old.npz"))
    assert (packed.target_Q, packed.valid, packed.lists) == (None, None, None)
    assert (packed.masks["warm"] ^ packed.masks["cold"]).all()
    users = packed.user_Q.astype(np.int64)
    users[0] += 1 << 32
    catalogue = Catalogue(("", "a", "b", "a"))
    n = len(packed)
    queries = Queries(catalogue, users, Ragged.of([[1]] * n), np.zeros(n, np.int64))
    full = packed.with_targets(Exam(queries, np.full(n, 3)))
    full.save(tmp_path / "new.npz")
    back = Packed.load(tmp_path / "new.npz")
    assert (back.target_Q == 1).all(), "the smallest item of that title"
    np.testing.assert_array_equal(back.user_Q, users)
    np.testing.assert_array_equal(back.title.position_Q, packed.title.position_Q)
    assert back.masks.keys() == packed.masks.keys()
    with pytest.raises(DataError, match="users differ"):
        packed.with_targets(Exam(replace(queries, user_Q=users[::-1]), np.full(n, 3)))


def test_lists_are_left_out_of_a_file_that_would_be_too_large():
    n = 12_000
    found = Positions(np.zeros(n, np.uint8))
    title_QK = np.random.default_rng(0).integers(1, 60_000, (n, 10))
    title_D = distinct(title_QK)
    lists = Lists(title_QK, title_D, title_D, title_D > 0, 60_000, n)
    small, why = Packed(found, found, np.arange(n), lists=lists).bounded()
    assert small.lists is None
    assert "the most is 200,000" in why
    few = replace(lists, title_QK=title_QK * 0)
    kept, why = Packed(found, found, np.arange(n), lists=few).bounded()
    assert (kept.lists, why) == (few, "")
