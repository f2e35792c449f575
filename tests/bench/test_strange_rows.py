"""Rows of others: whatever is wrong with one is a line, and the others go on."""

import copy
import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from _board_rows import TARGET, cell, done, lists_of, tiny_board, write

from bench.board import as_frame
from bench.cell import Row
from bench.cli import main
from bench.errors import ArtefactError, BenchError, DataError
from bench.results.packed import SEAL, Packed
from bench.results.row_files import read_row
from bench.results.row_schema import check_cell

DEEP = json.loads('{"a":' * 60 + "1" + "}" * 60)
BAD = {
    "climbs": "../../x",
    "escape": "\x1b[31mred",
    "turned": "a\u202eb",
    "nan": float("nan"),
    "infinite": float("-inf"),
    "huge": 10**30,
    "deep": DEEP,
}


def full_row():
    """A row with a value in every field that rows have."""
    row, _ = done([0] * 6, cell("bigrec", tune=2, train_rows=5, test_rows=6))
    whole = row.as_dict()
    whole["cell"] |= {
        "config": {"lr": 0.1, "layers": [1, 2], "options": {"tau": None, "form": "x"}},
        "versions": {"method": 1},
        "contents": {"backbone": "0123"},
        "needs": {"tuning": "0123456789abcdef"},
    }
    whole["facts"] |= {"title": "T", "epochs": 3, "upstream": {"ab": 1.0}, "own": {"list": [1.5]}}
    whole["valid"] = {"ndcg@10": 0.5}
    whole["cost"]["fit"]["cpu_seconds"] = 1.0
    whole["provenance"] |= {"dirty": False, "versions": {"torch": "2.4.0+cpu"}, "code": "ab"}
    whole["provenance"] |= {"threads": 1, "device": "cpu", "python": "3.11.7"}
    return whole


def places(thing, path=()):
    """The path to every value inside a row, whole mappings and lists too."""
    for key, value in thing.items() if isinstance(thing, dict) else enumerate(thing):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def with_value(row, place, value):
    changed = copy.deepcopy(row)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def refusal(path):
    with pytest.raises(DataError) as caught:
        read_row(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 900 and said.startswith(f"{path}: not a row: ")
    return said


def test_the_row_itself_is_read(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps(full_row()))
    assert read_row(path) == Row.from_dict(full_row())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_value_anywhere_is_one_line_that_names_the_field(tmp_path, bad):
    row, path = full_row(), tmp_path / "row.json"
    every = list(places(row))
    assert len(every) >= 70
    for place in every:
        path.write_text(json.dumps(with_value(row, place, bad)))
        assert str(place[0]) in refusal(path), place


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "great"}, "status is 'great'; allowed: 'done', 'failed' or 'left out'"),
        ({"n": -1}, "n is -1; allowed: greater than or equal to 0"),
        ({"n": 1.5}, "n is 1.5"),
        ({"n": True}, "n is True"),
        ({"surprise": 1}, "surprise is no field of a row"),
        ({"cell": {}}, "cell.dataset is missing"),
        ({"cost": {"lunch": {}}}, "cost.lunch.the key is 'lunch'; allowed: 'fit', 'recommend'"),
        ({"valid": {"ndcg@10": 1.5}}, "valid.ndcg@10 is 1.5; allowed: less than or equal to 1"),
        ({"facts": {"family": "magic"}}, "facts.family is 'magic'"),
        ({"facts": {"epochs": "many"}}, "facts.epochs is 'many'; allowed: a number"),
        ({"facts": {"beam_regret": 0.5}}, "facts.audited is missing"),
        ({"facts": {"a/../b": 1}}, "facts has the key 'a/../b'"),
        (
            {"cell": {**full_row()["cell"], "config": {"method": []}}},
            "cell.config.method is a list of 0; allowed: a name",
        ),
        ({"reason": "two\nlines"}, "reason is 'two\\nlines'; allowed: one line"),
    ],
    ids=lambda thing: str(thing)[:30],
)
def test_what_is_allowed_is_said(tmp_path, change, said):
    path = tmp_path / "row.json"
    path.write_text(json.dumps(full_row() | change))
    assert said in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<<<<<<< HEAD",
        b"[]",
        b"null",
        b'{"cell": ',
        b"[" * 100_000,
        b'{"cell":' * 100_000,
        b'{"reason": "\xff\xfe"}',
        b'{"reason": "\\ud800"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b"\x89PNG\r\n\x1a\n\0\0\0",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_json_of_a_row_is_one_line(tmp_path, content):
    path = tmp_path / "row.json"
    path.write_bytes(content)
    assert refusal(path)


def test_numbers_out_of_range_are_refused_as_they_are_written(tmp_path):
    path, text = tmp_path / "row.json", json.dumps(full_row())
    for number in ("1e999", "NaN", "-Infinity", "9" * 5000):
        path.write_text(text.replace('"lr": 0.1', f'"lr": {number}'))
        assert refusal(path)


def test_files_that_are_no_files_or_too_large_are_not_read(tmp_path):
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(5 << 20)
    for name in ("folder", "pipe", "large"):
        assert refusal(tmp_path / f"{name}.json")


