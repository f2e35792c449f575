"""Times with fractions, as ISO dates or of odd types, ids with apostrophes, titles of white space."""

import datetime
import decimal
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bench.data.amazon.events import EventLog
from bench.data.amazon.json_records import json_tables
from bench.data.amazon.streams import Repairs
from bench.data.amazon.times import Times
from bench.data.audit import audit
from bench.data.formats.delimited import read_table
from bench.data.formats.titles import read_titles
from bench.errors import DataError
from bench.types import Catalogue

STEPS = [(user, step) for user in range(12) for step in range(6)]
ROWS = [
    {"user_id": str(u), "item_id": f"i{(u * 5 + k * 4) % 9}", "timestamp": 86400 * k + u}
    for u, k in STEPS
]
UTC = datetime.timezone.utc


def with_times(times):
    return [row | {"timestamp": time} for row, time in zip(ROWS, times, strict=True)]


def csv(path, rows):
    lines = (",".join(map(str, row)) for row in [rows[0], *map(dict.values, rows)])
    path.write_text("\n".join(lines) + "\n")
    return path


def jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def parquet(path, rows, **columns):
    table = pa.Table.from_pylist(rows)
    for name, column in columns.items():
        table = table.drop_columns([name] if name in table.column_names else [])
        table = table.append_column(name, column)
    pa.parquet.write_table(table, path)
    return path


FRACTIONS = [f"0.{u + 1:02d}{k + 1}" for u, k in STEPS]


@pytest.mark.parametrize(
    "write",
    [
        lambda p: csv(p, with_times(FRACTIONS)),
        lambda p: jsonl(p, with_times(map(float, FRACTIONS))),
        lambda p: jsonl(p, with_times(FRACTIONS)),
        lambda p: parquet(p, with_times(map(float, FRACTIONS))),
        lambda p: parquet(p, with_times(map(decimal.Decimal, FRACTIONS))),
        lambda p: parquet(
            p, with_times(datetime.datetime.fromtimestamp(float(t), UTC) for t in FRACTIONS)
        ),
        lambda p: csv(p, with_times(f"1970-01-01T00:00:{t.zfill(6)}000" for t in FRACTIONS)),
    ],
    ids=["csv", "json", "json text", "parquet", "decimal", "timestamp", "iso"],
)
def test_an_order_that_lies_in_fractions_is_not_lost_without_a_word(tmp_path, write):
    path = write(tmp_path / "mine")
    with pytest.raises(DataError, match=r"mine: times 0\.011 and 0\.012 .* must be whole seconds"):
        read_table(path)


def test_fractions_that_cost_nothing_are_counted(tmp_path):
    times = [86400 * k + u + 0.5 for u, k in STEPS]
    plain, found = (
        read_table(csv(tmp_path / "mine.csv", rows)) for rows in (ROWS, with_times(times))
    )
    assert found.notes[0] == "72 times had a fraction of a second, which was cut off"
    assert found.notes[1:] == plain.notes
    for field in ("user_W", "target_W", "timestamp_W"):
        ours, theirs = (getattr(data.split.train, field) for data in (plain, found))
        np.testing.assert_array_equal(ours, theirs)


def test_fractions_are_compared_over_all_blocks_and_usable_rows_alone():
    def log(*blocks):
        made = EventLog(Repairs(), where="here")
        for times in blocks:
            users = ["" if time < 0 else "u" for time in times]
            made.append(pa.table({"user": users, "item": ["i"] * len(times), "time": times}))
        return made

    with pytest.raises(DataError, match=r"here: times 5\.0 and 5\.25 lie within one second"):
        log([5, 5.5], [5.25]).finish()
    busy = log([4, 5], [5.25, 6, 7, 8])
    assert busy.finish().time_E.tolist() == [4, 5, 5, 6, 7, 8]
    assert "1 times of them are no longer after the one before" in busy.repairs.sentences()
    assert log([5.25], [5.25], [-5.5, 6.0]).finish().time_E.tolist() == [5, 5, 6]
    milliseconds = [1.4e12 + 0.25, 1.4e12 + 0.5]  # as their milliseconds, they tell nothing apart
    assert log(milliseconds).finish().time_E.tolist() == [1_400_000_000] * 2


def test_times_are_cut_downwards_and_what_is_cut_is_told():
    moment = datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000)
    for column in (
        pa.array([-0.5, None]),
        pa.array(["-0.5", "never"]),
        pa.array([decimal.Decimal("-0.5"), None]),
        pa.array([moment, None], pa.timestamp("us", "America/New_York")),
        pa.array(["-0.5", None]).dictionary_encode(),
    ):
        block = Times().read(column)
        assert (block.value[0], block.form.tolist()) == (-1, [0, -1])
        assert block.cut.tolist() == [0.5, 0]


