"""Files cut off, too long, too large or no text: each is one line, or a counted repair; none is a trace."""

import json

import pytest

from bench.cli import main
from bench.data.formats.atomic import read_atomic
from bench.data.formats.delimited import TITLES
from bench.data.formats.trec import read_qrels, read_run
from bench.data.published import read_folder
from bench.errors import DataError

HUGE, LARGE = "9" * 4400, "1" + "0" * 20  # digits that Python refuses, and that no 64 bits hold


def one_line(fault):
    said = str(fault.value)
    assert "\n" not in said and len(said) < 700
    return said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"0 Q0 {LARGE} 1 0.5 b", "'100000000000000000000' is not a whole number of at most 18"),
        (f"{LARGE} Q0 1 1 0.5 b", "is not a whole number"),
        (f"0 Q0 {HUGE} 1 0.5 b", "is not a whole number"),
        (f"0 Q0 1 {HUGE} 0.5 b", "is not a whole number"),
        ("0 Q0 0 1 0.5 b", "item 0 is not in 1.."),
        ("0 Q0 -3 1 0.5 b", "item -3 is not in 1.."),
        ("0 Q0 4294967296 1 0.5 b", "item 4294967296 is not in 1..999999999"),
        ("0 Q0 1_0 1 0.5 b", "'1_0' is not a whole number"),
        ("0 Q0 \0 1 0.5 b", r"'\x00' is not a whole number"),
        ("0 Q0 1 1 inf b", "'inf' is not a finite number"),
        (f"0 Q0 1 1 {HUGE} b", "is not a finite number"),
        ("0 Q0 1 1", "4 fields, 6 are needed"),
    ],
    ids=range(12),
)
def test_runs(tmp_path, line, said):
    (tmp_path / "run").write_text(f"0 Q0 2 1 0.75 b\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_run(tmp_path / "run", 2)
    assert f"line 2: {said}" in one_line(caught) or said in one_line(caught)


@pytest.mark.parametrize("item", [LARGE, HUGE, "0", "-1", str(2**31), "\0"], ids=range(6))
def test_qrels(tmp_path, item):
    (tmp_path / "qrels").write_text(f"0 0 {item} 1\n")
    with pytest.raises(DataError, match="line 1"):
        read_qrels(tmp_path / "qrels")


INTER = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n" + "".join(
    f"{i % 5}\t{1 + i % 8} {1 + (i + 1) % 8}\t{1 + (i + 2) % 8}\t{1500000000 + i}\n"
    for i in range(60)
)
ITEMS = "item_id:token\ttitle:token_seq\n" + "".join(f"{i}\tT{i}\n" for i in range(1, 9))


def atomic(tmp_path, **changes):
    folder = tmp_path / "mine"
    folder.mkdir()
    files = {"train.inter": INTER, "valid.inter": INTER, "test.inter": INTER, "item": ITEMS}
    for ending, text in (files | changes).items():
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (folder / f"mine.{ending}").write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.inter": INTER + "1\0\t1 2\t3\t5\n"}, r"user '1\x00' has a control character"),
        ({"train.inter": INTER + "1\t1 \x1b\t3\t5\n"}, "history .* has a control character"),
        ({"item": ITEMS + "9\0\tT\n"}, r"line 10: item '9\x00' has a control character"),
        ({"train.inter": INTER[:-14]}, "a row of [23] columns for 4"),
        ({"train.inter": b"a\rb\x00\xff\r\n" * 9}, "no field 'user_id'|not CSV"),
        ({"bench.json": "[" * 100_000}, "no domain can be read"),
        ({"bench.json": '{"domain": "../x"}'}, "the domain '../x' is not one word"),
        ({"bench.json": HUGE}, "no domain can be read"),
    ],
    ids=range(8),
)
def test_atomic_files(tmp_path, changes, said):
    with pytest.raises(DataError, match=said.replace("\\x00", r"\\x00")) as caught:
        read_atomic(atomic(tmp_path, **changes))
    one_line(caught)


