"""A plain table of interactions, in every form it may come in."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bench.data.exams import rows_of
from bench.data.formats.delimited import read_table, write_published
from bench.data.formats.titles import read_titles
from bench.data.formats.windows import read_windows
from bench.data.splits import Protocol
from bench.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
ROWS = [
    {
        "user_id": u,
        "item_id": int(i),
        "timestamp": 1_400_000_000 + 3600 * t,
        "title": f'no. "{i}", é\n!',
    }
    for u in range(1, 9)
    for t, i in enumerate(RNG.permutation(30)[:14])
]


def csv(rows, comma=","):
    cells = [[*rows[0]], *([str(v).replace('"', '""') for v in row.values()] for row in rows)]
    return "\n".join(comma.join(f'"{cell}"' for cell in row) for row in cells).encode()


def write(folder, form, rows):
    path = folder / f"mine.{form}"
    if form == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif form == "dates":
        table = pa.Table.from_pylist(rows)
        time = table["timestamp"].cast(pa.timestamp("s"))
        pa.parquet.write_table(table.set_column(2, "timestamp", time), path)
    elif form == "large":
        table = pa.Table.from_pylist(rows)
        names = pa.array([r["title"] for r in rows], pa.large_string()).dictionary_encode()
        pa.parquet.write_table(table.set_column(3, "title", names), path)
    else:
        path.write_bytes(
            {
                "csv": lambda: csv(rows),
                "tsv": lambda: csv(rows, "\t"),
                "csv.gz": lambda: gzip.compress(csv(rows)),
                "jsonl": lambda: "\n".join(map(json.dumps, rows)).encode(),
                "ms": lambda: csv([r | {"timestamp": r["timestamp"] * 1000} for r in rows]),
                "float": lambda: csv([r | {"timestamp": f"{r['timestamp']}.0"} for r in rows]),
                "shuffled": lambda: csv([rows[i] for i in RNG.permutation(len(rows))]),
            }[form]()
        )
    return path


FORMS = ["tsv", "csv.gz", "parquet", "dates", "large", "jsonl", "ms", "float", "shuffled"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dataset(tmp_path, form):
    plain, other = (read_table(write(tmp_path, f, ROWS), title="title") for f in ("csv", form))
    assert plain.catalogue.titles == other.catalogue.titles
    assert plain.catalogue.titles[1] == 'no. "0", é !'
    for ours, theirs in zip(parts(plain), parts(other), strict=True):
        assert [r.tolist() for r in ours.sequences] == [r.tolist() for r in theirs.sequences]
        np.testing.assert_array_equal(ours.timestamp_W, theirs.timestamp_W)
        np.testing.assert_array_equal(ours.user_W, theirs.user_W)
    assert plain.name == "mine"


def parts(dataset):
    return dataset.split.train, rows_of(dataset.split.valid), rows_of(dataset.split.test)


def test_windows_are_those_of_a_loop(tmp_path):
    found = read_table(write(tmp_path, "csv", ROWS), title="title")
    expected = []
    for user in range(1, 9):
        own = sorted((r["timestamp"], r["item_id"] + 1) for r in ROWS if r["user_id"] == user)
        cuts = [own[k : k + 11] for k in range(len(own) - 10)]
        expected += [(cut[-1][0], user, [i for _, i in cut]) for cut in cuts]
    expected.sort(key=lambda row: row[:2])
    together = [
        (t, u, s.tolist())
        for part in parts(found)
        for t, u, s in zip(
            part.timestamp_W.tolist(), part.user_W.tolist(), part.sequences, strict=True
        )
    ]
    assert together == expected
    assert [len(part) for part in parts(found)] == [25, 3, 4]


def test_another_split_and_no_titles(tmp_path):
    path = write(tmp_path, "csv", ROWS)
    found = read_table(path, split=Protocol(name="leave_one_out", width=5))
    assert len(found.split.test) == len(found.split.valid) == 8
    assert set(found.catalogue.titles) == {""}
    assert found.version != read_table(path).version
    assert any("leave_one_out" in note for note in found.notes)


def test_columns_by_name(tmp_path):
    renamed = [dict(zip(("who", "what", "when", "called"), r.values(), strict=True)) for r in ROWS]
    path = write(tmp_path, "csv", renamed)
    found = read_table(path, user="who", item="what", time="when", title="called")
    assert found.catalogue.n_items == len({r["item_id"] for r in ROWS})
    with pytest.raises(DataError, match="no column 'user_id'; it has 'who', 'what'"):
        read_table(path)
    with pytest.raises(ConfigError, match="its own column"):
        read_table(path, user="who", item="what", time="when", title="what")


def test_unusable_rows_are_counted(tmp_path):
    odd = [
        {"user_id": u, "item_id": i, "timestamp": t, "title": "x"}
        for u, i, t in [
            ("", 1, 5),
            (-1, 1, 5),
            ("nan", 1, 5),
            (1, -7, 5),
            (1, 1, "never"),
        ]
    ]
    path = write(tmp_path, "csv", ROWS + odd)
    with pytest.raises(DataError, match=r"5 of 117 rows cannot be used, more than 0\.01 of them"):
        read_table(path, title="title")
    found = read_table(path, title="title", tolerated=0.05)
    assert found.notes[:4] == (  # each title has a line break in it
        "2 rows without a user were dropped (first: line 226: '')",
        "1 rows with a negative user id were dropped (first: line 227: '-1')",
        "1 rows with a negative item id were dropped (first: line 229: '-7')",
        "1 rows without a time that can be read were dropped (first: line 230: 'never')",
    )


def test_damaged_parquet(tmp_path):
    path = write(tmp_path, "parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged Parquet"):
        read_table(path)


def test_published_form_and_back(tmp_path):
    ours = read_table(write(tmp_path, "csv", ROWS), title="title")
    write_published(ours, tmp_path / "out")
    titles = read_titles(tmp_path / "out" / "id2name4Rec.json")
    assert titles.catalogue.titles == ours.catalogue.titles
    for name, part in zip(("train", "valid", "test"), parts(ours), strict=True):
        theirs, notes = read_windows(tmp_path / "out" / f"{name}.csv", titles)
        assert notes == ()
        assert [r.tolist() for r in theirs.sequences] == [r.tolist() for r in part.sequences]
        np.testing.assert_array_equal(theirs.user_W, part.user_W)
        np.testing.assert_array_equal(theirs.timestamp_W, part.timestamp_W)
