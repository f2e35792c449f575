"""Which cells run side by side: on GPUs by measured memory, on a CPU by cores, alone after running out."""

from dataclasses import replace

import pytest

from bench.api import prepare
from bench.cell import Row
from bench.cli.plan import runs_on
from bench.errors import ConfigError
from bench.execution.asking import Ask, ranks_of
from bench.execution.faults import Starved, memory_of
from bench.execution.places import CELLS_A_GPU, Places, kept_for

GIB = 2.0**30


def gpus(n=2, gib=80.0, most=8):
    return Places({str(i): gib * GIB for i in range(n)}, most, threads=4)


def start(here, *asked):
    """The GPUs that each cell gets, in turn; None for one that has to wait."""
    found = []
    for ask in asked:
        slot = here.find(ask)
        if slot is not None:
            here.take(slot)
        found.append(None if slot is None else "".join(slot.gpus))
    return found


def small(gib):
    return Ask(gpu_bytes=gib * GIB)


def test_a_cell_of_unknown_size_has_its_gpu_for_itself():
    assert start(gpus(), Ask(), Ask(), Ask(), small(1)) == ["0", "1", None, None]


def test_cells_of_known_size_are_dealt_out_and_then_share():
    assert start(gpus(), *[small(1)] * 5) == ["0", "1", "0", "1", "0"]
    assert kept_for(30 * GIB) == 37 * GIB
    assert start(gpus(1), small(30), small(30), small(30)) == ["0", "0", None]
    assert start(gpus(1, most=99), *[small(1)] * (CELLS_A_GPU + 1))[-1] is None
    assert start(gpus(1), small(500)) == ["0"], "what was measured on a larger GPU may still shrink"
    assert start(gpus(2, most=2), *[small(1)] * 3) == ["0", "1", None]


def test_a_cell_of_several_ranks_waits_for_as_many_free_gpus():
    here = gpus(3)
    assert start(here, small(1), Ask(ranks=2), Ask(ranks=2), small(1)) == ["0", "12", None, "0"]
    here.give_back(here.taken[1])
    assert start(here, Ask(ranks=3), Ask(ranks=2)) == [None, "12"]


def test_what_a_cell_shares_is_known():
    here = gpus(1)
    assert here.find(small(1)).shares == ("gpu", "host")
    assert here.find(Ask()).shares == ("host",)
    assert gpus(1, most=1).find(Ask()).shares == gpus(1, most=1).find(small(1)).shares == ()
    alone = here.find(Ask(gpu_bytes=GIB, alone="gpu"))
    assert (alone.shares, alone.gpu_bytes) == (("host",), None)


def test_alone_means_that_nothing_else_runs():
    for here in (gpus(), Places({}, 2, threads=1)):
        first = here.find(Ask())
        here.take(first)
        assert here.find(Ask(alone="host")) is None
        here.give_back(first)
        alone = here.find(Ask(alone="host"))
        assert alone.shares == ()
        here.take(alone)
        assert here.find(Ask()) is None


def test_ranks_on_a_cpu_share_the_threads_of_their_cell():
    assert Places({}, 1, threads=8).find(Ask(ranks=3)).threads == 2
    assert Places({}, 2, threads=1).find(Ask(ranks=2)).threads == 1
    assert gpus().find(Ask(ranks=2)).threads == 4


@pytest.mark.parametrize(
    ("made", "gpu_bytes", "on"),
    [
        ({"device": "cuda"}, 3 * GIB, "4.6 GiB of a GPU"),
        ({"device": "cuda", "ranks": 2}, None, "1 GPU"),
        ({"device": "cpu"}, None, "1 GPU"),
    ],
)
def test_a_plan_takes_gpu_memory_from_an_earlier_row_of_its_kind(
    bench_order, store, made, gpu_bytes, on
):
    order = bench_order("good", reuse="never", device="cuda")
    (job,) = prepare(order, store).plan.todo
    assert job.gpu_bytes is None
    cost = {"fit": {"seconds": 1.0, "peak_gpu_bytes": 3 * GIB}, "recommend": {"peak_gpu_bytes": 7}}
    store.write(Row(cell=job.cell, status="done", cost=cost, provenance=made))
    (job,) = prepare(order, store).plan.todo
    assert (job.gpu_bytes, runs_on(job, "cuda")) == (gpu_bytes, on)
    assert runs_on(replace(job, ranks=2), "cuda") == "2 GPUs"
    assert runs_on(replace(job, ranks=2), "cpu") == "CPU, 2 processes"


class OutOfMemoryError(RuntimeError):
    """By this name torch raises what a GPU cannot hold."""


def chained(outer, inner):
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("fault", "memory"),
    [
        (MemoryError(), "host"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "host"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu"),
        (chained(ValueError("no row fits"), OutOfMemoryError()), "gpu"),
        (Starved("rank 1 of 2: out of memory", "gpu"), "gpu"),
        (ValueError("out of memory, they said"), ""),
    ],
)
def test_the_memory_that_ran_out_is_told_by_the_fault(fault, memory):
    assert memory_of(fault) == memory


def test_gpus_of_a_cell_are_those_asked_for_or_the_usual_as_far_as_there_are():
    assert [ranks_of(None, usual=4, there=there) for there in (0, 1, 2, 8)] == [1, 1, 2, 4]
    assert ranks_of(3, usual=4, there=8) == 3
    assert ranks_of(2, usual=1, there=0) == 2, "on a CPU, processes share the cores"
    with pytest.raises(ConfigError, match="--gpus-per-cell 3: it must be from 1 to 2, the GPUs"):
        ranks_of(3, usual=4, there=2)
