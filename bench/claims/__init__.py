"""Published numbers as data, and verdicts against ours."""

from bench.claims.grim import impossible
from bench.claims.ledger import Agreement, Ours, Verdict, agreement, judge, ledger
from bench.claims.paper import TEST_ROWS, Claim, claims, interval, published, standard_error

__all__ = [
    "TEST_ROWS",
    "Agreement",
    "Claim",
    "Ours",
    "Verdict",
    "agreement",
    "claims",
    "impossible",
    "interval",
    "judge",
    "ledger",
    "published",
    "standard_error",
]
