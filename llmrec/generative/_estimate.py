"""How long a generative method takes, from the size of its language model and of its prompts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.cell import Size
from llmrec.generative._config import ZERO_SHOT
from llmrec.lm.names import EMBEDDED, SCRATCH, TINY_NAME

# weights of a model's layers, without the tables of its vocabulary
LAYERS = {EMBEDDED: 106e6, TINY_NAME: 1e5}
TYPICAL = (
    280.0  # characters of a prompt's titles and template on ml_100k, for which the seconds hold
)
TEMPLATE = 100.0
NEGATIVE = 0.2  # of a training row, what each further answer to it costs a preference loss
# on one core: a training row and a user, each for its steps and for every weight; and once
ROW, USER, ONCE = (7.5e-3, 5.6e-9), (2e-3, 2.3e-9), (4.0, 4.5e-8)
NAMED = re.compile(r"(\d+(?:\.\d+)?)([bm])\b", re.IGNORECASE)


def estimate(config: Any, size: Size) -> float | None:
    """Seconds of a whole cell on one core; None if nothing tells the size of the model.

    Args:
        config: of a generative method.
        size: of the cell.
    """
    weights = layer_weights(size.backbone or EMBEDDED, config)
    if weights is None:
        return None
    epochs = 0 if size.loss == ZERO_SHOT else config.loss_options.get("epochs", config.epochs)
    decoded = size.valid_rows if config.valid_rows is None else config.valid_rows
    users = size.test_rows + size.valid_rows + min(decoded, size.valid_rows) * epochs
    longer = (TEMPLATE + size.characters) / TYPICAL if size.characters else 1.0
    answers = 1 + NEGATIVE * config.loss_options.get("negatives", 0)
    row, user, once = (fixed + each * weights for fixed, each in (ROW, USER, ONCE))
    return once + longer * (row * answers * size.train_rows * epochs + user * users)


def layer_weights(backbone: str, config: Any) -> float | None:
    """Weights in the layers of a language model; None if neither its name nor its folder tells.

    Args:
        backbone: a known name, a folder with config.json, or a name that says it (``Llama-3-8B``).
        config: of the method, which shapes the backbone ``scratch``.
    """
    if backbone == SCRATCH:
        return _weights(config.layers, config.hidden, config.feed_forward)
    if backbone in LAYERS:
        return LAYERS[backbone]
    try:
        shape = json.loads((Path(backbone) / "config.json").read_text(encoding="utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        return _weights(*(int(shape[name]) for name in names))
    except (OSError, ValueError, KeyError, TypeError):
        found = NAMED.search(Path(backbone).name)
    return float(found[1]) * {"b": 1e9, "m": 1e6}[found[2].lower()] if found else None


def _weights(layers: int, hidden: int, feed_forward: int) -> float:
    """Of attention and a gated feed-forward block in each layer."""
    return float(layers * (4 * hidden * hidden + 3 * hidden * feed_forward))
