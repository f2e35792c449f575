"""What several tests of runs and boards share."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from _habits import order_in

import bench.claims
from bench.api import default_store
from bench.claims.paper import VERSIONS

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
