"""Losses at more than the last position of a window, against loops over its beginnings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_sequential import N, batch_of, fitted, toy

from baselines.causal import once_each
from bench.types import Catalogue, Ragged, Windows


def rows(users: list[int], sequences: list[list[int]], time: list[int] | None = None) -> Windows:
    catalogue = Catalogue(("", *(f"title {i}" for i in range(1, N + 1))), "rows")
    history = Ragged.of([row[:-1] for row in sequences])
    target = np.array([row[-1] for row in sequences], np.int32)
    return Windows(catalogue, np.array(users), history, target, np.array(time or users))


def test_bce_trains_every_position_with_negatives_outside_the_window(tmp_path):
    method = fitted("sasrec", "bce", tmp_path)
    windows = toy(5)
    batch = batch_of(method, windows)
    table = method.model.item_embedding.weight.detach()
    state = method.model.states(batch["item_id_list"]).detach()
    losses = []
    for row, window in enumerate(windows.sequences):
        for place in range(len(window) - 1):
            negative = int(batch["neg_item_id"][row, place])
            assert negative not in window and 1 <= negative <= N
            up = float(state[row, place] @ table[int(window[place + 1])])
            down = float(state[row, place] @ table[negative])
            losses.append(math.log1p(math.exp(-up)) + math.log1p(math.exp(down)))
    expected = sum(losses) / len(losses)
    assert method.model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_ce_of_every_interaction_is_ce_of_every_beginning(tmp_path):
    method = fitted("sasrec", "ce_all", tmp_path)
    windows = toy(5)
    method.model.attach_positions(once_each(windows, method.width))
    model, losses = method.model, []
    for window in windows.sequences:
        for end in range(1, len(window)):
            history = torch.from_numpy(np.asarray(window[:end], np.int64))[None]
            scores = model.scores(history, torch.tensor([end]))[0].double()
            losses.append((scores[1:].logsumexp(0) - scores[int(window[end])]).item())
    assert len(losses) == int(windows.history.lengths.sum()) > 5
    found = model.calculate_loss(batch_of(method, windows)).item()
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_every_interaction_is_trained_once_where_windows_grow():
    grown = rows([7, 7, 8, 7], [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4, 5]])
    assert once_each(grown, 4).tolist() == [
        [True, True, False, False],
        [False, False, True, False],
        [True, True, False, False],  # another user
        [False, False, False, True],
    ]


def test_every_interaction_is_trained_once_where_windows_slide_in_any_order():
    slid = rows([7, 7, 7], [[3, 4, 5], [1, 2, 3], [2, 3, 4]], time=[30, 10, 20])
    trained_WH = once_each(slid, 2)
    assert trained_WH.tolist() == [[False, True], [True, True], [False, True]]
    item_WL = slid.sequences.padded(3, align="left")
    assert sorted(item_WL[:, 1:][trained_WH].tolist()) == [2, 3, 4, 5]


def test_every_interaction_is_trained_once_where_windows_are_missing():
    sampled = rows([7, 7, 7], [[1, 2, 3, 4], [3, 4, 5, 6], [8, 9]])
    assert once_each(sampled, 3).tolist() == [
        [True, True, True],
        [False, True, True],  # 3, 4 was in the first row
        [True, False, False],
    ]


def test_a_pair_that_comes_back_is_another_interaction():
    back = rows([7, 7], [[1, 2, 1, 2, 5], [2, 1, 2, 5, 6]])
    assert once_each(back, 4).tolist() == [[True] * 4, [False, False, False, True]]


def test_only_the_items_a_model_reads_are_trained_after():
    cut = rows([1, 2], [[1, 2, 3, 4, 5], [9]])
    assert once_each(cut, 2).tolist() == [[True, True], [False, False]]


def test_a_batch_that_trains_nothing_has_no_loss(tmp_path):
    method = fitted("sasrec", "ce_all", tmp_path)
    method.model.attach_positions(np.zeros((3, method.width), bool))
    loss = method.model.calculate_loss(batch_of(method, toy(3)))
    loss.backward()
    assert loss.item() == 0.0
