"""What several tests of runs share."""

import pytest
from _habits import PLUGIN

from bench.api import Order, default_store
from bench.experiment.grid import Choice


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
