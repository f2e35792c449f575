"""How options of losses and decoders are written into a row, so that a younger option moves no older key."""

from __future__ import annotations

import dataclasses
from typing import Any

# marks an option younger than published rows: unwritten at its default, so that their keys stay
LATER = {"unwritten": True}


def written(options: Any) -> dict[str, Any]:
    """All options as a row shows them: with every default, but for those that older rows do not know."""
    younger = {
        f.name: f.default for f in dataclasses.fields(options) if f.metadata.get("unwritten")
    }
    values = dataclasses.asdict(options)
    return {k: v for k, v in values.items() if k not in younger or v != younger[k]}
