"""Hostile, broken and merely odd raw files: each a clear error or a counted repair."""

import bz2
import gzip
import io
import itertools
import json
import zipfile

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.amazon import streams as opening
from bench.data.amazon.dialect import Utf8
from bench.data.amazon.events import EventLog
from bench.data.amazon.json_records import json_tables
from bench.data.amazon.streams import Repairs, line_blocks, open_raw
from bench.data.amazon.tables import tables
from bench.data.amazon.titles import join_titles, usable_title
from bench.errors import DataError

FIELDS = {"user": pa.string(), "item": pa.string(), "time": pa.int64()}


def write(folder, data, name="reviews"):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read_json(path, fields=FIELDS, wanted=None):
    repairs = Repairs()
    found = [t.to_pylist() for t in json_tables(path, fields, repairs, wanted)]
    return [row for table in found for row in table], repairs


def events(rows, **how):
    repairs = Repairs()
    log = EventLog(repairs, **how)
    user, item, time = zip(*rows, strict=True)
    log.append(pa.table({"user": user, "item": item, "time": time}))
    return log.finish(), repairs


GOOD = '{"user": "u", "item": "i", "time": 5, "text": "a\\nb"}'
ROW = {"user": "u", "item": "i", "time": 5}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: data,
        gzip.compress,
        bz2.compress,
        lambda data: gzip.compress(data) + gzip.compress(data),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.rstrip(b"\n"),
    ],
    ids=["plain", "gzip", "bzip2", "gzip of two members", "crlf", "no last newline"],
)
def test_wrappings_are_told_by_content(tmp_path, wrap):
    rows, repairs = read_json(write(tmp_path, wrap(f"{GOOD}\n\n".encode())))
    assert rows in ([ROW], [ROW, ROW])
    assert repairs.sentences() == ()


def test_a_zip_is_read_without_unpacking(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inside/reviews.json", GOOD)
    assert read_json(tmp_path / "a.zip")[0] == [ROW]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "member", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\evil.json", "C:\\x.json"]
)
def test_a_zip_that_points_outside_is_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, GOOD)
    with pytest.raises(DataError, match="points outside the archive"):
        open_raw(tmp_path / "a.zip")


def test_a_zip_of_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", GOOD)
        archive.writestr("b", GOOD)
    with pytest.raises(DataError, match="holds 2 files where one is expected"):
        open_raw(tmp_path / "a.zip")


@pytest.mark.parametrize("keep", [20, 200, -1, -9])
def test_gzip_cut_short(tmp_path, keep):
    lines = "".join(f'{{"user": "{i * 7919}", "item": "i", "time": 5}}\n' for i in range(500))
    path = write(tmp_path, gzip.compress(lines.encode())[:keep])
    with pytest.raises(DataError, match="end early, as after a broken download"):
        read_json(path)
    numbers = "".join(f"{i * 7919},2,3\n" for i in range(500))
    csv = write(tmp_path, gzip.compress(f"user,item,time\n{numbers}".encode())[:keep])
    with pytest.raises(DataError, match="end early, as after a broken download"):
        list(tables(csv, ["user"], Repairs()))


def test_gzip_with_a_flipped_byte(tmp_path):
    data = bytearray(gzip.compress("".join(f"{GOOD[:-1]}, {i}\n" for i in range(999)).encode()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match=r"damaged compressed data|hold no record"):
        read_json(write(tmp_path, bytes(data)))


@pytest.mark.parametrize(("data", "message"), [(b"", "is empty"), (None, "no such file")])
def test_nothing_to_read(tmp_path, data, message):
    path = tmp_path / "none" if data is None else write(tmp_path, data)
    with pytest.raises(DataError, match=message):
        read_json(path)


def test_one_bad_line_is_counted_and_many_are_refused(tmp_path):
    path = write(tmp_path, f'{GOOD}\n{GOOD}\n{{"user": "u", "it\n{GOOD}\n')
    rows, repairs = read_json(path)
    assert rows == [ROW] * 3
    assert repairs.counts == {"lines hold no record and were skipped": 1}
    assert "line 3" in repairs.sentences()[0]
    with pytest.raises(DataError, match=r"2 of 4 lines hold no record, line 2: .* the format"):
        read_json(write(tmp_path, f"{GOOD}\nnot json\n[1, 2]\n{GOOD}\n"))


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("{'user': 'u', 'item': u'i', 'time': 5}", ROW),
        ('{"user": "u", "item": "i", "time": "5"}', ROW),
        ('{"user": "u", "item": "i", "time": 5.0}', ROW),
        ('{"user": "u", "item": "i", "time": NaN}', ROW | {"time": None}),
        ('{"user": "u", "item": "i", "time": 1e400}', ROW | {"time": None}),
        ('{"user": "u", "item": "i", "time": 99999999999999999999}', ROW | {"time": None}),
        ('{"user": "u", "item": "i", "time": true}', ROW | {"time": None}),
        ('{"user": 7, "item": ["i"], "time": 5}', {"user": "7", "item": None, "time": 5}),
        ('{"item": "i", "time": 5}', ROW | {"user": None}),
        ('{"user": "a\tb\u0001", "item": "i", "time": 5}', ROW | {"user": "a\tb\u0001"}),
        ('{"user": "\\ud83d\\ude00", "item": "i", "time": 5}', ROW | {"user": "\U0001f600"}),
        ('{"user": "x\\ud800", "item": "i", "time": 5}', ROW | {"user": "x\ufffd"}),
    ],
)
def test_odd_records(tmp_path, line, row):
    assert read_json(write(tmp_path, line))[0] == [row]


