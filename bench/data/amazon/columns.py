"""A raw column as what the suite works with: ids and titles as text, times as whole seconds."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.json_records import BIGGEST, whole_number
from bench.data.amazon.streams import Repairs
from bench.errors import DataError
from bench.types import FloatArray, IntArray

MILLISECONDS = 10**11  # as seconds this is the year 5138
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second, by Arrow's name of the unit


def is_readable(kind: pa.DataType, *, as_time: bool) -> bool:
    """Whether a column of an Arrow type can hold ids or titles, or times."""
    is_no_time = (pa.types.is_boolean, pa.types.is_time, pa.types.is_duration, pa.types.is_interval)
    if as_time and any(test(kind) for test in is_no_time):
        return False
    try:
        pa.array([], kind).cast(pa.string())
    except pa.ArrowNotImplementedError:  # lists, structs and maps
        return False
    return True


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_names(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Ids as strings: text as it is, whole numbers in decimal, null where there is neither.

    Raises:
        DataError: the column holds bytes that are not UTF-8.
    """
    array = _flat(column)
    if pa.types.is_floating(array.type):
        whole = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        good = np.isfinite(whole) & (np.floor(whole) == whole) & (np.abs(whole) < 2**53)
        array = pa.array(np.where(good, whole, 0).astype(np.int64), mask=~good)
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"a column of type {array.type} is no text ({error}); save UTF-8"
        ) from error


def as_times(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, FloatArray]:
    """Times in their own unit (dates in seconds), cut down to whole numbers.

    Returns:
        The whole numbers, int64, null where unreadable; and what was cut off each, float64, at least 0
        and below 1.

    Raises:
        DataError: the column holds bytes that are not UTF-8.
    """
    array = _flat(column)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s"), safe=False)
    if pa.types.is_timestamp(array.type):
        ticks, missing = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(), array.is_null()
        second, rest = np.divmod(ticks, TICKS[array.type.unit])
        mask = missing.to_numpy(zero_copy_only=False)
        return pa.array(second, mask=mask), rest / TICKS[array.type.unit]
    if pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        value = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        good = np.isfinite(value) & (np.abs(value) < BIGGEST)
        value = np.where(good, value, 0)
        return pa.array(np.floor(value).astype(np.int64), mask=~good), value - np.floor(value)
    try:
        return array.cast(pa.int64()), np.zeros(len(array))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        moments = [_moment(text) for text in as_names(array).to_pylist()]
    whole = [None if moment is None else math.floor(moment) for moment in moments]
    cut = [0 if moment is None else moment - math.floor(moment) for moment in moments]
    return pa.array(whole, pa.int64()), np.array(cut, np.float64)


def _moment(value: str | None) -> float | None:
    """Seconds or milliseconds in a number or an ISO date (taken as UTC) written as text."""
    text = (value or "").strip()
    if (whole := whole_number(text)) is not None:
        return whole
    try:
        number = float(text)
        return number if abs(number) < BIGGEST else None
    except ValueError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    zone = moment.tzinfo or datetime.timezone.utc
    return moment.replace(tzinfo=zone).timestamp()


def in_seconds(time_E: IntArray) -> IntArray:
    """Times with milliseconds, told by size, made seconds."""
    return np.where(time_E >= MILLISECONDS, time_E // 1000, time_E)


def check_cut(where: str, second_E: IntArray, cut_E: FloatArray, repairs: Repairs) -> None:
    """Refuse times that are told apart by fractions of a second, as normalised ones are; count a few.

    Busy sites have several events in some seconds; whole seconds are what the published windows go by, so
    a log may lose their order.

    Args:
        where: the file, for the message.
        second_E: whole seconds.
        cut_E: the fraction of a second that was cut off each.
        repairs: takes the count.

    Raises:
        DataError: more than half of the distinct times would become equal to another.
    """
    if not cut_E.any():
        return
    order = np.lexsort((cut_E, second_E))
    second, cut = second_E[order], cut_E[order]
    apart = (np.diff(second) > 0) | (np.diff(cut) > 0)
    merged = apart & (np.diff(second) == 0)
    if merged.sum() > apart.sum() / 2:
        first = int(np.argmax(merged))
        one, other = (float(second[row] + cut[row]) for row in (first, first + 1))
        raise DataError(
            f"{where}: times {one} and {other} lie within one second, and their order would be lost; "
            "times must be whole seconds: round them, or number the events in order"
        )
    repairs.count("times had a fraction of a second, which was cut off", np.count_nonzero(cut_E))
    repairs.count("times of them are no longer after the one before", int(merged.sum()))
