"""GRIM: can a printed Hit value be a fraction of the test rows at all?

A Hit value is h / n for a whole number h. Printed with four decimals it must equal some h / n after
rounding; Brown and Heathers (2017) call the check granularity-related inconsistency of means.
"""

from __future__ import annotations

from bench.claims.paper import Claim, claims


def possible(value: float, digits: int, n: int) -> bool:
    """Whether ``value``, rounded to ``digits`` decimals, is a whole number of ``n`` rows.

    Rounding half up and half to even are both accepted.

    Args:
        value: a printed share.
        digits: decimals it was printed with.
        n: test rows.
    """
    unit = 10.0**-digits
    near = round(value * n)
    return any(
        abs(hits / n - value) <= unit / 2 + 1e-12
        for hits in (near - 1, near, near + 1)
        if hits >= 0
    )


def impossible() -> list[Claim]:
    """The Hit values of Table 5 that no number of hits gives."""
    return [
        claim
        for claim in claims()
        if claim.table == "table5"
        and claim.metric.startswith("hit")
        and not possible(claim.value, claim.digits, claim.n)
    ]
