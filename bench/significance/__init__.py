"""Which differences are real: intervals, ranks, power; no torch."""
