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
from dataclasses import dataclass
from pathlib import Path

from bench.data.pins import BASE, Pin, blob_id
from bench.errors import BenchError, DataError, Unavailable

CHUNK = 1 << 16  # bytes
LATER = (408, 429, 500, 502, 503, 504)  # answers that may change by themselves
PAUSES = (0.5, 2.0, 5.0)  # seconds before each further try
SECONDS = 3600.0  # for all files together; a server that gives a byte now and then would never end


@dataclass(frozen=True)
class Terms:
    """How files are fetched.

    Attributes:
        base: address before the repository.
        pauses: seconds to wait before each further try.
        end: when to give up, on the monotonic clock.
    """

    base: str
    pauses: tuple[float, ...]
    end: float

    def check_time(self) -> None:
        """Refuse to go on after the end."""
        if time.monotonic() > self.end:
            raise TooSlow("the time for all downloads is over; --base-url names another host")


class TooSlow(OSError):
    """Downloads are not finished within their time."""


class TooLong(http.client.HTTPException):
    """A server gives more bytes than a file may have."""


def fetch(
    pins: Iterable[Pin],
    root: Path,
    *,
    base: str = BASE,
    workers: int = 4,
    pauses: tuple[float, ...] = PAUSES,
    seconds: float = SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Bring files to ``root``; those already there and right are left alone.

    Args:
        pins: the files.
        root: folder they go to, each under its ``target``.
        base: address before the repository.
        workers: downloads at a time.
        pauses: seconds to wait before each further try of a broken download.
        seconds: longest time that all of it may take.
        say: called with one line for each file that is done.

    Returns:
        The paths, in the order of ``pins``.

    Raises:
        Unavailable: the host cannot be reached, or is too slow; what has come so far stays and is not fetched
            again.
        DataError: a file is gone or is no longer the one that was pinned.
    """
    pins = list(pins)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        terms = Terms(base, pauses, time.monotonic() + seconds)
        jobs = {pool.submit(_fetch_one, pin, root, terms): pin for pin in pins}
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                say(f"[{done}/{len(jobs)}] {jobs[job].target}: {job.result()}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [root / pin.target for pin in pins]


def _fetch_one(pin: Pin, root: Path, terms: Terms) -> str:
    target = root / pin.target
    if target.is_file() and blob_id(target.read_bytes()) == pin.blob:
        return "already here"
    # the blob in the name: what is left of another version is never gone on with
    part = target.with_name(f".{target.name}.{pin.blob[:12]}.part")
    resumed = part.is_file() and part.stat().st_size <= pin.most
    if part.is_file() and not resumed:
        part.unlink()
    _complete(pin, part, target, terms)
    if resumed and blob_id(part.read_bytes()) != pin.blob:
        part.unlink()  # what lay there was no beginning of this file
        resumed = False
        _complete(pin, part, target, terms)
    data = part.read_bytes()
    if blob_id(data) != pin.blob:
        part.unlink()
        raise _changed(pin, terms.base, target, f"git blob {blob_id(data)}")
    part.replace(target)
    return f"{len(data):,} bytes" + (", taken up where it broke off" if resumed else "")


def _complete(pin: Pin, part: Path, target: Path, terms: Terms) -> None:
    """Download until the server has no more to give, trying again after each pause."""
    for pause in (*terms.pauses, None):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _download(pin, part, terms)
            return
        except TooLong as error:
            part.unlink(missing_ok=True)
            raise _changed(pin, terms.base, target, str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            if pause is None or _is_final(error):
                raise _explain(error, pin, terms.base, target) from error
            time.sleep(min(pause, max(terms.end - time.monotonic(), 0.0)))


def _download(pin: Pin, part: Path, terms: Terms) -> None:
    """Append what is missing to ``part``; starts over where the server cannot resume."""
    terms.check_time()
    begun = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "msl-bench", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    request = urllib.request.Request(pin.url(terms.base), headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        return  # everything is here already; the blob id decides whether it is right
    goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
    got, room = 0, pin.most - (begun if goes_on else 0)
    with answer, part.open("ab" if goes_on else "wb") as out:
        expected = _length(answer.headers.get("Content-Length"))
        while chunk := answer.read1(CHUNK):  # what has come, so that a slow server is noticed
            got += len(chunk)
            if got > room:
                raise TooLong(f"more than the {pin.most:,} bytes that it may have")
            out.write(chunk)
            terms.check_time()
    # a length beyond the room is a lie or another file; the blob id decides
    if expected is not None and got < expected <= room:
        raise http.client.IncompleteRead(b"", expected - got)


def _length(said: str | None) -> int | None:
    """The number of bytes that a server announces; None if that is no number."""
    digits = (said or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: no time is left, the disk or the server says no."""
    if isinstance(error, TooSlow):
        return True
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
        f"{pin.target}: the source gives another file than the pinned one ({got}, expected git blob "
        f"{pin.blob}); nothing was kept. A proxy may have changed it; "
        + _by_hand(pin, base, target)
    )
