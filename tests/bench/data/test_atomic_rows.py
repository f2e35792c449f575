"""Bad rows of predefined atomic splits: each refused with its line, none left out without a word."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.amazon.streams import Repairs
from bench.data.amazon.tables import tables
from bench.data.formats.atomic import read_atomic
from bench.errors import DataError

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"
ITEMS = "item_id:token\ttitle:token_seq\n1\ta\n2\tb\n3\tc\n"
GOOD = "".join(f"{user}\t1 2\t3\t{1_400_000_000 + user}\n" for user in range(300))


def folder_of(tmp_path, items=ITEMS, **parts):
    folder = tmp_path / "ds"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        text = HEADER + parts.get(part, GOOD)
        (folder / f"ds.{part}.inter").write_text(text, encoding="utf-8", newline="")
    if items is not None:
        (folder / "ds.item").write_text(items, encoding="utf-8")
    return folder


def put(row, before=150):
    """GOOD with another row below user ``before - 1``, blank lines above it and all."""
    lines = GOOD.splitlines(keepends=True)
    return "".join([*lines[:before], f"\n{row}\n", *lines[before:]])


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("\t1 2\t3\t1400000000", "no user"),
        (" \t1 2\t3\t1400000000", "no user"),
        ("7\t\t3\t1400000000", "a history without items"),
        ("7\t1 2\t\t1400000000", "no target item"),
        ("7\t1 9\t3\t1400000000", r"item '9' is not in the \.item file"),
        ("7\t1 2\t9\t1400000000", r"item '9' is not in the \.item file"),
        ("7\t1 2\t3\tsoon", "timestamp 'soon' is no time"),
        ("7\t1 2\t3\t-5", "timestamp '-5' is no time"),
        ("7\t1 2\t3 1400000000", "a row of 3 columns for 4"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, part, row, says):
    folder = folder_of(tmp_path, **{part: put(row)})
    with pytest.raises(DataError, match=rf"ds\.{part}\.inter, line 153: {says}"):
        read_atomic(folder)


def test_an_empty_target_is_no_item_without_an_item_file_either(tmp_path):
    folder = folder_of(tmp_path, items=None, test=put("7\t1 2\t\t1400000000"))
    with pytest.raises(DataError, match=r"test\.inter, line 153: no target item"):
        read_atomic(folder)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (ITEMS.replace("2\tb", "2\tb\tz"), "item, line 3: a row of 3 columns for 2"),
        (ITEMS.replace("2\tb", "\tb"), "item, line 3: an item without a token"),
        ("item_id:token\ttitle:token_seq\n", "item: no rows below the header"),
    ],
)
def test_a_bad_item_file_is_refused(tmp_path, items, says):
    with pytest.raises(DataError, match=says):
        read_atomic(folder_of(tmp_path, items=items))


def test_milliseconds_become_seconds(tmp_path):
    thousandfold = GOOD.replace("\n", "000\n")
    found = read_atomic(folder_of(tmp_path, train=thousandfold, valid=thousandfold))
    assert found.split.train.timestamp_W[:2].tolist() == [1_400_000_000, 1_400_000_001]
    assert found.split.test.queries.timestamp_Q[0] == 1_400_000_000


def test_times_between_0_and_1_are_refused_and_costless_fractions_counted(tmp_path):
    folder = folder_of(tmp_path, test=GOOD.replace("\n", ".5\n"))
    assert read_atomic(folder).notes == ("300 times had a fraction of a second, which was cut off",)
    normalised = "".join(f"{user}\t1 2\t3\t0.{user + 100}\n" for user in range(300))
    (folder / "ds.train.inter").write_text(HEADER + normalised)
    with pytest.raises(DataError, match=r"train\.inter: times 0\.1 and 0\.101 lie within"):
        read_atomic(folder)


CELLS = st.text(st.sampled_from('a1 "\t\r\n\u00e9'), max_size=12)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(CELLS, min_size=1, max_size=8))
def test_odd_quotes_and_line_ends_never_hide_the_line(tmp_path, lines):
    path = tmp_path / "x"
    path.write_text("a\tb\n" + "\n".join(lines), encoding="utf-8", newline="")
    try:
        list(tables(path, ["a"], Repairs(), strict=True))
        said = str(path)
    except DataError as error:
        said = str(error)
    assert said.startswith(str(path))