def test_bytes_that_are_not_utf8(tmp_path):
    rows, repairs = read_json(write(tmp_path, b'{"user": "u\xff", "item": "i", "time": 5}\n'))
    assert rows == [ROW | {"user": "u\ufffd"}]
    assert sum(repairs.counts.values()) == 1
    repairs = Repairs()
    data = b"user,item\n\xe9,2\n\xc3\xa9,\xff\xff,3\n" + b"1,2\n" * 300
    found = list(tables(write(tmp_path, data), ["user"], repairs))
    assert found[0]["user"].to_pylist() == ["\ufffd", *"1" * 300]
    assert repairs.counts.pop("lines had the wrong number of columns and were skipped") == 1
    assert list(repairs.counts.values()) == [3], repairs.counts


def test_deeply_nested_and_hostile_literals_do_not_run(tmp_path):
    hostile = ["[" * 20000, "{'a': __import__('os').system('true')}", "{'a': 9**9**9}"]
    lines = [GOOD] * 300 + hostile
    rows, repairs = read_json(write(tmp_path, "\n".join(lines)))
    assert len(rows) == 300
    assert repairs.counts == {"lines hold no record and were skipped": 3}


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 12)
    path = write(tmp_path, b"x" * (1 << 15))
    with pytest.raises(DataError, match="longer than"):
        list(opening._line_blocks(path, 1 << 10, open_raw(path)))


TEXT = st.text(max_size=12)
RECORD = st.fixed_dictionaries(
    {
        "user": TEXT | st.none(),
        "item": TEXT,
        "time": st.integers(-(2**61), 2**61) | st.none(),
        "more": st.lists(TEXT | st.floats() | st.booleans(), max_size=3),
    }
)
FOLDER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FOLDER
@given(st.lists(RECORD, min_size=1, max_size=20), st.sampled_from([json.dumps, repr]))
def test_any_record_comes_back(tmp_path, records, say):
    said = "\n".join(say(record).replace("nan", "None").replace("inf", "0") for record in records)
    rows, repairs = read_json(write(tmp_path, said.encode("utf-8", "surrogatepass")))
    mended = [
        {
            f: v.replace("nan", "None").replace("inf", "0") if isinstance(v, str) else v
            for f, v in r.items()
        }
        for r in records
    ]
    assert rows == [{field: record[field] for field in FIELDS} for record in mended]
    assert repairs.sentences() == ()


@FOLDER
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20), st.integers(1, 40))
def test_blocks_are_the_file_whatever_their_size(tmp_path, lines, size):
    data = b"#" + b"\n".join(lines)
    blocks = list(line_blocks(write(tmp_path, data), size))
    assert b"".join(block for _, block in blocks) == data
    assert all(block.endswith(b"\n") for _, block in blocks[:-1])
    starts = [
        data[: sum(len(b) for _, b in blocks[:k])].count(b"\n") + 1 for k in range(len(blocks))
    ]
    assert [first for first, _ in blocks] == starts


@FOLDER
@given(st.lists(st.binary(max_size=40), max_size=20), st.booleans())
def test_random_bytes_are_records_or_a_data_error(tmp_path, lines, table):
    data = b"\n".join(lines)
    path = write(tmp_path, b"user,item,time\n" + data if table else b"{" + data)
    try:
        if table:
            list(tables(path, ["user", "item", "time"], Repairs()))
        else:
            read_json(path)
    except DataError as error:
        said = str(error)
    else:
        said = str(path)
    assert str(path) in said


@FOLDER
@given(st.binary(max_size=60), st.integers(1, 9), st.lists(st.integers(1, 70), min_size=1))
def test_repaired_bytes_are_python_s_own_repair(tmp_path, data, block, sizes):
    class Small(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, block))

    stream = Utf8(Small(data), Repairs())
    pieces = []
    for size in itertools.cycle(sizes):
        pieces.append(stream.read(size))
        assert len(pieces[-1]) <= size
        if not pieces[-1]:
            break
    assert b"".join(pieces).decode("utf-8") == data.decode("utf-8", "replace")


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)


