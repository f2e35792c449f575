"""A raw column as what the suite works with: ids and titles as text, times told apart by whole seconds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.streams import Repairs
from bench.errors import DataError
from bench.types import FloatArray, IntArray

_WHOLE_AS_FLOAT = r"^(-?[0-9]+)\.0+$"


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


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece and without a dictionary."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_names(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Texts as they are, whole numbers in decimal, null where there is neither.

    Raises:
        DataError: the column holds bytes that are not UTF-8.
    """
    array = flat(column)
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


def as_ids(column: pa.ChunkedArray | pa.Array, repairs: Repairs) -> pa.Array:
    """Ids as strings: without white space around them, and ``7.0``, as float columns have it, as ``7``.

    Raises:
        DataError: the column holds bytes that are not UTF-8.
    """
    names = as_names(column)
    trimmed = pc.utf8_trim_whitespace(names)
    _count(names, trimmed, "ids had white space around them, which was dropped", repairs)
    whole = pc.match_substring_regex(trimmed, _WHOLE_AS_FLOAT)
    if not pc.any(whole).as_py():
        return trimmed
    mended = pc.replace_substring_regex(trimmed, _WHOLE_AS_FLOAT, r"\1")
    _count(trimmed, mended, "ids were written as a fraction and are read as whole numbers", repairs)
    return mended


def _count(before: pa.Array, after: pa.Array, what: str, repairs: Repairs) -> None:
    changed = pc.fill_null(pc.not_equal(before, after), False)
    if number := pc.sum(changed).as_py():
        repairs.count(what, number, repr(before[pc.index(changed, True).as_py()].as_py()))


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
