"""What a list is worth: positions, metrics, strata, candidates."""