def test_json_lines_with_iso_dates_are_read_as_csv_is(tmp_path):
    days = with_times(f"2014-05-{k + 1:02d}" for _, k in STEPS)
    ours, theirs = (
        read_table(csv(tmp_path / "a.csv", days)),
        read_table(jsonl(tmp_path / "b", days)),
    )
    assert ours.notes == theirs.notes
    for field in ("user_W", "target_W", "timestamp_W"):
        one, other = (getattr(data.split.train, field) for data in (ours, theirs))
        np.testing.assert_array_equal(one, other)
    assert ours.split.train.timestamp_W[0] == 1399334400  # 6 May 2014


def test_a_block_with_a_date_comes_as_text_and_the_next_as_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.amazon.json_records.line_blocks", lambda *_, **__: iter(blocks))
    blocks = [(1, b'{"t": 5}\n{"t": "1970-01-01"}\n{"t": null}\n'), (4, b'{"t": 7}\n')]
    (tmp_path / "lines").write_text("{")
    found = list(json_tables(tmp_path / "lines", {"t": pa.int64()}, Repairs()))
    assert [table["t"].to_pylist() for table in found] == [["5", "1970-01-01", None], [7]]


@pytest.mark.parametrize(
    ("name", "column", "kind"),
    [
        ("timestamp", pa.array([datetime.time(3, 5)] * 72), r"time64\[us\]"),
        ("timestamp", pa.array([[1]] * 72), "list<"),
        ("timestamp", pa.array([{"a": 1}] * 72), "struct<"),
        ("timestamp", pa.array([True] * 72), "bool"),
        ("timestamp", pa.array([5] * 72, pa.duration("s")), r"duration\[s\]"),
        ("user_id", pa.array([["u"]] * 72), "list<"),
        ("title", pa.array([["x"]] * 72), "list<"),
    ],
)
def test_a_column_of_another_type_is_named_with_its_type(tmp_path, name, column, kind):
    path = parquet(tmp_path / "mine.parquet", ROWS, **{name: column})
    title = "title" if name == "title" else None
    with pytest.raises(DataError, match=rf"mine.parquet: column '{name}' is of type {kind}.* text"):
        read_table(path, title=title)


def test_decimal_times_are_times_and_bytes_that_are_no_text_are_refused(tmp_path):
    whole = with_times(decimal.Decimal(row["timestamp"]) for row in ROWS)
    ours, theirs = (read_table(parquet(tmp_path / "mine", rows)) for rows in (ROWS, whole))
    np.testing.assert_array_equal(ours.split.train.timestamp_W, theirs.split.train.timestamp_W)
    path = parquet(tmp_path / "mine", ROWS, user_id=pa.array([b"\xff"] * 72))
    with pytest.raises(DataError, match="type binary is no text"):
        read_table(path)


def test_the_filter_passes_whatever_quotes_an_id_holds(tmp_path):
    lines = [
        """{"asin": "O'Neil", "title": "a"}""",
        """{'asin': 'say "hi"', 'title': 'b'}""",
        """{"asin": "caf\\u00e9", "title": "c", "also": {"asin": "x"}}""",
        """{"asin": 7, "title": "d", "also": {"asin": "x"}}""",
        """{"asin": "x", "title": "e"}""",
    ]
    path = tmp_path / "meta"
    path.write_text("\n".join([*lines, ""]))
    fields = {"asin": pa.string(), "title": pa.string()}
    wanted = ("asin", {"O'Neil", 'say "hi"', "café", "7"})
    found = [
        row for table in json_tables(path, fields, Repairs(), wanted) for row in table.to_pylist()
    ]
    assert [row["title"] for row in found] == ["a", "b", "c", "d"]


def test_titles_of_white_space_tell_nothing_and_count_as_empty(tmp_path):
    path = tmp_path / "id2name4Rec.json"
    path.write_text(json.dumps({"1": " ", "2": " ", "3": "x", "4": "x", "5": ""}))
    titles = read_titles(path)
    assert titles.catalogue.title_class.tolist() == [0, 1, 2, 3, 3, 5]
    assert any("titles empty; such items are told apart by id: 3" in n for n in titles.notes)
    assert any("2 items share their title" in note for note in titles.notes)


def test_the_audit_counts_titles_of_white_space_as_empty(tmp_path):
    found = read_table(csv(tmp_path / "mine.csv", ROWS))
    spaced = replace(found, catalogue=Catalogue(("", *[" "] * 9)))
    facts = audit(spaced).facts["titles"]
    assert (facts["empty titles"], facts["items that share a title"]) == (9, 0)


def test_a_number_of_too_many_digits_is_no_title(tmp_path):
    path = tmp_path / "id2name4Rec.json"
    path.write_text('{"1": ' + "1" * 5000 + "}")
    with pytest.raises(DataError, match=r"id2name4Rec.json: not JSON that can be read .* quotes"):
        read_titles(path)
