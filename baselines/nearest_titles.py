"""Nearest titles of the last item among fewer candidates: what a text floor gains from knowing them.

All three leave the history out of their lists. They differ from ``last_item_text`` in nothing but the items
they may name, so a table shows what that alone is worth.
"""

from __future__ import annotations

from typing import Any, ClassVar

from baselines.last_item_text import LastItemText, LastItemTextConfig, title_vectors
from baselines.nearest import NearestTitles
from bench.registry import methods
from bench.types import Catalogue


class _Lexical(NearestTitles):
    """Cosine of TF-IDF vectors, as in ``last_item_text``."""

    Config = LastItemTextConfig
    search: ClassVar = LastItemText.search

    def vectors(self, catalogue: Catalogue) -> tuple[Any, Any]:
        """The same vectors on both sides."""
        vector = title_vectors(catalogue, self.config)
        return vector, vector


@methods.register("last_item_text_masked")
class LastItemTextMasked(_Lexical):
    """Nearest titles of the last item, without the items of the history."""


@methods.register("last_item_text_new")
class LastItemTextNew(_Lexical):
    """Nearest titles of the last item among the items that occur nowhere in the training rows."""

    among = "never_trained"


@methods.register("last_item_text_above")
class LastItemTextAbove(_Lexical):
    """Nearest titles of the last item among the items with a larger id.

    Published ids follow the product codes, and purchases of one day are ordered by id, so this floor uses
    text and the order of ids together.
    """

    among = "ids_above_last"
