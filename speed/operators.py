"""Operator calls and host reads of a piece of work, counted on any device.

A GPU waits for its host at every read of a tensor's values, and every operator call costs the host some
microseconds; on a CPU both can be counted, which tells in advance what the GPU will wait for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701

# operators whose result, or its shape, the host has to wait for
WAITING = frozenset(
    {
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten._unique2",
        "aten.unique_consecutive",
        "aten.masked_select",
        "aten.bincount",
        "aten.repeat_interleave.Tensor",
        "aten.equal",
    }
)
READS = frozenset({"cpu", "numpy", "tolist", "item", "__bool__", "__int__", "__float__"})
COPIES_IN = frozenset({"as_tensor", "tensor", "from_numpy"})


class Operators(TorchDispatchMode):
    """Counts every operator that is called within it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls[str(func).removesuffix(".default")] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        """Calls that a host would wait for."""
        return sum(count for name, count in self.calls.items() if name in WAITING)


class Crossings(TorchFunctionMode):
    """Counts what crosses between host and device within it: values read, and arrays handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.copies_in = 0, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.reads += name in READS
        self.copies_in += name in COPIES_IN
        return func(*args, **(kwargs or {}))


def counted(work: Callable[[], Any], *, gradients: bool = False) -> dict[str, int]:
    """Operator calls, calls that wait, values read by the host and arrays handed to the device.

    Args:
        work: what is counted.
        gradients: whether it needs them.
    """
    operators, crossings = Operators(), Crossings()
    with torch.set_grad_enabled(gradients), crossings, operators:
        work()
    return {
        "operators": operators.calls.total(),
        "waits": operators.waits,
        "host_reads": crossings.reads,
        "copies_in": crossings.copies_in,
    }
