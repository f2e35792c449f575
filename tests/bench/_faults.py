"""Faults on request: a disk that is full or read-only, a process that is killed and not buried."""

import contextlib
import os
import signal
import subprocess

import psutil
import pytest


@contextlib.contextmanager
def small_disk(folder, mebibytes=16):
    """A disk of its own under a folder; the test is skipped where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Write until the disk is full; returns the file to remove."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 65536)
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 64)
    return path


def make_writable(folder, yes):
    """Mount a small disk again, for writing or only for reading."""
    how = "rw" if yes else "ro"
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True)


def kill(process):
    """SIGKILL to one process, which stays a zombie until its parent asks for it."""
    os.kill(process.pid, signal.SIGKILL)


def is_at_work(process):
    """Whether a process is there and not only waits to be buried."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
