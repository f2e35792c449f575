"""What a phase costs: wall seconds, peak memory of host and GPU, energy. Unknown is None, never 0."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

RAPL = Path("/sys/class/powercap")
TICK_SECONDS = 0.05


class Meter:
    """Measures named phases of one process.

    Attributes:
        cost: by phase: ``seconds``, ``cpu_seconds``, ``peak_host_bytes`` (resident set of the process and
            its children), ``peak_gpu_bytes``, ``joules``.
    """

    def __init__(self) -> None:
        self.cost: dict[str, dict[str, float | None]] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict[str, float | None]]:
        """Measure the body; a phase entered twice (a resumed fit) adds up."""
        peak = _PeakMemory()
        _reset_gpu_peak()
        joules, start, cpu = _joules(), time.perf_counter(), time.process_time()
        peak.start()
        bill: dict[str, float | None] = {}
        try:
            yield bill
        finally:
            seconds, used = time.perf_counter() - start, time.process_time() - cpu
            end = _joules()
            bill |= {
                "seconds": seconds,
                "cpu_seconds": used,
                "peak_host_bytes": float(peak.stop()),
                "peak_gpu_bytes": _gpu_peak(),
                "joules": None if joules is None or end is None else end - joules,
            }
            self.add(name, bill)

    def add(self, name: str, bill: dict[str, float | None]) -> None:
        """Add an earlier part of the same phase: sums for time and energy, maxima for memory."""
        held = self.cost.setdefault(name, {})
        for key, value in bill.items():
            old = held.get(key)
            if old is None or value is None:
                held[key] = value if key not in held else None
            else:
                held[key] = max(old, value) if key.startswith("peak") else old + value


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
    """torch.cuda if some method has already opened it; the meter never opens it itself."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _reset_gpu_peak() -> None:
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()


def _gpu_peak() -> float | None:
    cuda = _cuda()
    return float(cuda.max_memory_allocated()) if cuda else None


def _joules() -> float | None:
    """Energy counters summed: the visible GPUs by NVML, else the CPU packages by RAPL, else None."""
    return _nvml_joules() if _cuda() else _rapl_joules()


def _nvml_joules() -> float | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        index = int(os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0])
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception:  # no NVML, no permission or no counter: the energy is simply not known
        return None


def _rapl_joules() -> float | None:
    counters = sorted(RAPL.glob("intel-rapl:?/energy_uj")) if RAPL.is_dir() else []
    try:
        return sum(int(c.read_text()) for c in counters) / 1e6 if counters else None
    except (OSError, ValueError):
        return None
