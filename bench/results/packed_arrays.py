"""The arrays of a packed file, which may be anybody's: opened within limits, of the right shape and kind."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cell import K
from bench.errors import ArtefactError
from bench.evaluation.lists import distinct
from bench.evaluation.positions import MISSING
from bench.text.plain import one_line

SEAL = 64  # hex digits of SHA-256, kept as the comment of the zip archive
AGAIN = "run the cell again with `bench run --reuse never`"
MOST_PACKED, MOST_UNPACKED = 32 << 20, 256 << 20  # bytes; a published file has 0.1 MB
MOST_ITEMS = 1 << 24  # an id has its place in tables as long as the largest one
Array = npt.NDArray[Any]
RANKS = frozenset({*range(K), MISSING})
EXAMS = ("title.", "item.", "valid.")
LOOSE = (
    "strata",
    "masks",
    "mask.",
    "lists.count_D",
    "lists.seen_D",
    "lists.facts",
)  # not one a query
MASK = "mask."  # how files of the first make name a stratum
STRATUM = re.compile(r"\w[\w. -]{0,63}")


class Arrays(Mapping[str, Array]):
    """The arrays of one file, each read when asked for.

    Args:
        path: of a file that ``Packed.save`` wrote.

    Raises:
        ArtefactError: the file is missing, too large, or not as it was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        content = sealed(path)
        with self._readable():
            self._archive = zipfile.ZipFile(io.BytesIO(content))
            size = sum(member.file_size for member in self._archive.infolist())
        if size > MOST_UNPACKED:
            raise fault(path, f"{size:,} bytes unpacked, the most is {MOST_UNPACKED:,}")
        names = self._archive.namelist()
        self._names = {name.removesuffix(".npy"): name for name in names}
        if len(self._names) != len(names):
            raise fault(path, "two arrays have one name")

    def __getitem__(self, name: str) -> Array:
        member = self._names[name]
        with self._readable(), self._archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _readable(self) -> _Readable:
        return _Readable(self.path)


class _Readable:
    """A context in which whatever a damaged archive raises becomes one line."""

    KINDS = (
        *(ValueError, OSError, EOFError, KeyError, RuntimeError, NotImplementedError, MemoryError),
        *(zipfile.BadZipFile, zlib.error, OverflowError, TypeError, SyntaxError),
    )

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, found: BaseException | None, trace: Any) -> None:
        if isinstance(found, self.KINDS) and not isinstance(found, ArtefactError):
            raise fault(
                self.path, f"its arrays cannot be read ({one_line(str(found), 100)})"
            ) from found


def fault(path: str | Path, what: str) -> ArtefactError:
    """An error about a packed file.

    Args:
        path: the file.
        what: is wrong with it.
    """
    return ArtefactError(f"{one_line(str(path))}: {what}; {AGAIN}")


