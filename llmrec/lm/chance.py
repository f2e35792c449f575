"""Random numbers of a seed, drawn without disturbing those of the program around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch's CPU generator begins at a seed; afterwards it goes on as if nothing was drawn."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs as well, whose state is not restored here
        torch.default_generator.manual_seed(seed)
        yield
