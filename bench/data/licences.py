"""Terms of the datasets, as far as rows about them may be passed on.

A row's packed file holds user numbers, title numbers and ranks: no title, no rating, no time, no review. With
the dataset at hand they can be joined again, so rows are passed on only where the data are public.
"""

from __future__ import annotations

AMAZON = "Amazon reviews (McAuley et al.), public for research; rows hold no text of a review"
MOVIELENS = "MovieLens-100K (GroupLens), for research; the data themselves may not be passed on"
TERMS = {**dict.fromkeys(("toy", "book", "clothing", "office"), AMAZON), "ml_100k": MOVIELENS}


def terms_of(dataset: str) -> str | None:
    """The terms of a dataset in a sentence; None for one whose rows may not be passed on."""
    return TERMS.get(dataset)
