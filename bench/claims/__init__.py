"""Published numbers as data, and verdicts against ours."""

from bench.claims.agreement import Agreement, agreement
from bench.claims.effects import Effect, effects
from bench.claims.feasible import feasible, infeasible, sizes
from bench.claims.grim import impossible
from bench.claims.ledger import Finding, ledger, line_verdicts, settle
from bench.claims.paper import TEST_ROWS, Claim, claims, interval, published, standard_error
from bench.claims.verdict import Ours, Verdict, judge

__all__ = [
    "TEST_ROWS",
    "Agreement",
    "Claim",
    "Effect",
    "Finding",
    "Ours",
    "Verdict",
    "agreement",
    "claims",
    "effects",
    "feasible",
    "impossible",
    "infeasible",
    "interval",
    "judge",
    "ledger",
    "line_verdicts",
    "published",
    "settle",
    "sizes",
    "standard_error",
]
