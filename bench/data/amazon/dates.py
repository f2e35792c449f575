"""Dates written as text or as digits, as seconds since 1970; without a zone they are UTC."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.types import BoolArray, FloatArray, IntArray

DAY = 86400
EITHER = ("?/?/YYYY", "?-?-YYYY")  # day and month in an order that the whole column has to tell
SHIFT = 60_000  # makes seconds of a day positive whatever the zone: at most 15 hours either way
PACK = 200_000  # above the largest shifted second of a day, a leap second included
_CLOCK = (
    r"(?:[T ] *(?P<H>[0-9]{1,2}):?(?P<M>[0-9]{2})(?::?(?P<S>[0-9]{2})(?P<f>[.,][0-9]+)?)?"
    r"(?: ?(?P<p>[AaPp])\.?[Mm]\.?)?)?"
    r"(?: ?(?P<z>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?$"
)
_TWO, _FOUR = "[0-9]{1,2}", "[0-9]{4}"


def _head(first: str, second: str, third: str, mark: str) -> str:
    return f"^(?P<a>{first}){mark}(?P<b>{second}){mark}(?P<c>{third}){_CLOCK}"


# what each form looks like, and which of its three numbers are year, month and day
FORMS = {
    "YYYY-MM-DD": (_head(_FOUR, _TWO, _TWO, "-"), "abc"),
    "YYYY/MM/DD": (_head(_FOUR, _TWO, _TWO, "/"), "abc"),
    "YYYY.MM.DD": (_head(_FOUR, _TWO, _TWO, r"\."), "abc"),
    "YYYYMMDD": (_head(_FOUR, "[0-9]{2}", "[0-9]{2}", ""), "abc"),
    "DD.MM.YYYY": (_head(_TWO, _TWO, _FOUR, r"\."), "cba"),
    EITHER[0]: (_head(_TWO, _TWO, _FOUR, "/"), "cab"),
    EITHER[1]: (_head(_TWO, _TWO, _FOUR, "-"), "cab"),
}


def days_of(year: IntArray, month: IntArray, day: IntArray) -> tuple[IntArray, BoolArray]:
    """Days since 1970, int64, and where there is such a day at all."""
    good = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return first + day - 1, good & (day <= after - first)


def in_form(
    text: pa.Array, form: str
) -> tuple[BoolArray, IntArray, FloatArray, list[tuple[str, BoolArray]]]:
    """Read the texts that are dates of one form.

    Args:
        text: trimmed strings without null.
        form: a key of ``FORMS``.

    Returns:
        Which texts they are, bool [rows]; and of these alone the seconds since 1970 (packed, see
        :func:`unpack`, where the order of day and month is open), the fraction cut off each, and the
        exact forms found (with a time of day, with a zone) with the rows of each.
    """
    pattern, order = FORMS[form]
    found = pc.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False)
    parts = pc.extract_regex(text.filter(pa.array(found)), pattern)
    part = {name: parts.field(at) for at, name in enumerate("abcHMSfpz")}
    a, b, c = (_whole(part[name]) for name in order)
    hour, minute, second = (_whole(part[name]) for name in "HMS")
    has_half = pc.not_equal(part["p"], "").to_numpy(zero_copy_only=False)
    evening = pc.is_in(part["p"], pa.array(["P", "p"])).to_numpy(zero_copy_only=False)
    good = (hour < 24) & (minute < 60) & (second <= 60) & ~(has_half & ((hour < 1) | (hour > 12)))
    hour = np.where(has_half, hour % 12 + 12 * evening, hour)
    zone_S, has_zone = _zone(part["z"])
    moment = hour * 3600 + minute * 60 + second - zone_S
    digits = pc.replace_substring_regex(part["f"], "^[.,]", "0.")
    cut = np.array([float(each or 0) for each in digits.to_pylist()])
    if form in EITHER:
        good &= (np.minimum(b, c) >= 1) & (np.minimum(b, c) <= 12) & (np.maximum(b, c) <= 31)
        value = ((a * 100 + b) * 100 + c) * PACK + moment + SHIFT
    else:
        days, is_day = days_of(a, b, c)
        good &= is_day
        value = days * DAY + moment
    has_clock = pc.not_equal(part["H"], "").to_numpy(zero_copy_only=False)
    rows = np.zeros(len(found), bool)
    rows[np.flatnonzero(found)[good]] = True
    named = _named(form, has_clock[good], has_half[good], has_zone[good])
    return rows, value[good], cut[good], named


def _whole(column: pa.Array) -> IntArray:
    """Digits as numbers, 0 for none."""
    filled = pc.if_else(pc.equal(column, ""), "0", column)
    return np.asarray(filled.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _zone(column: pa.Array) -> tuple[IntArray, BoolArray]:
    """Seconds east of UTC, and where a zone is stated."""
    names = column.dictionary_encode()
    seconds = [_offset(name) for name in names.dictionary.to_pylist()]
    code = names.indices.to_numpy(zero_copy_only=False)
    stated = np.array([bool(name) for name in names.dictionary.to_pylist()], bool)
    return np.array(seconds, np.int64)[code], stated[code]


def _offset(name: str) -> int:
    if name[:1] not in ("+", "-"):
        return 0
    digits = name[1:].replace(":", "")
    east = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
    return east if name[0] == "+" else -east


def _named(
    form: str, clock: BoolArray, half: BoolArray, zone: BoolArray
) -> list[tuple[str, BoolArray]]:
    kind = clock * 1 + half * 2 + zone * 4
    words = ((1, " hh:mm"), (2, " AM/PM"), (4, " with a zone"))
    return [
        (form + "".join(word for bit, word in words if code & bit), kind == code)
        for code in np.unique(kind).tolist()
    ]


def unpack(value: IntArray, *, day_first: bool) -> tuple[IntArray, BoolArray]:
    """Seconds since 1970 of packed dates once the order is known, and where there is such a day."""
    date, moment = np.divmod(value, PACK)
    year, b, c = date // 10_000, date // 100 % 100, date % 100
    days, good = days_of(year, *((c, b) if day_first else (b, c)))
    return days * DAY + moment - SHIFT, good


def packed_pair(value: IntArray) -> tuple[IntArray, IntArray]:
    """The first and the second number of packed dates."""
    date = value // PACK
    return date // 100 % 100, date % 100


def digits_as_dates(value: IntArray, width: int) -> tuple[IntArray, BoolArray]:
    """Numbers such as 20201127 or 202011270749 as seconds since 1970.

    Args:
        value: whole numbers, int64.
        width: 4 (year), 6 (and month), 8 (and day), 12 (and minute) or 14 digits (and second).

    Returns:
        Seconds, int64, and where the number is a date of 1900 to 2100.
    """
    padded = value * 10 ** (14 - width) + {4: 101_000_000, 6: 1_000_000}.get(
        width, 0
    )  # the first of January, of a month
    date, clock = np.divmod(padded, 10**6)
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    days, good = days_of(date // 10_000, date // 100 % 100, date % 100)
    year = date // 10_000
    good &= (year >= 1900) & (year <= 2100) & (hour < 24) & (minute < 60) & (second < 60)
    return days * DAY + hour * 3600 + minute * 60 + second, good


def by_pattern(text: pa.Array, pattern: str) -> tuple[BoolArray, IntArray, FloatArray]:
    """Texts by a pattern of ``strptime``: which fit it, and of these the seconds and fractions."""
    codes = text.dictionary_encode()
    moments = [_strptime(name, pattern) for name in codes.dictionary.to_pylist()]
    code = codes.indices.to_numpy(zero_copy_only=False)
    found = np.array([moment is not None for moment in moments], bool)[code]
    value = np.array([moment or 0.0 for moment in moments])[code][found]
    return found, np.floor(value).astype(np.int64), value - np.floor(value)


def _strptime(text: str, pattern: str) -> float | None:
    try:
        moment = datetime.datetime.strptime(text, pattern)
    except ValueError:
        return None
    seconds = moment.replace(tzinfo=moment.tzinfo or datetime.timezone.utc).timestamp()
    return seconds if math.isfinite(seconds) else None