@FOLDER
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.sampled_from(",\t"))
def test_any_quoted_cell_comes_back(tmp_path, rows, comma):
    cell = '"{}"'.format
    lines = [comma.join(cell(c.replace('"', '""')) for c in row) for row in [("a", "b"), *rows]]
    found = list(tables(write(tmp_path, "\n".join(lines)), ["a", "b"], Repairs()))
    assert [tuple(row.values()) for table in found for row in table.to_pylist()] == rows


def test_only_what_is_wanted_is_parsed_and_nothing_wanted_is_lost(tmp_path):
    lines = [f"{{'title': 't{i}', 'also': {{'asin': 'a3'}}, 'asin': 'a{i}'}}" for i in range(9)]
    lines[5] = lines[5].replace("'asin': 'a5'", '"asin":  u"a5"')
    fields = {"asin": pa.string(), "title": pa.string()}
    path = write(tmp_path, "\n".join(lines))
    rows, _ = read_json(path, fields, ("asin", {"a2", "a5"}))
    assert [row["asin"] for row in rows] == ["a2", "a5"]
    rows, _ = read_json(path, fields, ("asin", {"a3"}))
    assert len(rows) == 9


def test_events_that_cannot_be_used_are_counted():
    found, repairs = events(
        [
            ("u", "i", "5"),
            ("", "i", "5"),
            ("u", None, "5"),
            ("nan", "i", "5"),
            ("-1", "i", "5"),
            ("u", "-2.0", "5"),
            ("u", "i", ""),
            ("u", "i", "nan"),
            ("u", "i", "-5"),
            ("-dash", "i", "86400"),
        ],
        tolerated=0.9,
    )
    assert found.time_E.tolist() == [5, 86400]
    assert found.users.to_pylist() == ["u", "-dash"]
    assert repairs.sentences() == (
        "1 ids were written as a fraction and are read as whole numbers (first: '-2.0')",
        "2 rows without a user were dropped (first: row 2: '')",
        "1 rows without an item were dropped (first: row 3: None)",
        "1 rows with a negative user id were dropped (first: row 5: '-1')",
        "1 rows with a negative item id were dropped (first: row 6: '-2.0')",
        "2 rows without a time that can be read were dropped (first: row 7: '')",
        "1 rows with a time before 1970 were dropped (first: row 9: '-5')",
        "all times lie in 1970: if they are no seconds, state --time-unit or --time-format",
    )


def test_no_usable_event_at_all():
    with pytest.raises(DataError, match=r"not one usable row of 1: 1 rows without a user"):
        events([("", "i", 5)])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=300))
def test_codes_stand_for_their_names_over_many_blocks(pairs):
    log = EventLog(Repairs())
    for start in range(0, len(pairs), 3):
        user, item = zip(*pairs[start : start + 3], strict=True)
        time = list(range(len(user)))
        log.append(pa.table({"user": map(str, user), "item": map(str, item), "time": time}))
    found = log.finish()
    names = [found.users[code].as_py() for code in found.user_E.tolist()]
    assert names == [str(user) for user, _ in pairs]
    assert found.users.to_pylist() == list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("raw", "kept", "cleaned"),
    [
        ("Plain", "Plain", "Plain"),
        ("Tom &amp; <b>Jerry</b>", "Tom &amp; <b>Jerry</b>", "Tom & Jerry"),
        ("two\nlines\x00", "two\nlines\x00", "two lines"),
        ("\u202eabc", "\u202eabc", "abc"),
        ("1 < 2 > 0", "1 < 2 > 0", "1 < 2 > 0"),
        ("var d = getTime()", "var d = getTime()", ""),
        ("x ###\nResponse: y", "", ""),
        ("&#35;## Response", "&#35;## Response", ""),
        (" \t", "", ""),
        (None, "", ""),
        ("x" * 100_000, "x" * 100_000, "x" * 100_000),
    ],
)
def test_titles_by_policy(raw, kept, cleaned):
    assert usable_title(raw, "keep", Repairs()) == kept
    assert usable_title(raw, "clean", Repairs()) == cleaned


def test_the_first_usable_title_counts():
    metadata = [
        pa.table({"item": ["a", "b", "x"], "title": ["", "B", "X"]}),
        pa.table({"item": ["a", "a", "b"], "title": ["A", "other", None]}),
    ]
    repairs = Repairs()
    assert join_titles(metadata, pa.array(["b", "a", "c"]), "keep", repairs) == {0: "B", 1: "A"}
    assert repairs.counts == {"items have a second, different title; the first counts": 1}
