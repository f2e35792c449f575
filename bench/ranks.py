"""Several processes at work on one cell: dealing things out to them and collecting what each made of its own.

Each process (a rank) runs the same method on the same data with a GPU, or some cores, of its own. A method
that declares ``spreads`` calls these functions at the same places on every rank. In a cell of one process,
and outside any cell, they return what they were given. torch is asked, never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from bench.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def _distributed() -> Any:
    """torch.distributed where this process belongs to a group, else None."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def rank() -> int:
    """The number of this process, from 0."""
    group = _distributed()
    return int(group.get_rank()) if group else 0


def size() -> int:
    """How many processes work on this cell."""
    group = _distributed()
    return int(group.get_world_size()) if group else 1


@overload
def mine(things: Sequence[T]) -> Sequence[T]: ...
@overload
def mine(things: IntArray) -> IntArray: ...
def mine(things: Any) -> Any:
    """This process's share of things that all hold: every ``size()``-th, so shares differ by one at most."""
    return things[rank() :: size()]


def collected(share: Sequence[T]) -> list[T]:
    """The shares of all processes in the order in which ``mine`` dealt them out."""
    parts = everyones(share)
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole


def everyones(thing: T) -> list[T]:
    """The thing that each process gave, by rank; it is pickled on the way."""
    group = _distributed()
    if group is None:
        return [thing]
    found: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(found, thing)
    return found


def agreed(thing: T) -> T:
    """What process 0 gave; for what is read from a disk that changes meanwhile."""
    group = _distributed()
    if group is None:
        return thing
    box = [thing]
    group.broadcast_object_list(box, src=0)
    return box[0]


def summed(tensor: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place; every one gets the same bits."""
    if group := _distributed():
        group.all_reduce(tensor)
    return tensor


def wait() -> None:
    """Return once every process has come here."""
    if group := _distributed():
        group.barrier()
