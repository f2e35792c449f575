import sys

import pytest

import bench.claims
from bench.claims.paper import VERSIONS

INVENTED = {"v", "newer version", "0123456789abcdef", "0123456789", "fedcba9876"}


@pytest.fixture(autouse=True)
def invented_versions_count_as_the_papers(monkeypatch):
    """The rows of these tests are made by hand, and so are the versions of their data."""
    assert bench.claims, "the module below is loaded"
    known = {name: versions | INVENTED for name, versions in VERSIONS.items()}
    monkeypatch.setattr(sys.modules["bench.claims.ledger"], "VERSIONS", known)
