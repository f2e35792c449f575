"""Bytes of a raw dump as a stream, whatever wraps them, and a count of what had to be repaired.

Plain, gzip, bzip2, xz, zip and tar (packed or not) are told apart by their first bytes, not by the file's
name. Nothing is unpacked to disk and no more than a block is held, so size is no limit and a member name
cannot lead anywhere; an archive that tries is refused all the same.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bench.errors import DataError

BLOCK = 8 << 20
LONGEST_LINE = 64 << 20
TOLERATED = 100  # one unreadable line in so many is a repair; more is the wrong format


class Repairs:
    """Counts of what was repaired or dropped while reading, each with its first example."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.said: list[str] = []

    def count(self, what: str, n: int, example: str = "") -> None:
        """Note that ``what`` happened ``n`` times; nothing is noted for 0."""
        if n:
            self.counts[what] += int(n)
            self.first.setdefault(what, example[:80])

    def say(self, sentence: str) -> None:
        """Note how something was understood, once."""
        if sentence not in self.said:
            self.said.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each kind of repair, in the order of first occurrence, then what was said."""
        shown = {what: f" (first: {text})" if text else "" for what, text in self.first.items()}
        return (*(f"{n:,} {what}{shown[what]}" for what, n in self.counts.items()), *self.said)


class RawStream(io.RawIOBase):
    """A readable stream whose faults are data errors that name the file."""

    def __init__(self, path: Path, source: IO[bytes] | io.BufferedIOBase) -> None:
        super().__init__()
        self.path, self.source = path, source

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer than ``size`` only at the end.

        Raises:
            DataError: the compressed data end early or are damaged.
        """
        try:
            return self.source.read(size)
        except EOFError as error:
            raise DataError(
                f"{self.path}: the compressed data end early, as after a broken download; "
                "download the file again and compare its size with the publisher's"
            ) from error
        except (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
            raise DataError(f"{self.path}: damaged compressed data ({error})") from error

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; for readers written in C."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file below as well."""
        self.source.close()
        super().close()


def open_raw(path: str | Path) -> RawStream:
    """Open a file for reading its (one) content: plain, gzip, bzip2, xz or zip, or a tar in any of them.

    Raises:
        DataError: no such file, an empty one, a packing that cannot be read, or an archive without exactly
            one safe member.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        magic = file.read(6)
    if not magic:
        raise DataError(f"{path}: the file is empty")
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise DataError(f"{path}: packed with zstd, which is not read here; unpack it with unzstd")
    if magic.startswith(b"PK"):
        return RawStream(path, _open_zip(path))
    unpack = next((how for start, how in PACKINGS.items() if magic.startswith(start)), None)
    stream = RawStream(path, unpack(path) if unpack else path.open("rb"))
    if is_tar(stream):
        stream.close()
        return RawStream(path, _open_tar(path))
    stream.source.seek(0)
    return stream


PACKINGS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


def is_tar(stream: RawStream) -> bool:
    """Whether the content is a tar archive; reads its first block."""
    try:
        return stream.read(512)[257:262] == b"ustar"
    except DataError:
        return False  # damage is for the reader of the content to report


def _open_tar(path: Path) -> IO[bytes]:
    try:
        archive = tarfile.open(path, "r:*")
        members = archive.getmembers()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a readable tar ({error}); download it again") from error
    files = [member for member in members if not member.isdir()]
    _check_members(path, [member.name for member in files])
    content = archive.extractfile(files[0]) if files[0].isfile() else None
    if content is None:
        raise DataError(f"{path}: {files[0].name!r} is a link and no file; unpack it by hand")
    return content


def _open_zip(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
        members = [member for member in archive.infolist() if not member.is_dir()]
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not a readable zip ({error}); download it again") from error
    _check_members(path, [member.filename for member in members])
    try:
        return archive.open(members[0])
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path}: {error}; unpack it by hand") from error


def _check_members(path: Path, names: list[str]) -> None:
    for each in names:
        name = PurePosixPath(each.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise DataError(
                f"{path}: member {each!r} points outside the archive; refused, "
                "get the data from a source you trust"
            )
    if len(names) != 1:
        raise DataError(
            f"{path}: holds {len(names)} files where one is expected ({', '.join(names[:6])}); unpack "
            "the one you mean"
        )


def line_blocks(
    path: str | Path, size: int = BLOCK, stream: io.RawIOBase | None = None
) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with the number of its first line, from 1.

    The next block is decompressed in a second thread while the caller works on this one.

    Args:
        path: the file.
        size: of a block, in bytes.
        stream: its content where that is not what the file unpacks to; closed at the end.

    Raises:
        DataError: as :func:`open_raw`, and for a line of more than 64 MiB.
    """
    blocks = _line_blocks(Path(path), size, open_raw(path) if stream is None else stream)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, blocks, None)
        while (block := future.result()) is not None:
            future = pool.submit(next, blocks, None)
            yield block


def _line_blocks(path: Path, size: int, content: io.RawIOBase) -> Iterator[tuple[int, bytes]]:
    line, rest = 1, b""
    with content as stream:
        while chunk := stream.read(size):
            head, newline, tail = chunk.rpartition(b"\n")
            if len(rest) + len(chunk) > size + LONGEST_LINE:
                raise DataError(
                    f"{path}, line {line}: longer than {LONGEST_LINE >> 20} MiB; "
                    "this is not a file of one record a line"
                )
            if not newline:
                rest += tail
                continue
            block = rest + head + newline
            rest = tail
            yield line, block
            line += block.count(b"\n")
    if rest:
        yield line, rest


def check_share(path: str | Path, unreadable: int, lines: int, example: str) -> None:
    """Refuse a file of which too much could not be read.

    Raises:
        DataError: more than one unreadable line, and more than one in a hundred.
    """
    if unreadable > max(1, lines // TOLERATED):
        raise DataError(
            f"{path}: {unreadable:,} of {lines:,} lines hold no record, {example}; "
            "is this the format you named?"
        )


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hex, read in blocks."""
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()
