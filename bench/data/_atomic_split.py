"""Predefined splits among RecBole's atomic files, checked and turned into windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.cell import digest
from bench.data._amazon_events import as_whole
from bench.data._amazon_open import Repairs, file_digest
from bench.data._amazon_tables import column_names, tables
from bench.data.parts import carve_valid, exam
from bench.data.titles import clean_titles
from bench.errors import DataError
from bench.types import Catalogue, Dataset, IntArray, Ragged, Split, Windows

USER, HISTORY, ITEM, TIME = "user_id", "item_id_list", "item_id", "timestamp"
PARTS = ("train", "valid", "test")


def atomic_file(stem: Path, ending: str) -> Path:
    """The file ``<stem>.<ending>``."""
    return stem.with_name(f"{stem.name}.{ending}")


def typed(path: Path, wanted: str) -> str:
    """The header's entry for a field, which carries its type: ``item_id:token``.

    Raises:
        DataError: there is no such field.
    """
    names = column_names(path)
    for name in names:
        if name.partition(":")[0] == wanted:
            return name
    raise DataError(f"{path}: no field {wanted!r}; its header has {', '.join(names)}")


def title_field(path: Path) -> str | None:
    """The first field of an ``.item`` file that is a title or a name."""
    fields = [name for name in column_names(path) if name.partition(":")[0] != ITEM]
    for word in ("title", "name"):
        for field in fields:
            if word in field.partition(":")[0].lower():
                return field
    return None


def domain_of(stem: Path) -> str:
    """The domain a dataset was written with, ``item`` if that is not on record.

    Raises:
        DataError: the record is damaged.
    """
    about = atomic_file(stem, "bench.json")
    if not about.is_file():
        return "item"
    try:
        return str(json.loads(about.read_text(encoding="utf-8"))["domain"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{about}: no domain can be read ({error}); delete the file") from error


def read_split(stem: Path) -> Dataset:
    """Read ``<stem>.train.inter`` and its fellows.

    Raises:
        DataError: the test part or a field is missing, or a row cannot be a window.
    """
    repairs = Repairs()
    paths = {part: atomic_file(stem, f"{part}.inter") for part in PARTS}
    paths = {part: path for part, path in paths.items() if path.is_file()}
    if "test" not in paths:
        raise DataError(
            f"{atomic_file(stem, 'test.inter')}: no such file; a split needs its test part"
        )
    raw = {part: _columns(path, repairs) for part, path in paths.items()}
    tokens, titles, notes = _catalogue(stem, raw, repairs)
    catalogue = Catalogue(("", *titles), domain_of(stem))
    users = pa.concat_arrays([table["user"].combine_chunks() for table in raw.values()])
    user_of_row, said = _users(users)
    windows, start = {}, 0
    for part, table in raw.items():
        user_W = user_of_row[start : start + table.num_rows]
        windows[part] = _windows(paths[part], table, tokens, user_W, catalogue)
        start += table.num_rows
    train, test, notes = windows["train"], exam(windows["test"]), (*notes, *said)
    if "valid" in windows:
        parts = Split(train, exam(windows["valid"]), test)
    else:
        parts, note = carve_valid(train, test)
        notes = (*notes, note)
    hashes = [
        file_digest(path) for path in (*paths.values(), atomic_file(stem, "item")) if path.is_file()
    ]
    version = digest(["atomic", hashes, catalogue.domain])[:16]
    return Dataset(stem.name, version, catalogue, parts, (*repairs.sentences(), *notes))


def _columns(path: Path, repairs: Repairs) -> pa.Table:
    fields = {USER: "user", HISTORY: "history", ITEM: "item", TIME: "time"}
    names = {typed(path, field): ours for field, ours in fields.items()}
    found = list(tables(path, list(names), repairs))
    if not found or not sum(table.num_rows for table in found):
        raise DataError(f"{path}: no rows below the header")
    return pa.concat_tables(found).select(list(names)).rename_columns(list(names.values()))


def _catalogue(
    stem: Path, raw: dict[str, pa.Table], repairs: Repairs
) -> tuple[pa.Array, list[str], tuple[str, ...]]:
    """Tokens in id order, their titles, and notes."""
    path = atomic_file(stem, "item")
    if not path.is_file():
        parts = [pc.list_flatten(_lists(table)) for table in raw.values()]
        parts += [table["item"].combine_chunks() for table in raw.values()]
        names = pc.unique(pa.concat_arrays(parts)).to_pylist()
        whole = all(name.isascii() and name.isdigit() for name in names)
        tokens = sorted(names, key=int) if whole else sorted(names)
        note = (
            f"{path.name} is missing: the catalogue is the {len(tokens)} items that occur in rows"
        )
        return pa.array(tokens, pa.string()), [""] * len(tokens), (note, "no item has a title")
    item, title = typed(path, ITEM), title_field(path)
    wanted = [item] if title is None else [item, title]
    table = pa.concat_tables(tables(path, wanted, repairs))
    tokens = table[item].combine_chunks()
    if len(pc.unique(tokens)) != len(tokens):
        raise DataError(f"{path}: an item occurs twice; remove one of its rows")
    if title is None:
        return (
            tokens,
            [""] * len(tokens),
            (f"{path.name} has no title or name: no item has a title",),
        )
    titles, said = clean_titles(
        table[title].to_pylist(), range(1, len(tokens) + 1), where=str(path)
    )
    return tokens, titles, said


def _lists(table: pa.Table) -> pa.Array:
    """Histories as lists of tokens; runs of spaces count as one, as in RecBole."""
    text = pc.replace_substring_regex(
        pc.utf8_trim_whitespace(table["history"].combine_chunks()), " +", " "
    )
    lists = pc.split_pattern(text, " ")
    return pc.if_else(pc.equal(text, ""), pa.scalar([], lists.type), lists)


def _users(names: pa.Array) -> tuple[IntArray, tuple[str, ...]]:
    whole = pc.match_substring_regex(names, "^(0|[1-9][0-9]{0,17})$")
    if pc.all(whole).as_py():
        return names.cast(pa.int64()).to_numpy(), ()
    codes = names.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.int64) + 1, ("users are numbered by first appearance",)


def _windows(
    path: Path, table: pa.Table, tokens: pa.Array, user_W: IntArray, catalogue: Catalogue
) -> Windows:
    lists, item = _lists(table), table["item"].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths == 0).any():
        row = int(np.argmin(lengths)) + 1
        raise DataError(f"{path}, row {row}: a history without items; remove the row")
    time = as_whole(table["time"])
    if time.null_count:
        row = int(np.argmax(pc.is_null(time).to_numpy(zero_copy_only=False))) + 1
        raise DataError(f"{path}, row {row}: {TIME} {table['time'][row - 1].as_py()!r} is no time")
    history = _ids(path, pc.list_flatten(lists), tokens)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    timestamp_W = time.to_numpy().copy()
    target_W = _ids(path, item, tokens)
    return Windows(catalogue, user_W, Ragged(history, offsets), target_W, timestamp_W)


def _ids(path: Path, names: pa.Array, tokens: pa.Array) -> IntArray:
    """Ids 1.. of tokens, int32."""
    place = pc.index_in(names, value_set=tokens)
    if place.null_count:
        unknown = names.filter(pc.is_null(place))[0].as_py()
        raise DataError(f"{path}: item {unknown!r} is not in the .item file; add it there")
    return place.to_numpy().astype(np.int32) + np.int32(1)
