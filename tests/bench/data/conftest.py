import os
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[3].parent / "shared" / "data"


@pytest.fixture
def published():
    """The folder of a published dataset by name; skips the test where it is not at hand."""
    root = Path(os.environ.get("BENCH_DATA") or HOME)

    def find(name):
        if not (root / name).is_dir():
            pytest.skip(f"no {name} under {root}; set BENCH_DATA")
        return root / name

    return find
