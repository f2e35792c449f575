"""No result moves without a new version; a changed scorer or sampling is seen as well."""

import copy
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from bench.cell import PROTOCOL
from bench.conformance import toy_data
from bench.data.exams import carve_valid
from bench.errors import Unavailable
from bench.evaluation.metrics.ndcg import NDCG
from bench.registry import methods
from tests.pinned.compare import verdict
from tests.pinned.runs import RESULTS, names, results_of


def _pinned(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def tiny_runs():
    """The results of every method, made by as many processes as there are cores, the longest first."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        order = sorted(names(), key=lambda name: not methods.get(name).decodes)
        yield {name: pool.submit(results_of, name) for name in order}


@pytest.mark.parametrize("name", names())
def test_results_are_those_of_their_version(name, tiny_runs):
    try:
        now = tiny_runs[name].result()
    except Unavailable as reason:
        pytest.skip(str(reason))
    pinned = _pinned(name)
    assert set(pinned) == set(now), f"run `python -m tests.pinned {name}` for what is new"
    assert [said for label in now if (said := verdict(label, pinned[label], now[label]))] == []


def test_a_move_without_a_version_says_what_to_do():
    was = _pinned("sasrec")["sasrec+ce"]
    now = copy.deepcopy(was)
    assert verdict("sasrec+ce", was, now) == ""
    now["scores"][4][0] += 0.5
    said = verdict("sasrec+ce", was, now)
    assert "raise `version` in baselines/sasrec.py" in said and "tests.pinned sasrec" in said
    now["versions"]["method"] += 1
    assert "its pinned result is of" in verdict("sasrec+ce", was, now)


def test_near_ties_may_change_places():
    was = _pinned("sasrec")["sasrec+ce"]
    near, far = copy.deepcopy(was), copy.deepcopy(was)
    for run in (near, far):
        first, second = run["items"][0][:2]
        run["items"][0][:2] = second, first
    near["scores"][0][1] = was["scores"][0][1] = was["scores"][0][0] - 1e-5
    assert verdict("sasrec+ce", was, near) == ""
    far_was = copy.deepcopy(far)
    far_was["items"][0][:2] = far["items"][0][1], far["items"][0][0]
    far_was["scores"][0][1] = far["scores"][0][1] = far["scores"][0][0] - 0.3
    assert "the order of query 0" in verdict("sasrec+ce", far_was, far)


def test_a_changed_discount_is_caught(monkeypatch):
    was = _pinned("popularity")["popularity"]
    monkeypatch.setattr(NDCG, "weight", lambda self, rank_K: 1 / np.log(rank_K + 1.0))
    now = results_of("popularity")["popularity"]
    monkeypatch.undo()
    assert "PROTOCOL" in verdict("popularity", was, now)


def test_the_protocol_is_the_one_of_its_version():
    """Sampling, carving and title classes by hand; another draw needs another PROTOCOL."""
    data = toy_data()
    assert PROTOCOL == "1"
    sampled = data.train.sample(20).target_W
    assert sampled.tolist() == PINNED_SAMPLE
    exam = data.valid.sample(6)
    assert exam.queries.user_Q.tolist() == PINNED_EXAM
    split, _ = carve_valid(data.train, data.valid)
    assert (len(split.train), len(split.valid)) == PINNED_CARVE
    assert data.train.catalogue.title_class[[4, 9]].tolist() == [4, 4]


PINNED_SAMPLE = [30, 23, 24, 14, 18, 11, 17, 27, 36, 4, 13, 7, 5, 18, 14, 28, 33, 12, 14, 19]
PINNED_EXAM = [0, 8, 9, 11, 16, 18]
PINNED_CARVE = (140, 20)
