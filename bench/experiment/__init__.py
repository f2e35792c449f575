"""Suites and what they expand to: axes, profiles, the grid of cells, the plan."""
