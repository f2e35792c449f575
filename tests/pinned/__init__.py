"""Pinned results: what guards a declared version.

For every method of the suite, under every loss and decoder it takes, a tiny run's lists and scores are kept
in ``results/``. A change that moves them without a new version would make old rows wrong without a word, so
the test fails and says what to do. ``python -m tests.pinned sasrec ...`` writes the results of these methods
anew (all, if none is named).
"""
