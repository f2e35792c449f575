"""A runner that is killed at any named point: no row is lost, none is doubled, the same command goes on."""

import pytest
from _habits import order_in
from _in_process import answers, lost_and_twice, run
from _kill_points import POINTS, in_a_fork, kill_at

from bench.api import default_store, prepare
from bench.execution.store_files import look_through


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What builds orders, and the answers of a run that nothing disturbed."""
    home = tmp_path_factory.mktemp("calm")
    order, store = order_in(home), default_store(home / "out", home / "run")
    run(order("good", "needs"), store)
    return order, answers(store)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_runner_goes_on_where_it_was(calm, store, tell, point, after):
    order, expected = calm

    def until_killed():
        kill_at(point, after)
        run(order("good", "needs"), store)

    assert in_a_fork(until_killed) == -9
    before = answers(store)
    assert lost_and_twice({k: v for k, v in expected.items() if k in before}, before) == (0, 0)
    rows, said = run(order("good", "needs"), store)
    assert all(row.status == "done" for row in rows)
    lost, twice = lost_and_twice(expected, answers(store))
    assert (lost, twice) == (0, 0)
    assert prepare(order("good", "needs"), store).plan.todo == []
    assert [found.path for found in look_through(store) if found.fault] == []
    which = f"cell {after + 1} of 2" if point != "an epoch ends" else f"epoch {after + 1}"
    tell(f"SIGKILL when {point}, {which}", True, lost, twice, said[0] if said else "", True)
