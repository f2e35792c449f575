"""Where the cells of an order will run, as far as a plan has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.execution.asking import ranks_of
from bench.execution.places import Places
from bench.experiment.forecast import device_of
from bench.experiment.plan import Site
from bench.results.store import Store

if TYPE_CHECKING:
    from bench.api import Order


def site_of(order: Order, store: Store, here: Places, usual: int) -> Site:
    """Device, cells at a time, processes and cores of a cell.

    Args:
        order: may send its cells elsewhere, or ask how long they would take on another machine.
        store: has the rows of other machines.
        here: what this machine has.
        usual: processes of a cell that can share its work, by suite or scale.

    Raises:
        ConfigError: no row was made on the machine named, or there are fewer GPUs than are asked for.
    """
    there = len(here.gpus) if order.gpus_there is None else order.gpus_there
    device = device_of(store, order.machine) if order.machine else order.device or here.device
    on_gpus = order.jobs or max(len(here.gpus), 1)
    return Site(
        device=device,
        places=order.at_once or (on_gpus if device == "cuda" else here.most),
        ranks=ranks_of(order.gpus_per_cell, usual, there),
        cores=order.cores_there or here.threads,
        machine=order.machine,
    )
