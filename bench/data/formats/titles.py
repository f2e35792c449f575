"""``id2name4Rec.json``: the titles of the published datasets, checked before they reach a prompt.

Titles are untrusted text. Three repairs are made and counted in the notes: line breaks and other control
characters become spaces, white space is then collapsed *in those titles only*, and words for a missing
value (``nan``, ``None`` ...) are no titles; all others stay as published, byte for byte, because tokens
depend on them. A title with the prompt's response separator is refused, since it could close the prompt.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.files import read_text, short, some
from bench.data.missing import is_missing
from bench.errors import DataError
from bench.types import Catalogue, IntArray

SEPARATOR = "### Response"
DOMAINS = ("toy", "book", "clothing", "office", "movie", "item")  # that prompts have words for
MAX_ID = 10**9 - 1
HUGE = 1000  # bytes; the longest published title has 554, and a prompt has room for some 400 tokens

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_HALVES = re.compile("[\ud800-\udfff]")
# what the tokenizers of the usual model families keep for control tokens
_CONTROL = re.compile(
    r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<(?:bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>"
)


@dataclass(frozen=True, eq=False)
class Titles:
    """What ``id2name4Rec.json`` says.

    Attributes:
        catalogue: the items that have a title, in order of their published ids.
        published_N: the published id of each catalogue item, ascending, int64 [N].
        notes: repairs and warnings.
    """

    catalogue: Catalogue
    published_N: IntArray
    notes: tuple[str, ...] = ()

    def lookup(self, published: IntArray) -> IntArray:
        """Catalogue ids of published ids, 0 where there is no title, int32, same shape."""
        place = np.searchsorted(self.published_N, published)
        found = self.published_N[np.minimum(place, len(self.published_N) - 1)] == published
        return np.where(found, place + 1, 0).astype(np.int32)


def read_titles(path: Path, domain: str = "item") -> Titles:
    """Read ``id2name4Rec.json``: a JSON object from published id to title.

    Raises:
        DataError: not such an object, an id twice, an id that is no positive integer, a title that is
            no text, or one with the response separator.
    """
    try:
        pairs = json.loads(read_text(path), object_pairs_hook=list)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except ValueError as error:  # a number of too many digits
        raise DataError(
            f"{path}: not JSON that can be read ({error}); put titles in quotes"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply for an object of titles") from error
    if not isinstance(pairs, list) or not pairs or not all(isinstance(p, tuple) for p in pairs):
        raise DataError(f'{path}: must hold one object, {{"1": "a title", ...}}')
    by_id: dict[int, str] = {}
    for key, title in pairs:
        number = _published_id(path, key)
        if number in by_id:
            raise DataError(f"{path}: id {number} occurs twice; remove one of them")
        if not isinstance(title, str):
            raise DataError(
                f"{path}: the title of id {number} is {short(title)}, not text; put it in quotes"
            )
        by_id[number] = title
    ids = sorted(by_id)
    titles, notes = clean_titles([by_id[i] for i in ids], ids, where=str(path))
    notes = tuple(f"{path.name}: {note}" for note in notes)
    return Titles(Catalogue(("", *titles), domain), np.array(ids, np.int64), notes)


def _published_id(path: Path, key: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", key):
        raise DataError(f"{path}: id {short(key)} is not an integer of 1..{MAX_ID}")
    return int(key)


def clean_titles(
    titles: Sequence[str], ids: Sequence[int], *, where: str = "titles"
) -> tuple[list[str], tuple[str, ...]]:
    """Repair titles that would break a prompt and say what is odd about the rest.

    Args:
        titles: as published.
        ids: how to name each of them in a message.
        where: the file, for messages.

    Returns:
        The titles, and one note for each kind of repair or oddity that occurs.

    Raises:
        DataError: a title contains the response separator, or half a surrogate pair.
    """
    broken = [i for i, t in zip(ids, titles, strict=True) if _BREAKS.search(t)]
    missing = [i for i, t in zip(ids, titles, strict=True) if t.strip() and is_missing(t)]
    cleaned = [" ".join(_BREAKS.sub(" ", t).split()) if _BREAKS.search(t) else t for t in titles]
    cleaned = ["" if t.strip() and is_missing(t) else t for t in cleaned]
    for number, title in zip(ids, cleaned, strict=True):
        _refuse_dangerous(where, number, title)
    said = [
        (broken, "titles had line breaks or control characters, collapsed to one line"),
        (missing, "titles say that there is none (nan, None, null, N/A ...) and count as none"),
        *_oddities(cleaned, ids),
    ]
    notes = [f"{text}: {len(found)} (id {some(found)})" for found, text in said if found]
    shared = sum(n for t, n in Counter(cleaned).items() if n > 1 and t.strip())
    if shared:
        notes.append(f"{shared} items share their title with another and count as one answer")
    return cleaned, tuple(notes)


def _oddities(titles: Sequence[str], ids: Sequence[int]) -> list[tuple[list[int], str]]:
    """Ids of titles that stay as they are although a reader should know of them, and what they are."""

    def where(odd: Callable[[str], object]) -> list[int]:
        return [i for i, t in zip(ids, titles, strict=True) if odd(t)]

    twins = {twin for pair in normal_twins(titles) for twin in pair}
    return [
        (where(lambda t: not t.strip()), "titles empty; such items are told apart by id"),
        (
            where(lambda t: '"' in t),
            "titles with a double quote, which also ends a title in the prompt",
        ),
        (where(_MARKS.search), "titles with right-to-left or embedding marks, kept as they are"),
        (
            where(lambda t: len(t.encode()) > HUGE),
            f"titles longer than {HUGE} bytes, kept whole; a prompt shows as much as it has room for",
        ),
        (
            where(_CONTROL.search),
            "titles with a language model's control token, taken as plain text in prompts and answers",
        ),
        (
            where(twins.__contains__),
            "titles that differ from another in their Unicode form alone (NFC, NFD), kept as two",
        ),
    ]


def normal_twins(texts: Iterable[str]) -> list[list[str]]:
    """Groups of different texts that look the same: one composed (NFC), the other decomposed (NFD)."""
    groups: dict[str, set[str]] = {}
    for text in texts:
        if not text.isascii():
            groups.setdefault(unicodedata.normalize("NFC", text), set()).add(text)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _refuse_dangerous(where: str, number: int, title: str) -> None:
    if SEPARATOR in title:
        raise DataError(
            f"{where}: the title of id {number} contains {SEPARATOR!r}, which would close the prompt; "
            "change the title"
        )
    if _HALVES.search(title):
        raise DataError(
            f"{where}: the title of id {number} holds half a surrogate pair, which no UTF-8 file can; "
            "repair the title"
        )


def write_titles(path: Path, catalogue: Catalogue) -> None:
    """Write ``id2name4Rec.json``."""
    named = {str(i): title for i, title in enumerate(catalogue.titles) if i}
    path.write_text(json.dumps(named, indent=4, ensure_ascii=False), encoding="utf-8")
