"""The GPUs of this machine, asked of the driver so that no CUDA context is opened."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from bench.errors import ConfigError


def usable_gpus(asked: Sequence[int] | None = None) -> list[tuple[str, float]]:
    """Each GPU that a run may use: its name for CUDA_VISIBLE_DEVICES, and its memory in GiB.

    Args:
        asked: indices, counted among those that CUDA_VISIBLE_DEVICES leaves (all, if it is not set);
            None for all of these.

    Raises:
        ConfigError: an index without a GPU.
    """
    found = _visible_gpus()
    if asked is None:
        return found
    for index in asked:
        if not 0 <= index < len(found):
            allowed = ", ".join(map(str, range(len(found))))
            there = f"allowed are {allowed}, or none" if found else "no GPU was found; give none"
            raise ConfigError(f"--gpus {index}: there is no such GPU; {there} to use the CPU")
    return [found[index] for index in dict.fromkeys(asked)]


def _visible_gpus() -> list[tuple[str, float]]:
    gib = gpu_memory_gib()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [(str(index), memory) for index, memory in enumerate(gib)]
    found = []
    # CUDA would find no GPU at all where one is named twice
    for name in dict.fromkeys(map(str.strip, named.split(",") if gib else ())):
        if name.isdigit() and int(name) < len(gib):
            found.append((name, gib[int(name)]))
        elif name.startswith(("GPU-", "MIG-")):
            found.append((name, min(gib)))  # which one it is does not matter much
        else:
            break  # CUDA ignores what follows a name it does not know
    return found


@cache
def gpu_memory_gib() -> tuple[float, ...]:
    """Memory of each NVIDIA GPU in GiB, asked of the driver so that no CUDA context is opened."""
    try:
        return tuple(float(line) / 1024 for line in _asked("memory.total"))
    except ValueError:
        return ()


@cache
def gpu_names() -> tuple[str, ...]:
    """Each NVIDIA GPU with its memory and driver: ``NVIDIA H100 80GB HBM3 (80 GiB, driver 550.54)``."""
    found = []
    for line in _asked("name,memory.total,driver_version"):
        name, memory, driver = (part.strip() for part in line.rsplit(",", 2))
        gib = f"{int(memory) / 1024:.0f} GiB, " if memory.isdigit() else ""
        found.append(f"{name} ({gib}driver {driver})")
    return tuple(found)


def _asked(what: str) -> list[str]:
    """What the driver says of each GPU, a line each; nothing where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()
