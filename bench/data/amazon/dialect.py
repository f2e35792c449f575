"""How a text file is written: its encoding, its line ends and what stands between its columns.

Whatever it is, readers get UTF-8 with one byte between columns, since Arrow reads nothing else.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.amazon.streams import BLOCK, Repairs, open_raw
from bench.errors import ConfigError, DataError

NAMED = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
LONG = "\x1f"  # stands for a separator of several characters; ASCII's own unit separator
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What the user says of a file; None where it is told from the content.

    Attributes:
        separator: between columns, such as ``;`` or ``::``, or a word of ``NAMED``.
        encoding: as Python calls it: ``latin-1``, ``utf-16`` ...
    """

    separator: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and (
            not self.separator or set(self.separator) & set('"\r\n')
        ):
            raise ConfigError(
                f"--separator {self.separator!r} cannot stand between columns; use ',', ';', '|', "
                "'::', tab or space"
            )
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, UnicodeError) as error:
                raise ConfigError(
                    f"--encoding {self.encoding!r} is not known ({error}); use utf-8, latin-1, "
                    "cp1252, utf-16 ..."
                ) from error

    def between(self, line: str, n_names: int = 0) -> str:
        """What stands between the columns of a line.

        Args:
            line: the first one.
            n_names: how many columns it is said to have, 0 if that is not known.
        """
        if self.separator is not None:
            return NAMED.get(self.separator, self.separator)
        sure = [mark for mark in ("\t", "::") if mark in line]
        if sure:
            return sure[0]
        counts = {mark: line.count(mark) for mark in (",", ";", "|")}
        fitting = [mark for mark, n in counts.items() if n_names and n + 1 == n_names]
        best = fitting[0] if fitting else max(counts, key=counts.__getitem__)
        if counts[best]:
            return best
        return " " if " " in line.strip() else ","


PLAIN = Dialect()


def first_line(path: str | Path, dialect: Dialect = PLAIN) -> str:
    """The first line of a file, without its end and without a byte order mark.

    Raises:
        DataError: there is no such file, it is empty, or it is no text.
    """
    with open_text(path, Repairs(), dialect) as stream:
        start = stream.read(1 << 16)
    line = start.removeprefix(codecs.BOM_UTF8).lstrip(b"\n").partition(b"\n")[0]
    return line.rstrip(b"\r").decode("utf-8", errors="replace")


def open_text(
    path: str | Path, repairs: Repairs, dialect: Dialect = PLAIN, *, between: str = ","
) -> Utf8:
    """The content of a file as UTF-8.

    Args:
        path: plain or packed.
        repairs: takes the counts of replaced bytes.
        dialect: its encoding, if it is not to be told from the content.
        between: its separator; one of several characters becomes ``LONG``.

    Raises:
        DataError: there is no such file, it is empty, or it is no text.
    """
    with open_raw(path) as probe:
        start = probe.read(1 << 16)
    encoding = dialect.encoding or MARKS.get(start[:2], "utf-8")
    if encoding == "utf-8" and start.count(b"\0") > len(start) // 4:
        raise DataError(f"{path}: this looks like UTF-16; state it: --encoding utf-16-le (or -be)")
    seen = start.decode(encoding, errors="replace")
    swaps = [(between, LONG)] if len(between) > 1 else []
    if "\r" in seen and "\n" not in seen:
        swaps.append(("\r", "\n"))
        repairs.say(f"{Path(path).name}: lines end in CR alone, as old Macs wrote them")
    return Utf8(open_raw(path), repairs, encoding=encoding, swaps=swaps)


class Utf8(io.RawIOBase):
    """The bytes of a stream as UTF-8, with everything that does not fit its encoding U+FFFD, counted.

    Arrow must never see such bytes: its handler of bad rows fails on them without a word.

    Args:
        source: the bytes.
        repairs: takes the counts.
        encoding: of the source.
        swaps: texts to be replaced by others.
    """

    def __init__(
        self,
        source: io.RawIOBase,
        repairs: Repairs,
        *,
        encoding: str = "utf-8",
        swaps: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self.source, self.repairs, self.swaps = source, repairs, swaps
        self.decoder = codecs.getincrementaldecoder(encoding)("replace")
        self.is_utf8 = codecs.lookup(encoding).name == "utf-8"
        self.encoding = encoding
        self.ready, self.given, self.rest, self.held = b"", 0, b"", ""
        self.lines = self.bad_lines = 0
        self.tail = b""
        self.example = ""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; for readers written in C."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes: a replacement is longer than what it replaces."""
        size = BLOCK if size < 0 else size
        if self.given == len(self.ready):
            self.ready, self.given = self._next(size), 0
        piece = self.ready[self.given : self.given + size]
        self.given += len(piece)
        return piece

    @property
    def is_open_ended(self) -> bool:
        """Whether what was read so far has no line break at its end."""
        return bool(self.tail) and not self.tail.endswith((b"\n", b"\r"))

    @property
    def last_line(self) -> str:
        """The end of the last line read so far, for a message."""
        return self.tail.rpartition(b"\n")[2].decode("utf-8", "replace")

    def close(self) -> None:
        """Close the file below as well."""
        self.source.close()
        super().close()

    def _next(self, size: int) -> bytes:
        while True:
            chunk = self.source.read(max(size, 64)) or b""
            data = self._utf8(chunk) if self.is_utf8 else self._decoded(chunk)
            if self.swaps:
                data = self._swapped(data, last=not chunk)
            if data or not chunk:
                self.lines += data.count(b"\n")
                self.tail = (self.tail + data)[-40:]
                return data

    def _utf8(self, chunk: bytes) -> bytes:
        data = self.rest + chunk
        end = _whole(data) if chunk else len(data)
        data, self.rest = data[:end], data[end:]
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("utf-8", errors="replace")
            self._count(text, text.count("\ufffd") - data.count("\ufffd".encode()))
            return text.encode()
        return data

    def _decoded(self, chunk: bytes) -> bytes:
        text = self.decoder.decode(chunk, final=not chunk)
        self._count(text, text.count("\ufffd"))
        return text.encode("utf-8", errors="replace")

    def _count(self, text: str, added: int) -> None:
        if not added:
            return
        bad = [(at, line) for at, line in enumerate(text.split("\n")) if "\ufffd" in line]
        self.bad_lines += len(bad)
        at, line = bad[0]
        self.example = self.example or f"line {self.lines + at + 1}: {line[:40]!r}"
        what = f"stretches of bytes are not {self.encoding.upper()}; each became U+FFFD"
        self.repairs.count(what, added, self.example)

    def _swapped(self, data: bytes, *, last: bool) -> bytes:
        text = self.held + data.decode("utf-8")
        longest = max(len(old) for old, _ in self.swaps)
        # half of a separator may be in the next piece
        keep = 0 if last or longest == 1 else longest - 1
        while keep and not any(old.startswith(text[-keep:]) for old, _ in self.swaps):
            keep -= 1
        self.held = text[len(text) - keep :] if keep else ""
        text = text[: len(text) - keep]
        for old, new in self.swaps:
            text = text.replace(old, new)
        return text.encode()


def _whole(data: bytes) -> int:
    """Length of ``data`` without a character that its end may cut in two."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < needed else len(data)
        if byte < 0x80:
            break
    return len(data)
