"""Rows a second and peak memory of a rebuild from raw reviews.

Writes a synthetic dump in the form of the 2014 release (gzip JSON lines for reviews, Python literals for
metadata), rebuilds it in a fresh process, and prints one JSON object as its last line::

    python -m speed.rebuild --reviews 20000000
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 200_000
CATEGORY = "Synthetic"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=200_000)
    parser.add_argument("--form", choices=("json", "csv"), default="json")
    parser.add_argument("--folder", type=Path, help="keep the dump there, and use one found there")
    parser.add_argument("--rebuild", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.rebuild:
        print(json.dumps(measure(chosen.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        began = time.perf_counter()
        write_dump(folder, chosen.reviews, chosen.form)
        written_s = time.perf_counter() - began
        command = [sys.executable, "-m", "speed.rebuild", "--rebuild", "--folder", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"dump of {chosen.reviews:,} reviews ({sizes}) written in {written_s:.1f} s")
    figures = {"reviews": chosen.reviews, "form": chosen.form, "dump_bytes": sum(sizes.values())}
    rate = chosen.reviews / found["seconds"]
    print(json.dumps(figures | found | {"reviews_per_s": round(rate), "cpus": os.cpu_count()}))


def measure(folder: Path) -> dict[str, float | int | str]:
    """Rebuild the dump; seconds of wall time and the peak resident size of this process."""
    from bench.data.amazon.rebuild import RawSource, build

    imported = peak_bytes()
    began, began_cpu = time.perf_counter(), time.process_time()
    source = RawSource.find(folder, CATEGORY, "2014")
    rebuilt = build(source)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - began_cpu, 2),
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": imported,
        "users": rebuilt.statistics.users,
        "items": rebuilt.statistics.items,
        "interactions": rebuilt.statistics.interactions,
        "windows": sum(len(part) for part in vars(rebuilt.dataset.split).values()),
        "version": rebuilt.dataset.version,
    }


def peak_bytes() -> int:
    """Peak resident size so far; the kernel's own figure is free of what the parent process held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_dump(folder: Path, n_reviews: int, form: str) -> None:
    """Reviews with long-tailed users and items, grouped by item as published, and their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"reviews_{CATEGORY}.json.gz" if form == "json" else f"ratings_{CATEGORY}.csv")
    if path.exists():
        return
    rng = np.random.default_rng(0)
    n_items, n_users = max(50, n_reviews // 10), max(50, n_reviews * 2 // 5)
    item = np.sort(tail(rng, n_items, n_reviews))
    user = tail(rng, n_users, n_reviews)
    day = rng.integers(10_957, 16_200, n_reviews)
    line = json_line if form == "json" else csv_line
    with packed(path) if form == "json" else path.open("wb") as file:
        for start in range(0, n_reviews, BATCH):
            rows = zip(*(x[start : start + BATCH].tolist() for x in (user, item, day)), strict=True)
            file.write("".join(line(u, i, d) for u, i, d in rows).encode())
    with packed(folder / f"meta_{CATEGORY}.json.gz") as file:
        for i in range(n_items):
            line = f"{{'asin': 'B{i:09d}', 'title': \"Thing no. {i}'s name\", 'price': 3.5}}\n"
            file.write(line.encode())


def packed(path: Path) -> gzip.GzipFile:
    """A gzip file without a time stamp, so that the same rows are the same bytes."""
    return gzip.GzipFile(path, "wb", compresslevel=1, mtime=0)


def tail(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Draws of 0..n-1 with a long tail: most names few times, a few very often."""
    return np.minimum(n * rng.random(size) ** 2.5, n - 1).astype(np.int64)


def json_line(user: int, item: int, day: int) -> str:
    return (
        f'{{"reviewerID": "A{user:012d}", "asin": "B{item:09d}", "reviewerName": "no one", '
        '"helpful": [0, 0], "reviewText": "A line or two of praise, of the usual length and taste, '
        'with nothing in it that a recommender would read.", "overall": 5.0, "summary": "Good", '
        f'"unixReviewTime": {day * 86400}, "reviewTime": "01 1, 2010"}}\n'
    )


def csv_line(user: int, item: int, day: int) -> str:
    return f"A{user:012d},B{item:09d},5.0,{day * 86400}\n"


if __name__ == "__main__":
    main()
