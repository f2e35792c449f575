"""Cost of a phase: seconds, peak memory of host and GPU, energy. What is unknown is None, never 0."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

RAPL = Path("/sys/class/powercap")
TICK_SECONDS = 0.05


class Meter:
    """Measures named phases of one process.

    Args:
        others: what the phase at hand costs each process that works on the same thing, once they are done
            with it: processor time and joules are added, of GPU memory the highest peak counts.

    Attributes:
        cost: by phase: ``seconds``, ``cpu_seconds``, ``peak_host_bytes`` (resident set of the process and
            its children), ``peak_gpu_bytes``, ``joules``.
    """

    def __init__(self, others: Callable[[], Sequence[Bill]] = tuple) -> None:
        self.others = others
        self.cost: dict[str, Bill] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Reading]:
        """Measure the body of a ``with``; costs of a phase that is entered again add up."""
        reading = Reading()
        others: Sequence[Bill] = ()
        try:
            yield reading
            others = self.others()
        finally:
            self.add(name, _with(reading.close(), others))

    def add(self, name: str, bill: Bill) -> None:
        """Add an earlier part of the same phase: sums for time and energy, maxima for memory.

        Args:
            name: of the phase.
            bill: what the earlier part cost, as in ``cost``.
        """
        held = self.cost.setdefault(name, {})
        for key, value in bill.items():
            old = held.get(key)
            if old is None or value is None:
                held[key] = value if key not in held else None
            else:
                held[key] = max(old, value) if key.startswith("peak") else old + value


Bill = dict[str, "float | None"]


def _with(own: Bill, others: Sequence[Bill]) -> Bill:
    """The cost of one phase in several processes; seconds and host memory of the first hold for all."""
    whole = Meter()
    whole.add("", own)
    for bill in others:
        used = {"cpu_seconds": bill["cpu_seconds"]}
        if bill["peak_gpu_bytes"] is not None:  # else the energy is that of the processor all share
            used |= {key: bill[key] for key in ("peak_gpu_bytes", "joules")}
        whole.add("", used)
    return whole.cost.get("", own)


@dataclass(frozen=True)
class Energy:
    """Readings of the energy counters. All are read, since a phase may open the GPU after it began.

    Attributes:
        gpu: joules of the visible GPU; None if unknown.
        packages: microjoules of each CPU package, by the file of its counter.
    """

    gpu: float | None = field(default_factory=lambda: _nvml_joules())
    packages: dict[Path, int] = field(default_factory=lambda: _read_packages())

    def since(self, start: Energy) -> float | None:
        """Joules since ``start``: of the GPU if it is in use by now, else of the CPU packages."""
        if _cuda():
            return None if self.gpu is None or start.gpu is None else self.gpu - start.gpu
        if not self.packages or self.packages.keys() != start.packages.keys():
            return None
        used = [_since(path, start.packages[path], now) for path, now in self.packages.items()]
        return None if any(u is None for u in used) else sum(u or 0 for u in used) / 1e6


def _since(counter: Path, start: int, now: int) -> int | None:
    """Microjoules between two readings of a counter, which starts again at 0 when it is full."""
    if now >= start:
        return now - start
    try:
        return now - start + int(counter.with_name("max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None


class Reading:
    """Measures what has been spent since it was made."""

    def __init__(self) -> None:
        _reset_gpu_peak()
        self._peak = _PeakMemory()
        self._energy, self._start, self._cpu = Energy(), time.perf_counter(), time.process_time()
        self._peak.start()

    def bill(self) -> Bill:
        """The cost until now."""
        return {
            "seconds": time.perf_counter() - self._start,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_host_bytes": float(self._peak.peak),
            "peak_gpu_bytes": _gpu_peak(),
            "joules": Energy().since(self._energy),
        }

    def close(self) -> Bill:
        """End the measurement and return the cost."""
        bill = self.bill()  # before the sampler is waited for, which takes up to a tick
        return bill | {"peak_host_bytes": float(self._peak.stop())}


class _PeakMemory(threading.Thread):
    """Samples the resident set of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._done = threading.Event()
        self._process = psutil.Process(os.getpid())

    def run(self) -> None:
        while not self._done.is_set():
            self._sample()
            self._done.wait(TICK_SECONDS)

    def _sample(self) -> None:
        with contextlib.suppress(psutil.Error):
            family = [self._process, *self._process.children(recursive=True)]
            self.peak = max(self.peak, sum(p.memory_info().rss for p in family))

    def stop(self) -> int:
        self._done.set()
        self.join()
        self._sample()
        return self.peak


def _cuda() -> Any:
    """torch.cuda if it is initialised already; the meter never initialises it, which takes memory."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


_passed = [0.0]  # GPU peak of the parts of a phase that ``gpu_peak_of_part`` has ended


def _reset_gpu_peak() -> None:
    _passed[0] = 0.0
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()


def _gpu_peak() -> float | None:
    cuda = _cuda()
    return max(_passed[0], float(cuda.max_memory_allocated())) if cuda else None


def gpu_peak_of_part() -> float | None:
    """GPU bytes at the peak of a part of the phase at hand, which ends here; None without a GPU in use.

    The phase itself keeps the highest of its parts.
    """
    cuda = _cuda()
    if cuda is None:
        return None
    peak = float(cuda.max_memory_allocated())
    _passed[0] = max(_passed[0], peak)
    cuda.reset_peak_memory_stats()
    return peak


def _read_packages() -> dict[Path, int]:
    """The energy counter of each CPU package in microjoules; empty where they cannot be read."""
    counters = sorted(RAPL.glob("intel-rapl:?/energy_uj")) if RAPL.is_dir() else []
    try:
        return {counter: int(counter.read_text()) for counter in counters}
    except (OSError, ValueError):
        return {}


def _nvml_joules() -> float | None:
    """The energy counter of the first GPU that this process may see."""
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if not name:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        if name.isdigit():
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(name))
        else:
            handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception:  # no NVML, no permission or no counter: the energy is simply not known
        return None
