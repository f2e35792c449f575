"""One group of torch.distributed from the ranks of a cell, all on this machine."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable

PATIENCE = datetime.timedelta(days=7)  # a rank that is gone is noticed by its pipe, not by a clock


def gather_group(ranks: int, device: str, call: Callable[[int], None]) -> None:
    """Be the first rank of a group.

    Args:
        ranks: how many processes there are.
        device: ``cpu`` or ``cuda``.
        call: given the port to come to, lets the other ranks come.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # port 0: the system picks a free one, so that cells side by side never meet
    store = TCPStore("127.0.0.1", 0, ranks, is_master=True, wait_for_workers=False)
    call(store.port)
    _enter(store, 0, ranks, device)


def enter_group(port: int, rank: int, ranks: int, device: str) -> None:
    """Be another rank of the group.

    Args:
        port: where the first rank waits.
        rank: the number of this process, from 1.
        ranks: how many processes there are.
        device: ``cpu`` or ``cuda``.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    _enter(TCPStore("127.0.0.1", port, ranks, is_master=False), rank, ranks, device)


def _enter(store: object, rank: int, ranks: int, device: str) -> None:
    from torch import distributed

    if sys.platform == "linux":  # else gloo looks up the host's name, which not every machine can
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        # gloo for what is on the CPU: counts, lists, random states
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=store,  # type: ignore[arg-type]
        rank=rank,
        world_size=ranks,
        timeout=PATIENCE,
    )
