"""Titles of the items that are needed, out of a metadata file of any size."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.columns import as_ids, as_names
from bench.data.amazon.streams import Repairs
from bench.data.formats.titles import SEPARATOR
from bench.data.missing import is_missing

TitlePolicy = Literal["keep", "clean"]
BUFFER = 64 << 20  # bytes of metadata joined at once; each join hashes the wanted names anew
SCRIPT = ("getTime", "aPageStart")  # page scripts scraped as titles, in the 2018 release

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>")
_MARKS = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def join_titles(
    metadata: Iterable[pa.Table], items: pa.Array, policy: TitlePolicy, repairs: Repairs
) -> dict[int, str]:
    """Title by item code; the first usable title of an item counts.

    Args:
        metadata: tables with the columns ``item`` and ``title``, both text.
        items: the names wanted; a code is a position in it.
        policy: see :func:`usable_title`.
        repairs: takes the counts.
    """
    titles: dict[int, str] = {}
    for table in _joined(metadata, items):
        for code, raw in zip(table["code"].to_pylist(), table["title"].to_pylist(), strict=True):
            title = usable_title(raw, policy, repairs)
            if title and titles.setdefault(code, title) != title:
                repairs.count("items have a second, different title; the first counts", 1, title)
    return titles


def _joined(metadata: Iterable[pa.Table], items: pa.Array) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    size = 0
    for table in metadata:
        waiting.append(table)
        size += table.nbytes
        if size > BUFFER:
            yield _join(waiting, items)
            waiting, size = [], 0
    if waiting:
        yield _join(waiting, items)


def _join(waiting: list[pa.Table], items: pa.Array) -> pa.Table:
    table = pa.concat_tables(waiting)
    code = pc.index_in(as_ids(table["item"], Repairs()), value_set=items)
    return pa.table({"code": code, "title": as_names(table["title"])}).filter(pc.is_valid(code))


def usable_title(raw: str | None, policy: TitlePolicy, repairs: Repairs) -> str:
    """A title as it may enter a catalogue, or "" for none.

    ``keep`` leaves the text as published; ``clean`` unescapes HTML, drops tags, direction marks, control
    characters and scraped page scripts, and collapses white space. Under both, a word for a missing value
    (``nan``, ``None`` ...) is no title, and one that holds the prompt's response separator counts as none,
    since it would close the prompt.
    """
    title = raw or ""
    if is_missing(title):
        if title.strip():
            repairs.count("titles say that there is none and count as none", 1, repr(title))
        return ""
    line = " ".join(_BREAKS.sub(" ", title).split())
    if SEPARATOR in line:
        repairs.count("titles hold the prompt's response separator and count as none", 1)
        return ""
    if policy == "keep":
        return title if line else ""
    if any(word in title for word in SCRIPT):
        repairs.count("titles are page scripts and count as none", 1, title)
        return ""
    cleaned = " ".join(
        _MARKS.sub("", _BREAKS.sub(" ", html.unescape(_TAG.sub(" ", title)))).split()
    )
    if cleaned != title and cleaned:
        repairs.count("titles were cleaned of HTML, marks or control characters", 1, title)
    return "" if SEPARATOR in cleaned else cleaned