def test_tokens_of_thousands_of_digits_are_in_order_of_their_value(tmp_path):
    text = INTER + f"1\t{HUGE} 2\t10\t1600000000\n"
    data = read_atomic(atomic(tmp_path, **{"train.inter": text, "item": None}))
    assert data.catalogue.item_names[1:] == (*map(str, range(1, 9)), "10", HUGE)


def test_an_atomic_file_that_ends_within_a_line_is_said(tmp_path):
    data = read_atomic(atomic(tmp_path, **{"train.inter": INTER[:-4]}))
    assert "1 files end within a line" in data.notes[0] and "15000" in data.notes[0]


ROWS = "user_id,item_ids,timestamp\n" + "".join(
    f'{i},"[{1 + i % 8}, {1 + (i + 1) % 8}]",{1000 + i}\n' for i in range(40)
)


def windows(tmp_path, train=ROWS, titles=None):
    for name in ("valid.csv", "test.csv"):
        (tmp_path / name).write_text(ROWS)
    (tmp_path / "train.csv").write_text(train, newline="")
    titles = titles or json.dumps({str(i): f"T{i}" for i in range(1, 9)}).encode()
    (tmp_path / TITLES).write_bytes(titles)
    return read_folder(tmp_path, "mine", "item")


@pytest.mark.parametrize(
    "more",
    [
        f'{HUGE},"[1, 2]",5\n',
        f'1,"[1, {HUGE}]",5\n',
        f'1,"[1, 2]",{HUGE}\n',
        '1\0,"[1, 2]",5\n',
        '1,"[1, 2',
        f'1,"[{"1, " * 6_000_000}2]",5\n',
    ],
    ids=["user", "item", "time", "nul", "cut", "long"],
)
def test_windows(tmp_path, more):
    with pytest.raises(DataError, match="line 42") as caught:
        windows(tmp_path, ROWS + more)
    one_line(caught)


def test_windows_that_end_within_a_line_are_said(tmp_path):
    data = windows(tmp_path, ROWS[:-2])
    assert "train.csv ends within line 41" in data.notes[0]
    assert data.split.train.timestamp_W[-1] == 103, "what was cut off is not guessed"


@pytest.mark.parametrize(
    "titles",
    [
        b"[" * 100_000,
        b'{"1": ' + b"9" * 5000 + b"}",
        b'{"1": "T',
        b"\xff\xfe\0",
        b'{"1": "\\ud800"}',
    ],
    ids=range(5),
)
def test_titles(tmp_path, titles):
    with pytest.raises(DataError) as caught:
        windows(tmp_path, titles=titles)
    assert one_line(caught).count(TITLES) == 1


TABLE = "user_id,item_id,timestamp\n" + "".join(
    f"u{i % 7},i{i % 11},{1500000000 + i}\n" for i in range(200)
)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (
            TABLE + "u\0,i1,1500000000\n",
            0,
            "1 rows with a control character in the user id",
        ),
        (TABLE + "u1,i\x1b1,1500000000\n", 0, "1 rows with a control character in the item id"),
        (TABLE[:-3], 0, "1 files end within a line"),
        (TABLE + f"u1,i1,{HUGE}\n", 0, "1 rows without a time that can be read were dropped"),
        (
            TABLE.replace(",i", "\0,i").replace("user_id\0", "user_id"),
            2,
            "not one usable row of 200",
        ),
        (TABLE + "u1,i1\n", 0, "1 lines had the wrong number of columns"),
        (b"a\rb\x80\0" + bytes(range(256)) * 9, 2, "x.csv"),
    ],
    ids=range(7),
)
def test_imports(tmp_path, capsys, content, code, said):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["--name", "mine", "--data-root", str(tmp_path / "root")]
    assert main(["data", "import", str(path), *words]) == code
    printed = capsys.readouterr()
    text = printed.out if code == 0 else printed.err
    assert said in text
    assert code == 0 or len(printed.err.splitlines()) == 1
    assert (tmp_path / "root").exists() == (code == 0)
