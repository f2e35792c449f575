"""MovieLens-100K, from the copy that comes inside the installed ``recbole`` package.

Every rating counts as an interaction, whatever its stars. Item 267 ("unknown") has no title, so its
ratings are left out, as the paper leaves out reviews of items without one. No k-core: each user has
twenty ratings or more, and rare films stay, as they would in a shop.

Titles are turned round to how people write them ("Usual Suspects, The" -> "The Usual Suspects", also
inside brackets). The year stands only where it tells two films of one name apart ("Sabrina (1954)");
it would cost an LLM four tokens a title elsewhere. Eighteen films are listed twice under one name and
one year; they keep two ids and count as one answer under title identity.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.data.files import read_bytes, read_text, row_error, short
from bench.data.formats.titles import clean_titles
from bench.data.splits import Interactions, make_dataset
from bench.errors import Unavailable
from bench.registry import datasets
from bench.types import Catalogue, Dataset

_ARTICLES = "The|A|An|Le|La|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Den|O|Un|Une|I"
_TURNED = re.compile(rf"(?P<name>.+), (?P<article>{_ARTICLES})")
_BRACKET = re.compile(r"(?P<head>.+?) \((?P<inside>[^()]*)\)")
_UNTITLED = frozenset({"", "unknown", "unkonwn"})  # the source spells it both ways
_FORMS = {  # header, and what every line below it looks like
    "inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        re.compile(r"[0-9]{1,9}\t[0-9]{1,9}\t[0-9]\t[0-9]{1,12}"),
    ),
    "item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        re.compile(r"[0-9]{1,9}\t[^\t]*\t[^\t]*\t[^\t]*"),
    ),
}


@datasets.register("ml_100k")
def ml_100k(root: Path | None = None) -> Dataset:
    """Load MovieLens-100K under the paper's ``global_time`` protocol.

    Args:
        root: a folder that holds ``ml-100k/ml-100k.inter`` and ``.item``; if it does not, or is None,
            the files of the installed recbole package are read.

    Raises:
        Unavailable: recbole is not installed.
        DataError: the files are not what they should be, with the line.
    """
    folder = _folder(root)
    events, items = folder / "ml-100k.inter", folder / "ml-100k.item"
    named = _titles(items)
    titles, said = clean_titles(list(named.values()), list(named), where=str(items))
    catalogue_id = {old: new for new, old in enumerate(named, start=1)}
    lines = _lines(events, "inter")
    cells = np.fromstring("\t".join(lines), np.int64, sep="\t").reshape(-1, 4)
    wanted = np.isin(cells[:, 1], list(catalogue_id))
    user, published, _, time = cells[wanted].T
    item = np.fromiter((catalogue_id[i] for i in published.tolist()), np.int64)
    source = hashlib.sha256(read_bytes(events) + read_bytes(items)).hexdigest()
    note = f"{int((~wanted).sum())} ratings of items without a title are left out"
    found = Interactions(Catalogue(("", *titles), "movie"), user, item, time)
    return make_dataset("ml_100k", found, source=f"{source} titles/1", notes=(note, *said))


def _folder(root: Path | None) -> Path:
    """Where the files lie; finds recbole without importing it."""
    if root is not None and (root / "ml-100k/ml-100k.inter").is_file():
        return root / "ml-100k"
    spec = importlib.util.find_spec("recbole")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    for place in places:
        folder = Path(place) / "dataset_example/ml-100k"
        if (folder / "ml-100k.inter").is_file():
            return folder
    raise Unavailable(
        "ml_100k comes inside recbole 1.2.1, which is not installed here: pip install recbole==1.2.1 "
        "(Python below 3.12), or put its ml-100k folder under --data-root"
    )


def _lines(path: Path, kind: str) -> list[str]:
    """The lines below the header, each known to fit its pattern."""
    header, pattern = _FORMS[kind]
    first, *lines = read_text(path).splitlines() or [""]
    if first != header:
        raise row_error(path, 1, f"the header must be {header!r}, got {short(first)}")
    bad = next((n for n, line in enumerate(lines) if not pattern.fullmatch(line)), None)
    if bad is not None:
        raise row_error(path, bad + 2, f"{short(lines[bad])} does not fit the header")
    return lines


def _titles(path: Path) -> dict[int, str]:
    """Titles by item id, in order of id; items without one are absent."""
    films: dict[int, tuple[str, str]] = {}
    years: dict[str, set[str]] = defaultdict(set)
    for number, line in enumerate(_lines(path, "item"), start=2):
        item, raw, year, _ = line.split("\t")
        if raw in _UNTITLED:
            continue
        if int(item) in films:
            raise row_error(path, number, f"item {item} occurs twice")
        dated = re.fullmatch(r"(.+) \((\d{4})\)", raw)  # one title still has its year inside
        raw, year = (dated[1], dated[2]) if dated else (raw, year)
        name = natural_title(raw)
        films[int(item)] = name, year
        years[name].add(year)
    return {
        item: f"{name} ({year})" if len(years[name]) > 1 else name
        for item, (name, year) in sorted(films.items())
    }


def natural_title(title: str) -> str:
    """A film's title as people write it: the article first, in and before brackets.

    >>> natural_title("Blue Angel, The (Blaue Engel, Der)")
    'The Blue Angel (Der Blaue Engel)'
    """
    bracket = _BRACKET.fullmatch(title)
    if bracket:
        return f"{_article_first(bracket['head'])} ({_article_first(bracket['inside'])})"
    return _article_first(title)


def _article_first(name: str) -> str:
    turned = _TURNED.fullmatch(name)
    if not turned:
        return name
    gap = "" if turned["article"].endswith("'") else " "
    return f"{turned['article']}{gap}{turned['name']}"