def test_a_cell_whose_row_nobody_could_read_is_refused_before_it_runs():
    check_cell(cell("bigrec", config={"shape": (1, 2), "text": "a\nb"}).as_dict())
    for config in ({"file": "../x"}, {"x": float("nan")}, {"y": object()}):
        with pytest.raises(ValueError, match="allowed"):
            check_cell(cell("bigrec", config=config).as_dict())


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


def break_some(rows):
    """Four broken files among five sound rows: a row, its positions, a copy, no text."""
    home = rows / "office" / "small"
    bad = full_row()
    bad["cell"]["dataset"] = "../../outside"
    (home / "climbs.json").write_text(json.dumps(bad))
    (home / "no-text.json").write_bytes(b"\xff\xfe{}")
    path = write(rows, *done([0] * 6, cell("sasrec", loss="bce")))
    path.with_suffix(".npz").write_bytes(b"no archive")
    popularity = next(home.glob("popularity*.json"))
    (home / "z-copy.json").write_bytes(popularity.read_bytes())


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        (("board",), 1, 4),
        (("verify",), 1, 3),  # the positions are named on standard output, with the other faults
        (("compare", "sasrec", "bigrec"), 0, 4),
        (("claims", "--dataset", "office"), 0, 4),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else str(words),
)
def test_the_other_rows_go_on(rows, tmp_path, monkeypatch, capsys, words, code, lines):
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    main(["board", "--rows", str(rows), "--out", "sound"])
    break_some(rows)
    capsys.readouterr()
    more = ("--out", "out") if words[0] == "board" else ()
    assert main([*words, "--rows", str(rows), *more]) == code
    said = capsys.readouterr()
    assert [line[:10] for line in said.err.splitlines()] == ["left out: "] * lines
    assert "Traceback" not in said.out + said.err
    assert {path.name for path in tmp_path.iterdir()} <= before | {"sound", "out", ".cache"}
    if more:
        name = "tables/small-corrected-protocol1/office/quality.csv"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "sound" / name).read_bytes()


def test_a_frame_leaves_broken_rows_out_with_a_warning(rows):
    break_some(rows)
    with pytest.warns(UserWarning, match="not a row"):
        assert len(as_frame(rows)) == 5


def seal(path, **arrays):
    """Write arrays as a sealed file, as somebody could who knows the seal."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * SEAL
    body = buffer.getvalue()[:-SEAL]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def arrays_of(tmp_path):
    _, packed = done([0, 1, 2, 255, 255, 255], cell("bigrec"))
    lists = lists_of([[3, 1], [1, 3], [2], [2], [2, 4], []])
    path = tmp_path / "sound.npz"
    replace(packed, lists=lists, target_Q=TARGET.astype(np.int32)).save(path)
    with np.load(path) as stored:
        return dict(stored)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user_Q": np.array([{}] * 6)}, "cannot be read"),
        ({"user_Q": np.arange(6.0)}, "users hold what no packed file has"),
        ({"user_Q": np.arange(5)}, "users of 5 queries, the positions are of 6"),
        ({"title.position_Q": np.full(6, 77, np.uint8)}, "hold the rank 77"),
        ({"title.chance_Q": np.full(6, 0.5)}, "belong together"),
        ({"title.chance_Q": np.full(6, np.nan), "title.start_Q": np.zeros(6, int)}, "chance_Q"),
        ({"target_Q": np.full(6, 2**31 - 1)}, "targets hold"),
        ({"lists.title_QK": np.full((6, 10), 2**40)}, "lists hold"),
        ({"lists.title_QK": np.full((6, 10**6), 0, np.uint8)}, "lists hold"),
        ({"lists.count_D": np.arange(9)}, "lists name 4 titles"),
        ({"lists.facts": np.array(["a"])}, "lists.facts hold"),
        ({"strata": np.array(["../x", "warm"])}, "strata hold"),
        ({"masks": np.zeros((2, 9), np.uint8)}, "masks hold"),
        ({"surprise": np.zeros(3)}, "called 'surprise'"),
        ({"\x1b[31m": np.zeros(1)}, "called '"),
    ],
    ids=lambda thing: (
        next(iter(thing)).encode("unicode_escape").decode() if isinstance(thing, dict) else None
    ),
)
def test_positions_of_others_are_one_line(tmp_path, change, said):
    path = tmp_path / "x.npz"
    seal(path, **(arrays_of(tmp_path) | change))
    with pytest.raises(ArtefactError) as caught:
        Packed.load(path)
    text = str(caught.value)
    assert said in text and text.isprintable() and text.startswith(f"{path}: ")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.results.packed_arrays.MOST_UNPACKED", 1 << 20)
    seal(tmp_path / "x.npz", **arrays_of(tmp_path), bomb=np.zeros(2 << 20, np.uint8))
    with pytest.raises(ArtefactError, match="bytes unpacked, the most is 1,048,576"):
        Packed.load(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"x" * 200, b"\x93NUMPY" + b"\0" * 99], ids=len)
def test_files_that_are_no_archives_are_one_line(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    with pytest.raises(BenchError, match="cannot be read"):
        Packed.load(path)
