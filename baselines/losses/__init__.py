"""Losses over scores of all items, one a file; see ``baselines.losses.base``."""
