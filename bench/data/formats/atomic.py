"""RecBole's atomic files, both ways.

Written are its predefined splits: ``<name>.train.inter``, ``.valid.inter`` and ``.test.inter`` (one row a
window: ``user_id:token item_id_list:token_seq item_id:token timestamp:float``, tab separated), a
``<name>.item`` with every item of the catalogue and its title, the ``<name>.yaml`` RecBole needs to read
them, and ``<name>.bench.json`` for what atomic files cannot say. ``<name>`` is the folder's name, as RecBole
wants it.

Read are those, from whatever hand, and folders with a plain ``<name>.inter`` of single interactions, which
are cut into windows here. A field with a tab, a quote or a line break stands in double quotes, doubled
inside, as pandas and therefore RecBole read it.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.data.amazon.rebuild import rebuild
from bench.data.amazon.sources import RawSource
from bench.data.exams import rows_of
from bench.data.formats.atomic_split import (
    HISTORY,
    ITEM,
    PARTS,
    TIME,
    USER,
    Fields,
    atomic_file,
    domain_of,
    read_split,
    title_field,
    typed,
)
from bench.data.formats.delimited import every_row
from bench.data.splits import PAPER, Protocol
from bench.data.whole import written_whole
from bench.errors import DataError
from bench.types import Catalogue, Dataset, Windows

HEADER = f"{USER}:token\t{HISTORY}:token_seq\t{ITEM}:token\t{TIME}:float\n"
RECBOLE = Fields()
SETTINGS = """\
benchmark_filename: [train, valid, test]
alias_of_item_id: [item_id_list]
load_col:
  inter: [user_id, item_id_list, item_id, timestamp]
  item: [item_id]
MAX_ITEM_LIST_LENGTH: {longest}
train_neg_sample_args: ~
eval_args: {{split: {{LS: valid_and_test}}, group_by: ~, order: TO, mode: full}}
metrics: [NDCG, Hit]
topk: [1, 5, 10]
valid_metric: NDCG@5
"""


def write_atomic(dataset: Dataset, folder: str | Path) -> list[Path]:
    """Write a dataset as predefined splits.

    RecBole neither cuts nor pads these rows, so ``MAX_ITEM_LIST_LENGTH`` in the YAML file is the longest
    history there is.

    Returns:
        The files written.

    Raises:
        DataError: the folder is there and not empty, or cannot be written; or a title has a character no
            such file can hold.
    """
    folder = Path(folder)
    split = dataset.split
    parts = dict(zip(PARTS, (split.train, rows_of(split.valid), rows_of(split.test)), strict=True))
    longest = max(int(rows.history.lengths.max(initial=1)) for rows in parts.values())
    about = {"domain": dataset.catalogue.domain, "version": dataset.version, "notes": dataset.notes}
    texts = {f"{part}.inter": _rows_text(rows) for part, rows in parts.items()}
    texts["item"] = _items_text(dataset.catalogue)
    texts["yaml"] = SETTINGS.format(longest=longest)
    texts["bench.json"] = json.dumps(about, indent=1)
    files = {folder / f"{folder.name}.{ending}": text for ending, text in texts.items()}
    with written_whole(folder) as part:
        for path, text in files.items():
            (part / path.name).write_text(text, encoding="utf-8", newline="")
    return list(files)


def _rows_text(rows: Windows) -> str:
    lines = [HEADER]
    columns = (
        rows.user_W.tolist(),
        rows.history,
        rows.target_W.tolist(),
        rows.timestamp_W.tolist(),
    )
    for user, history, target, time in zip(*columns, strict=True):
        lines.append(f"{user}\t{' '.join(map(str, history.tolist()))}\t{target}\t{time}\n")
    return "".join(lines)


def _items_text(catalogue: Catalogue) -> str:
    lines = [f"{ITEM}:token\ttitle:token_seq\n"]
    for item, title in enumerate(catalogue.titles):
        if "\0" in title or any("\ud800" <= c <= "\udfff" for c in title):
            raise DataError(
                f"the title of item {item} is {ascii(title)[:60]}, which no atomic file can hold; "
                "rebuild with titles='clean'"
            )
        if item:
            lines.append(f"{item}\t{_quoted(title)}\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    if any(c in text for c in '\t"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def read_atomic(
    folder: str | Path, *, split: Protocol = PAPER, fields: Fields = RECBOLE
) -> Dataset:
    """Read a folder of atomic files.

    Tokens become ids in the order of the ``.item`` file, or, without one, by value. Users keep their
    numbers where all are whole numbers and are numbered by first appearance otherwise.

    Args:
        folder: holds ``<name>.train.inter`` and ``<name>.test.inter`` (validation is carved out of train
            where ``<name>.valid.inter`` is missing), or ``<name>.inter``.
        split: how to cut a plain ``<name>.inter``; predefined splits are kept.
        fields: what the columns are called.

    Raises:
        DataError: no such files, a missing column; or, in a predefined split, a row that cannot be a window,
            with its line.
    """
    stem = plain_stem(folder)
    if stem is not None:
        return rebuild(plain_source(stem, fields), every_row(split))
    train = _only(Path(folder), "*.train.inter")
    assert train is not None, "a folder without a plain file has a split"
    return read_split(train.with_name(train.name.removesuffix(".train.inter")), fields)


def plain_stem(folder: str | Path) -> Path | None:
    """Folder and name of single interactions; None where the folder holds a predefined split.

    Raises:
        DataError: the folder holds neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if _only(folder, "*.train.inter") is not None:
        return None
    plain = _only(folder, "*.inter")
    if plain is None:
        raise DataError(f"{folder}: neither a .train.inter nor an .inter file is there")
    return folder / plain.name.removesuffix(".inter")


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    named = [path for path in found if path.name.partition(".")[0] == folder.name]
    if len(named or found) > 1:
        raise DataError(
            f"{folder}: several {pattern}: {', '.join(p.name for p in found)}; keep one"
        )
    return next(iter(named or found), None)


def plain_source(stem: Path, fields: Fields) -> RawSource:
    """The interactions of ``<stem>.inter`` and the titles beside it, as a source to rebuild from.

    Raises:
        DataError: a field is missing.
    """
    inter, items = atomic_file(stem, "inter"), atomic_file(stem, "item")
    title = title_field(items, fields) if items.is_file() else None
    columns = {
        typed(inter, fields.user): "user",
        typed(inter, fields.item): "item",
        typed(inter, fields.time): "time",
    }
    return RawSource(
        name=stem.name,
        reviews=inter,
        metadata=items if title else None,
        review_columns=columns,
        title_columns={typed(items, fields.item): "item", title: "title"} if title else {},
        domain=domain_of(stem),
    )