def sealed(path: str | Path) -> bytes:
    """The bytes of a file, after its checksum was verified.

    Raises:
        ArtefactError: the file is missing, too large, or was changed by a single byte.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_PACKED + 1)
    except OSError as error:
        raise fault(path, f"no positions kept ({error.strerror})") from error
    if len(content) > MOST_PACKED:
        raise fault(path, f"more than {MOST_PACKED:,} bytes")
    if hashlib.sha256(content[:-SEAL]).hexdigest().encode() != content[-SEAL:]:
        raise fault(path, "the positions were changed or cut short")
    return content


def check(arrays: Mapping[str, Array]) -> str:
    """What is wrong with the arrays of a file, in a few words; empty if nothing is.

    Their lengths agree, their kinds are those that were written, ranks are ranks and chances are chances.
    """
    n = arrays["title.position_Q"].size
    for name, array in arrays.items():
        exam, _, part = name.partition(".") if name.startswith(EXAMS) else ("", "", name)
        part = MASK if name.startswith(MASK) else part
        if part not in _CHECKS or (part == MASK and not STRATUM.fullmatch(name[len(MASK) :])):
            return f"an array called {one_line(name, 60)!r}, which no packed file has"
        queries = arrays["valid.position_Q"].size if exam == "valid" else n
        if array.ndim and part not in LOOSE and len(array) != queries:
            return (
                f"{_WORDS.get(name, name)} of {len(array)} queries, the positions are of {queries}"
            )
        if not _CHECKS[part](array, queries):
            held = f" {_ranks(array)}" if part == "position_Q" else ""
            kind = f"{array.dtype} {array.shape}"
            return f"{_WORDS.get(name, name)} hold{held} what no packed file has ({kind})"
    return _together(arrays)


def _ranks(array: Array) -> str:
    odd = sorted({*np.unique(array).tolist()} - RANKS)
    return f"the rank {odd[0]} (known: 0 to {K - 1}, {MISSING} for none)," if odd else ""


def _together(arrays: Mapping[str, Array]) -> str:
    for exam in EXAMS:
        parts = [f"{exam}{part}" in arrays for part in ("position_Q", "chance_Q", "start_Q")]
        if parts[1] != parts[2] or (parts[1] and not parts[0]):
            return f"{exam}chance_Q and {exam}start_Q belong together, beside the positions"
    if ("strata" in arrays) != ("masks" in arrays):
        return "strata and masks belong together"
    if "masks" in arrays and len(arrays["strata"]) != len(arrays["masks"]):
        return f"{len(arrays['strata'])} strata, {len(arrays['masks'])} masks"
    lists = [name for name in arrays if name.startswith("lists.")]
    if len(lists) not in (0, 4):
        return f"lists without all of their arrays: {', '.join(sorted(lists))}"
    if not lists:
        return ""
    titles = len(distinct(arrays["lists.title_QK"]))
    counts, seen = len(arrays["lists.count_D"]), len(arrays["lists.seen_D"])
    if counts != titles or seen != -(-titles // 8):
        return f"lists name {titles} titles, training counts are of {counts}"
    return ""


def _whole(array: Array, n: int) -> bool:
    return array.dtype.kind in "iu" and array.shape == (n,)


def _counts(array: Array, n: int) -> bool:
    return _whole(array, n) and int(array.min(initial=0)) >= 0


def _ids(array: Array, n: int) -> bool:
    return _counts(array, n) and int(array.max(initial=0)) < MOST_ITEMS


def _strata(array: Array, n: int) -> bool:
    named = array.dtype.kind == "U" and array.ndim == 1
    return named and all(STRATUM.fullmatch(name) for name in array.tolist())


def _bits(array: Array, shape: tuple[int, ...]) -> bool:
    return array.dtype == np.uint8 and array.shape == shape


def _chance(array: Array, n: int) -> bool:
    return (
        array.dtype.kind == "f"
        and array.shape == (n,)
        and bool(((array >= 0) & (array <= 1)).all())
    )


def _titles(array: Array, n: int) -> bool:
    return array.dtype.kind in "iu" and array.shape == (n, K) and _ids(array.ravel(), array.size)


_WORDS = {
    "user_Q": "users",
    "target_Q": "targets",
    "title.position_Q": "positions of title",
    "item.position_Q": "positions of item",
    "valid.position_Q": "positions of valid",
    "lists.title_QK": "lists",
}
_CHECKS: dict[str, Callable[[Array, int], bool]] = {
    "user_Q": _whole,
    "target_Q": _ids,
    "position_Q": lambda array, n: _whole(array, n) and {*np.unique(array).tolist()} <= RANKS,
    "chance_Q": _chance,
    "start_Q": _counts,
    "strata": _strata,
    "masks": lambda array, n: array.ndim == 2 and _bits(array, (len(array), -(-n // 8))),
    MASK: lambda array, n: _bits(array, (-(-n // 8),)),
    "lists.title_QK": _titles,
    "lists.count_D": lambda array, n: array.ndim == 1 and _counts(array, len(array)),
    "lists.seen_D": lambda array, n: array.ndim == 1 and _bits(array, (len(array),)),
    "lists.facts": lambda array, n: _counts(array, 3),
}
