"""What several tests of runs and boards share."""

import sys

import pytest
from _habits import PLUGIN

import bench.claims
from bench.api import Order, default_store
from bench.claims.paper import VERSIONS
from bench.experiment.choice import Choice

INVENTED = {"v", "newer version", "0123456789abcdef", "0123456789", "fedcba9876"}


@pytest.fixture(autouse=True)
def invented_versions_count_as_the_papers(monkeypatch):
    """The rows of these tests are made by hand, and so are the versions of their data."""
    assert bench.claims, "the module below is loaded"
    known = {name: versions | INVENTED for name, versions in VERSIONS.items()}
    monkeypatch.setattr(sys.modules["bench.claims.matching"], "VERSIONS", known)


@pytest.fixture
def bench_order(tmp_path):
    """Build an order of ``habit`` cells from their habits."""
    plugin = tmp_path / "habit.py"
    plugin.write_text(PLUGIN)

    def order(*habits, limit=None, **more):
        rows = "\n".join(f"  - {{method: habit, config: {{habit: {h}}}}}" for h in habits)
        suite = tmp_path / "suite.yaml"
        suite.write_text(f"title: t\ndatasets: [ml_100k]\ntest_rows: 40\nrows:\n{rows}\n")
        choice = Choice(scale="embedded")
        return Order(
            suite=str(suite), choice=choice, plugins=[str(plugin)], limit_seconds=limit, **more
        )

    return order


@pytest.fixture
def store(tmp_path):
    return default_store(tmp_path / "out", tmp_path / "run")
