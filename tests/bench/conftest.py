"""What several tests of runs and boards share."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from _habits import order_in
from slurm_cluster import CannotStart, Cluster, missing

import bench.claims
from bench.api import default_store
from bench.claims.paper import VERSIONS
from bench.execution import slurm
from bench.execution.slurm_commands import look

INVENTED = {"v", "newer_version", "0123456789abcdef", "0123456789", "fedcba9876"}


@pytest.fixture(autouse=True)
def invented_versions_count_as_the_papers(monkeypatch):
    """The rows of these tests are made by hand, and so are the versions of their data."""
    assert bench.claims, "the module below is loaded"
    known = {name: versions | INVENTED for name, versions in VERSIONS.items()}
    monkeypatch.setattr(sys.modules["bench.claims.matching"], "VERSIONS", known)


@pytest.fixture
def bench_order(tmp_path):
    """Build an order of ``habit`` cells from their habits."""
    return order_in(tmp_path)


@pytest.fixture
def store(tmp_path):
    return default_store(tmp_path / "out", tmp_path / "run")


@pytest.fixture
def tell(request):
    """Note one line for the table of ``python -m speed.faults``: what was done, and what came of it."""

    def line(injected, survived, lost, twice, message="", healed=False):
        goal = os.environ.get("BENCH_FAULTS")
        if goal:
            test = request.node.nodeid.rpartition("/")[2]
            said = " ".join(re.sub(r"/\S*/pytest-\d+/[^/\s]+/", "", message).split())
            fault = (injected, survived, lost, twice, said, healed, test)
            with Path(goal).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(fault) + "\n")

    return line


@pytest.fixture(scope="module")
def running_cluster(request, tmp_path_factory):
    """A Slurm cluster, without accounting unless a test asks for ``with accounting``."""
    accounting = getattr(request, "param", "") == "with accounting"
    if lacks := missing(accounting=accounting):
        pytest.skip(lacks)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), accounting=accounting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))  # as it was, once the cluster is gone
        try:
            cluster.start()
        except CannotStart as fault:
            pytest.skip(f"no Slurm cluster can be started here: {fault}")
        yield cluster
        cluster.stop()


@pytest.fixture
def cluster(running_cluster, monkeypatch):
    """The cluster, with no job of an earlier test; squeue is asked often."""
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.2)
    yield running_cluster
    running_cluster.clear()


@pytest.fixture
def new_jobs(cluster):
    """The jobs that came since the test began."""
    before = set(look())
    return lambda: {job: state for job, state in look().items() if job not in before}
