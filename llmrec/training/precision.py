"""How exactly a GPU multiplies matrices of float32 in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def short_products(wanted: bool) -> Iterator[None]:
    """Within this context a GPU multiplies float32 matrices in TensorFloat-32, if that is wanted."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = wanted or before
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
