"""Downloads of pinned files that go on where they broke off and end whole and checked, or not at all.

The paper's files are Amazon reviews without a stated licence, for research use with citation of McAuley
et al. Toy's have three columns more than the others (mask, item_titles, replaced_item_titles); they are
kept, and the reader passes over them.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bench.data.pins import BASE, Pin, blob_id
from bench.errors import BenchError, DataError, Unavailable

CHUNK = 1 << 16  # bytes
LATER = (408, 429, 500, 502, 503, 504)  # answers that may change by themselves
PAUSES = (0.5, 2.0, 5.0)  # seconds before each further try


def fetch(
    pins: Iterable[Pin],
    root: Path,
    *,
    base: str = BASE,
    workers: int = 4,
    pauses: tuple[float, ...] = PAUSES,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Bring files to ``root``; those already there and right are left alone.

    Args:
        pins: the files.
        root: folder they go to, each under its ``target``.
        base: address before the repository.
        workers: downloads at a time.
        pauses: seconds to wait before each further try of a broken download.
        say: called with one line for each file that is done.

    Returns:
        The paths, in the order of ``pins``.

    Raises:
        Unavailable: the host cannot be reached; what has come so far stays and is not fetched again.
        DataError: a file is gone or is no longer the one that was pinned.
    """
    pins = list(pins)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        jobs = {pool.submit(_fetch_one, pin, root, base, pauses): pin for pin in pins}
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                say(f"[{done}/{len(jobs)}] {jobs[job].target}: {job.result()}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [root / pin.target for pin in pins]


def _fetch_one(pin: Pin, root: Path, base: str, pauses: tuple[float, ...]) -> str:
    target = root / pin.target
    if target.is_file() and blob_id(target.read_bytes()) == pin.blob:
        return "already here"
    # the blob in the name: what is left of another version is never gone on with
    part = target.with_name(f".{target.name}.{pin.blob[:12]}.part")
    resumed = part.is_file()
    _complete(pin, part, base, (target, pauses))
    if resumed and blob_id(part.read_bytes()) != pin.blob:
        part.unlink()  # what lay there was no beginning of this file
        resumed = False
        _complete(pin, part, base, (target, pauses))
    data = part.read_bytes()
    if blob_id(data) != pin.blob:
        part.unlink()
        raise _changed(pin, base, target, blob_id(data))
    part.replace(target)
    return f"{len(data):,} bytes" + (", taken up where it broke off" if resumed else "")


def _complete(pin: Pin, part: Path, base: str, then: tuple[Path, tuple[float, ...]]) -> None:
    """Download until the server has no more to give, trying again after each pause."""
    target, pauses = then
    for pause in (*pauses, None):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _download(pin.url(base), part)
            return
        except (OSError, http.client.HTTPException) as error:
            if pause is None or _is_final(error):
                raise _explain(error, pin, base, target) from error
            time.sleep(pause)


def _download(url: str, part: Path) -> None:
    """Append what is missing of ``url`` to ``part``; starts over where the server cannot resume."""
    begun = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "msl-bench", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        return  # everything is here already; the blob id decides whether it is right
    with (
        answer,
        part.open("ab" if answer.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as out,
    ):
        expected, got = answer.headers.get("Content-Length"), 0
        while chunk := answer.read(CHUNK):
            got += len(chunk)
            out.write(chunk)
    if expected is not None and got != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - got)


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: the disk says no, or the server says other than "later"."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in LATER
    return _is_of_disk(error)


def _is_of_disk(error: Exception) -> bool:
    network = isinstance(error, urllib.error.URLError)
    return isinstance(error, OSError) and not network and error.filename is not None


def _by_hand(pin: Pin, base: str, target: Path) -> str:
    return f"by hand: save {pin.url(base)} as {target} (git blob {pin.blob})"


def _explain(error: Exception, pin: Pin, base: str, target: Path) -> BenchError:
    if isinstance(error, urllib.error.HTTPError) and _is_final(error):
        return DataError(
            f"{pin.url(base)} answers {error.code}: the file is gone or closed; "
            f"look for commit {pin.commit[:12]} of {pin.repository} elsewhere and save {pin.path} as "
            f"{target} (git blob {pin.blob})"
        )
    if isinstance(error, OSError) and _is_of_disk(error):
        why = error.strerror
        return DataError(f"{target}: cannot be written ({why}); choose another --data-root")
    reason = getattr(error, "reason", None) or error
    return Unavailable(
        f"{pin.target}: cannot be fetched from {base} ({reason}). Run the same command again to go on, "
        "or run it on a machine with internet and copy its folder here (--data-root, BENCH_DATA); "
        + _by_hand(pin, base, target)
    )


def _changed(pin: Pin, base: str, target: Path, got: str) -> DataError:
    return DataError(
        f"{pin.target}: the source gives another file than the pinned one (git blob {got}, expected "
        f"{pin.blob}); nothing was kept. A proxy may have changed it; "
        + _by_hand(pin, base, target)
    )
