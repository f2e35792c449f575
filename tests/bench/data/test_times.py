"""Times in every form: recognised for the whole column, or refused with what stands where."""

import datetime

import pyarrow as pa
import pytest

from bench.data.amazon.times import Times
from bench.errors import DataError

SECOND = 1606463343  # 27 November 2020, 07:49:03 UTC
DAY = SECOND // 86400 * 86400


def seconds(texts, **how):
    times = Times(**how)
    block = times.read(pa.array(texts))
    assert (block.form >= 0).all(), f"not read: {texts}"
    times.append(block, block.form >= 0)
    second, _, good = times.finish(lambda row: row)
    return second[good].tolist(), times.said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (str(SECOND), None),
        (f"{SECOND}.0", None),
        ("1.606463343e9", None),
        (f"{SECOND}000", "times are milliseconds since 1970"),
        (f"{SECOND}000000", "times are microseconds since 1970"),
        (f"{SECOND}000000000", "times are nanoseconds since 1970"),
        ("20201127074903", "times are dates written as YYYYMMDDhhmmss"),
        ("2020-11-27 07:49:03", "times are dates written as YYYY-MM-DD hh:mm"),
        ("2020-11-27T07:49:03Z", "times are dates written as YYYY-MM-DD hh:mm with a zone"),
        (
            "2020-11-27T08:49:03.000+01:00",
            "times are dates written as YYYY-MM-DD hh:mm with a zone",
        ),
        ("2020-11-27 02:49:03-0500", "times are dates written as YYYY-MM-DD hh:mm with a zone"),
        ("2020-11-27 07:49:03+00", "times are dates written as YYYY-MM-DD hh:mm with a zone"),
        ("20201127T074903", "times are dates written as YYYYMMDD hh:mm"),
        ("27.11.2020 07:49:03", "times are dates written as DD.MM.YYYY hh:mm"),
        ("11/27/2020 7:49:03 AM", "times are dates written as MM/DD/YYYY hh:mm AM/PM"),
        ("27/11/2020 07:49:03", "times are dates written as DD/MM/YYYY hh:mm"),
        ("27-11-2020 07:49:03", "times are dates written as DD-MM-YYYY hh:mm"),
    ],
)
def test_one_moment_in_every_form(text, said):
    assert seconds([text] * 3) == ([SECOND] * 3, [] if said is None else [said])


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20201127", datetime.date(2020, 11, 27)),
        ("2020-11-27", datetime.date(2020, 11, 27)),
        ("2020/11/7", datetime.date(2020, 11, 7)),
        ("202011", datetime.date(2020, 11, 1)),
        ("2020", datetime.date(2020, 1, 1)),
        ("19651231", datetime.date(1965, 12, 31)),
    ],
)
def test_days(text, day):
    [second], _ = seconds([text])
    assert second == (day - datetime.date(1970, 1, 1)).days * 86400


def test_twelve_at_noon_and_at_midnight():
    times = [f"11/27/2020 12:00 {half}" for half in ("AM", "PM")]
    assert seconds(times)[0] == [DAY, DAY + 43200]


def test_a_unit_and_a_format_can_be_stated():
    assert seconds(["20201127"], unit="s") == ([20201127], [])
    assert seconds(["5000"], unit="ms") == ([5], [])
    assert seconds(["Nov 27, 2020 07:49:03"], pattern="%b %d, %Y %H:%M:%S") == ([SECOND], [])
    with pytest.raises(DataError, match="no number of seconds"):
        seconds([f"{SECOND}000"], unit="s")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (
            ["2020-12-04", "11/27/2020 07:49"],
            r"row 1 has '2020-12-04' \(YYYY-MM-DD\), row 2 has '11/27/2020 07:49' \(\?/\?/YYYY hh:mm\)",
        ),
        (["2020-12-04", str(SECOND)], r"'2020-12-04' \(YYYY-MM-DD\)"),
        (["2020-12-04 10:00", "2020-12-04 10:00Z"], "with a zone"),
        (
            [str(SECOND), f"{SECOND}000"],
            rf"row 1 has {SECOND} \(seconds\?\), row 2 has {SECOND}000 \(milliseconds\?\)",
        ),
        (["27/11/2020", "11/27/2020"], "row 1 has the day first, row 2 the month"),
        (["03/04/2020", "05/06/2020"], r"'03/04/2020' \(row 1\) do not tell day from month"),
        (["20201127"] * 9 + ["5"] * 3, r"75% of the times are dates such as 20201127 \(YYYYMMDD\)"),
    ],
)
def test_two_forms_in_a_column_are_refused_with_both(texts, says):
    with pytest.raises(DataError, match=says):
        seconds(texts)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "nan", "2020-02-30", "2020-13-01", "2020-11-27 25:00", "1e400", "13/13/2020"],
)
def test_no_times(text):
    assert Times().read(pa.array([text, "x"])).form.tolist() == [-1, -1]


def test_a_date_that_does_not_exist_is_left_out_of_a_column_of_digits():
    second, _ = seconds(["20201127"] * 200 + ["20200230"])
    assert second == [DAY] * 200


def test_rows_that_were_left_out_do_not_shift_the_place_of_the_others():
    times = Times()
    block = times.read(pa.array([str(SECOND), "x", f"{SECOND}000"]))
    times.append(block, block.form >= 0)
    with pytest.raises(DataError, match="row 3 has"):
        times.finish(lambda kept: [0, 2][kept])
