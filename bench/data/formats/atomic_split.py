"""Predefined splits among RecBole's atomic files, checked and turned into windows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.cell import digest
from bench.data.amazon.columns import check_cut
from bench.data.amazon.events import unprintable
from bench.data.amazon.streams import Repairs, file_digest
from bench.data.amazon.tables import column_names, numbered_rows, tables
from bench.data.amazon.times import Times
from bench.data.exams import carve_valid, exam
from bench.data.files import row_error, short
from bench.data.formats.padding import without_padding
from bench.data.formats.titles import clean_titles
from bench.errors import DataError
from bench.text.plain import one_line
from bench.types import BoolArray, Catalogue, Dataset, IntArray, Ragged, Split, Windows

USER, HISTORY, ITEM, TIME = "user_id", "item_id_list", "item_id", "timestamp"
LIST = "_list"  # what RecBole puts behind the item's field for the field of a history
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
    raise DataError(
        f"{path}: no field {wanted!r}; its header has {one_line(', '.join(names), 200)}"
    )


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What the files call the user, the item, the time and the title (None: looked for by its name)."""

    user: str = USER
    item: str = ITEM
    time: str = TIME
    title: str | None = None


def title_field(path: Path, fields: Fields) -> str | None:
    """The field of an ``.item`` file that is the title: as named, or the first title or name.

    Raises:
        DataError: there is no field of the name.
    """
    if fields.title is not None:
        return typed(path, fields.title)
    names = [name for name in column_names(path) if name.partition(":")[0] != fields.item]
    for word in ("title", "name"):
        for field in names:
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
        domain = json.loads(about.read_text(encoding="utf-8"))["domain"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = short(str(error))
        raise DataError(f"{about}: no domain can be read ({said}); delete the file") from error
    if not isinstance(domain, str) or not domain.isidentifier():
        raise DataError(f"{about}: the domain {short(domain)} is not one word; delete the file")
    return domain


def read_split(stem: Path, fields: Fields) -> Dataset:
    """Read ``<stem>.train.inter`` and its fellows.

    Args:
        stem: folder and name.
        fields: what the columns are called.

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
    raw = {part: _columns(path, fields, repairs) for part, path in paths.items()}
    raw = without_padding(raw, _listed(stem, fields), repairs)
    for part, table in raw.items():
        if (empty := pc.equal(pc.list_value_length(table["history"]), 0).to_numpy()).any():
            row = int(np.argmax(empty))
            raise _row_fault(paths[part], row, "a history without items; remove the row")
    tokens, titles, notes = _catalogue(stem, raw, fields, repairs)
    catalogue = Catalogue(("", *titles), domain_of(stem), ("", *tokens.to_pylist()))
    users = pa.concat_arrays([table["user"].combine_chunks() for table in raw.values()])
    user_of_row, user_names = _users(users)
    windows, start = {}, 0
    for part, table in raw.items():
        user_W = user_of_row[start : start + table.num_rows]
        windows[part] = _windows(paths[part], table, tokens, user_W, catalogue, repairs)
        start += table.num_rows
    said = () if user_names is None else ("users are numbered by first appearance",)
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
    notes = (*repairs.sentences(), *notes)
    return Dataset(stem.name, version, catalogue, parts, notes, user_names)


def _columns(path: Path, fields: Fields, repairs: Repairs) -> pa.Table:
    names = {
        fields.user: "user",
        fields.item + LIST: "history",
        fields.item: "item",
        fields.time: "time",
    }
    table = _read(path, {typed(path, field): ours for field, ours in names.items()}, repairs)
    faults = {"user": "no user", "history": "a history without items", "item": "no target item"}
    for ours, fault in faults.items():
        if (blank := _blank(table[ours])).any():
            raise _row_fault(path, int(np.argmax(blank)), f"{fault}; remove the row")
        _check_printed(path, ours, table[ours])
    place = table.column_names.index("history")
    return table.set_column(place, "history", _lists(table))


def _listed(stem: Path, fields: Fields) -> set[str]:
    """Tokens that the ``.item`` file lists; empty without one."""
    path = atomic_file(stem, "item")
    if not path.is_file():
        return set()
    return set(_read(path, {typed(path, fields.item): "item"}, Repairs())["item"].to_pylist())


def _read(path: Path, names: dict[str, str], repairs: Repairs) -> pa.Table:
    """Columns under our names. One bad row is too many: a predefined split must not shrink."""
    found = list(tables(path, list(names), repairs, strict=True))
    if not sum(table.num_rows for table in found):
        raise DataError(f"{path}: no rows below the header")
    table = pa.concat_tables(found).combine_chunks()
    return table.select(list(names)).rename_columns(list(names.values()))


def _blank(column: pa.ChunkedArray) -> BoolArray:
    return pc.equal(pc.utf8_trim_whitespace(column), "").to_numpy()


def _check_printed(path: Path, what: str, column: pa.ChunkedArray) -> None:
    if (odd := unprintable(column.combine_chunks())).any():
        row = int(np.argmax(odd))
        fault = f"{what} {short(column[row].as_py())} has a control character; repair the row"
        raise _row_fault(path, row, fault)


def _row_fault(path: Path, row: int, fault: str) -> DataError:
    """The error for a row, counted from 0 below the header, with its line in the file."""
    return row_error(path, _line(path, row), fault)


def _line(path: Path, row: int) -> int:
    line, _ = next(islice(numbered_rows(path), row + 1, None))
    return line


def _catalogue(
    stem: Path, raw: dict[str, pa.Table], fields: Fields, repairs: Repairs
) -> tuple[pa.Array, list[str], tuple[str, ...]]:
    """Tokens in id order, their titles, and notes."""
    path = atomic_file(stem, "item")
    if not path.is_file():
        parts = [pc.list_flatten(table["history"].combine_chunks()) for table in raw.values()]
        parts += [table["item"].combine_chunks() for table in raw.values()]
        names = pc.unique(pa.concat_arrays(parts)).to_pylist()
        whole = all(name.isascii() and name.isdigit() for name in names)
        # whole numbers by length first: Python reads none of thousands of digits
        tokens = sorted(names, key=lambda n: (len(n.lstrip("0")) if whole else 0, n.lstrip("0"), n))
        note = (
            f"{path.name} is missing: the catalogue is the {len(tokens)} items that occur in rows"
        )
        return pa.array(tokens, pa.string()), [""] * len(tokens), (note, "no item has a title")
    item, title = typed(path, fields.item), title_field(path, fields)
    table = _read(path, {item: "item"} | ({} if title is None else {title: "title"}), repairs)
    if (blank := _blank(table["item"])).any():
        raise _row_fault(path, int(np.argmax(blank)), "an item without a token; remove the row")
    _check_printed(path, "item", table["item"])
    tokens = table["item"].combine_chunks()
    if len(pc.unique(tokens)) != len(tokens):
        raise DataError(f"{path}: an item occurs twice; remove one of its rows")
    if title is None:
        none = f"{path.name} has no title or name: no item has a title"
        return tokens, [""] * len(tokens), (none,)
    ids = range(1, len(tokens) + 1)
    titles, said = clean_titles(table["title"].to_pylist(), ids, where=str(path))
    return tokens, titles, said


def _lists(table: pa.Table) -> pa.Array:
    """Histories as lists of tokens; runs of spaces count as one, as in RecBole."""
    text = pc.replace_substring_regex(
        pc.utf8_trim_whitespace(table["history"].combine_chunks()), " +", " "
    )
    lists = pc.split_pattern(text, " ")
    return pc.if_else(pc.equal(text, ""), pa.scalar([], lists.type), lists)


def _users(names: pa.Array) -> tuple[IntArray, dict[int, str] | None]:
    """Users by number, and their names unless these are the numbers."""
    whole = pc.match_substring_regex(names, "^(0|[1-9][0-9]{0,17})$")
    if pc.all(whole).as_py():
        return names.cast(pa.int64()).to_numpy(), None
    found = names.dictionary_encode()
    codes = found.indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.int64) + 1, dict(enumerate(found.dictionary.to_pylist(), 1))


def _windows(
    path: Path,
    table: pa.Table,
    tokens: pa.Array,
    user_W: IntArray,
    catalogue: Catalogue,
    repairs: Repairs,
) -> Windows:
    lists = table["history"].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    rows = np.arange(len(lists))
    history = _ids(path, pc.list_flatten(lists), tokens, np.repeat(rows, lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    target_W = _ids(path, table["item"].combine_chunks(), tokens, rows)
    timestamp_W = _seconds(path, table["time"], repairs)
    return Windows(catalogue, user_W, Ragged(history, offsets), target_W, timestamp_W)


def _seconds(path: Path, column: pa.ChunkedArray, repairs: Repairs) -> IntArray:
    times = Times(place=lambda row: f"line {_line(path, row)}")
    block = times.read(column)
    wrong = (block.form < 0) | (block.value < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        fault = f"{TIME} {short(column[row].as_py())} is no time; write seconds since 1970"
        raise _row_fault(path, row, fault)
    times.append(block, ~wrong)
    try:
        second_W, cut_W, good_W = times.finish(lambda row: row)
    except DataError as fault:
        raise DataError(f"{path}: {fault}") from fault
    if not good_W.all():
        row = int(np.argmin(good_W))
        raise _row_fault(path, row, f"{short(column[row].as_py())} is no date; repair the row")
    check_cut(str(path), second_W, cut_W, repairs)
    for sentence in times.said:
        repairs.say(f"{path.name}: {sentence}")
    return second_W


def _ids(path: Path, names: pa.Array, tokens: pa.Array, row_of_name: IntArray) -> IntArray:
    """Ids 1.. of tokens, int32; ``row_of_name`` says where each stands, for the message."""
    place = pc.index_in(names, value_set=tokens)
    if place.null_count:
        first = pc.index(pc.is_null(place), True).as_py()
        fault = f"item {short(names[first].as_py())} is not in the .item file; add it there"
        raise _row_fault(path, int(row_of_name[first]), fault)
    return place.to_numpy().astype(np.int32) + np.int32(1)
