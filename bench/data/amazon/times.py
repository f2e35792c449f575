"""The times of one column: read block by block, understood as a whole, and made seconds since 1970.

A number may count seconds, milliseconds, microseconds or nanoseconds, or spell a date (20201127); a text
may be such a number or a date in one of many forms. What it is, only the whole column can tell, and a
column has one form: two of them are refused, since a guess would move events in time without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.columns import as_names, flat
from bench.data.amazon.dates import (
    EITHER,
    FORMS,
    by_pattern,
    digits_as_dates,
    in_form,
    packed_pair,
    unpack,
)
from bench.errors import DataError
from bench.types import BoolArray, FloatArray, IntArray

Unit = Literal["auto", "s", "ms", "us", "ns"]
UNITS = ("auto", "s", "ms", "us", "ns")
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second, by Arrow's name of the unit
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
LIMITS = (10**11, 10**14, 10**17)  # as seconds the year 5138; the next unit begins in 1973 there
DIGITS = {4: "YYYY", 6: "YYYYMM", 8: "YYYYMMDD", 12: "YYYYMMDDhhmm", 14: "YYYYMMDDhhmmss"}
SURE = 0.99  # share of a column's numbers that must be dates for it to be one of dates
NUMBER, TYPED = "a number", "a timestamp"
YEAR = 366 * 86400  # seconds
_WHOLE = "^-?(?:[0-9]{1,18}|[1-8][0-9]{18})$"  # what int64 holds for certain
_REAL = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$"


def nth_row(row: int) -> str:
    """The place of a row, counted from 0, where no lines are known."""
    return f"row {row + 1}"


@dataclass(frozen=True, eq=False)
class Block:
    """Times of some rows.

    Attributes:
        value: in their own form, int64; seconds where it is a date.
        cut: the fraction cut off each, float64.
        form: number of the form, -1 where no time can be read.
    """

    value: IntArray
    cut: FloatArray
    form: IntArray


class Times:
    """Gathers the times of one column.

    Args:
        unit: of numbers; ``auto`` tells it by their size.
        pattern: of ``strptime``, for dates in any other form.
        place: the place of a row in the file, for messages.
    """

    def __init__(
        self,
        unit: Unit = "auto",
        pattern: str | None = None,
        place: Callable[[int], str] = nth_row,
    ) -> None:
        self.unit, self.pattern, self.place = unit, pattern, place
        self.first: dict[str, tuple[int, str]] = {}  # of each form: a row and what it says
        self.values: list[IntArray] = [np.empty(0, np.int64)]
        self.cuts: list[FloatArray] = [np.empty(0)]
        self.said: list[str] = []

    def read(self, column: pa.ChunkedArray | pa.Array, start: int = 0) -> Block:
        """The times of a block whose first row is ``start``.

        Raises:
            DataError: the column holds bytes that are not UTF-8.
        """
        array = flat(column)
        if pa.types.is_date(array.type):
            array = array.cast(pa.timestamp("s"), safe=False)
        if pa.types.is_timestamp(array.type):
            block, forms = _typed(array), [TYPED]
        elif pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
            block, forms = _real(array.cast(pa.float64())), [NUMBER]
        else:
            try:
                block, forms = _integers(array.cast(pa.int64())), [NUMBER]
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                block, forms = self._texts(as_names(array))
        return self._noted(block, forms, array, start)

    def _noted(self, block: Block, forms: list[str], array: pa.Array, start: int) -> Block:
        for number, form in enumerate(forms):
            if form not in self.first and (rows := np.flatnonzero(block.form == number)).size:
                row = int(rows[0])
                self.first[form] = (start + row, str(array[row].as_py()))
        return block

    def _texts(self, names: pa.Array) -> tuple[Block, list[str]]:
        text = pc.utf8_trim_whitespace(pc.fill_null(names, ""))
        n, forms = len(text), [NUMBER]
        block = Block(np.zeros(n, np.int64), np.zeros(n), np.full(n, -1))
        if self.pattern is not None:
            fits, value, cut = by_pattern(text, self.pattern)
            block.value[fits], block.cut[fits], block.form[fits] = value, cut, 0
            return block, [self.pattern]
        for pattern, read in ((_WHOLE, _integers), (_REAL, _reals)):
            fits = pc.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False)
            at = np.flatnonzero(fits & (block.form < 0))
            some = read(text.take(pa.array(at)))
            block.value[at], block.cut[at], block.form[at] = some.value, some.cut, some.form
        for form in FORMS:
            open_rows = np.flatnonzero(block.form < 0)
            if not len(open_rows):
                break
            found, value, cut, named = in_form(text.take(pa.array(open_rows)), form)
            at = open_rows[found]
            block.value[at], block.cut[at] = value, cut
            for name, of_it in named:
                block.form[at[of_it]] = len(forms)
                forms.append(name)
        return block, forms

    def append(self, block: Block, keep: BoolArray) -> None:
        """Take the kept rows of a block."""
        self.values.append(block.value[keep])
        cut = block.cut[keep]
        # no memory where there is nothing to hold
        self.cuts.append(cut if cut.any() else np.broadcast_to(0.0, len(cut)))

    def finish(self, row_of: Callable[[int], int]) -> tuple[IntArray, FloatArray, BoolArray]:
        """Everything gathered.

        Args:
            row_of: the row of the file behind each time that was kept.

        Returns:
            Seconds since 1970, int64; the fraction cut off each; and which of them are times after all.

        Raises:
            DataError: two forms or two units in one column, or an order of day and month that nothing
                tells.
        """
        self._one_form()
        value, cut = np.concatenate(self.values), np.concatenate(self.cuts)
        self.values, self.cuts = [], []
        form = next(iter(self.first), NUMBER)
        if form.startswith(EITHER):
            second, good = unpack(value, day_first=self._day_first(form, value, row_of))
            return second, cut, good
        if form != NUMBER:
            if form not in (TYPED, self.pattern):
                self.said.append(f"times are dates written as {form}")
            return value, cut, np.ones(len(value), bool)
        return self._numbers(value, cut, row_of)

    def _one_form(self) -> None:
        if len(self.first) > 1:
            (one, (row, text)), (other, (second, said)) = list(self.first.items())[:2]
            raise DataError(
                f"times are written in two ways: {self.place(row)} has {text!r} ({one}), "
                f"{self.place(second)} has {said!r} ({other}); write all of them in one"
            )

    def _day_first(self, form: str, value: IntArray, row_of: Callable[[int], int]) -> bool:
        first, second = packed_pair(value)
        day_first, month_first = first > 12, second > 12
        if day_first.any() == month_first.any():
            if not day_first.any():
                raise DataError(
                    f"dates such as {self.first[form][1]!r} ({self.place(self.first[form][0])}) do not "
                    "tell day from month; state it: --time-format '%d/%m/%Y', with what else they hold"
                )
            rows = [int(np.argmax(flags)) for flags in (day_first, month_first)]
            raise DataError(
                f"dates are written in two ways: {self.place(row_of(rows[0]))} has the day first, "
                f"{self.place(row_of(rows[1]))} the month; write all of them in one"
            )
        words = ("DD", "MM") if day_first.any() else ("MM", "DD")
        for word in words:
            form = form.replace("?", word, 1)
        self.said.append(f"times are dates written as {form}")
        return bool(day_first.any())

    def _numbers(
        self, value: IntArray, cut: FloatArray, row_of: Callable[[int], int]
    ) -> tuple[IntArray, FloatArray, BoolArray]:
        every = np.ones(len(value), bool)
        if self.unit == "auto":
            as_dates = self._digits(value)
            if as_dates is not None:
                return as_dates[0], np.broadcast_to(0.0, len(value)), as_dates[1]
        unit = self._unit(value, row_of)
        if unit == "s":
            if self.unit == "auto" and len(value) and 0 < value.max() < YEAR:
                self.said.append(
                    "all times lie in 1970: if they are no seconds, state --time-unit or --time-format"
                )
            return value, cut, every
        if self.unit == "auto":
            self.said.append(f"times are {WORDS[unit]} since 1970")
        # below a millisecond a fraction says no more than the milliseconds that go as well
        return value // TICKS[unit], np.broadcast_to(0.0, len(value)), every

    def _digits(self, value: IntArray) -> tuple[IntArray, BoolArray] | None:
        for width, form in DIGITS.items():
            low, high = 1900 * 10 ** (width - 4), 2101 * 10 ** (width - 4)
            inside = (value >= low) & (value < high)
            if not inside.any():
                continue
            second, good = digits_as_dates(np.where(inside, value, low), width)
            good &= inside
            share = good.mean()
            if share >= SURE:
                self.said.append(f"times are dates written as {form}")
                return second, good
            if share > 1 / 2:
                raise DataError(
                    f"{share:.0%} of the times are dates such as {value[int(np.argmax(good))]} ({form}) "
                    "and the others are none; repair them, or state --time-unit s"
                )
        return None

    def _unit(self, value: IntArray, row_of: Callable[[int], int]) -> str:
        largest = int(value.max(initial=0))
        if self.unit == "s" and largest >= LIMITS[0]:
            raise DataError(
                f"time {largest} is no number of seconds; these are milliseconds, as in the 2023 "
                "release: state the release or the unit"
            )
        if self.unit != "auto":
            return self.unit
        size = np.searchsorted(np.array(LIMITS), value, side="right")
        kinds, first = np.unique(size[value != 0], return_index=True)
        names = list(TICKS)
        if len(kinds) > 1:
            at = np.flatnonzero(value)[first]
            (one, other), (row, second) = value[at[:2]], (row_of(int(each)) for each in at[:2])
            raise DataError(
                f"times are in two units: {self.place(row)} has {one} ({WORDS[names[kinds[0]]]}?), "
                f"{self.place(second)} has {other} ({WORDS[names[kinds[1]]]}?); write all of them in "
                "one, or state it with --time-unit"
            )
        return names[kinds[0]] if len(kinds) else "s"


def _integers(column: pa.Array) -> Block:
    whole = column.cast(pa.int64())
    missing = whole.is_null().to_numpy(zero_copy_only=False)
    value = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False)
    return Block(value, np.zeros(len(value)), np.where(missing, -1, 0))


def _reals(text: pa.Array) -> Block:
    return _real(pc.utf8_ltrim(text, "+").cast(pa.float64()))


def _real(column: pa.Array) -> Block:
    value = column.to_numpy(zero_copy_only=False)
    good = np.isfinite(value) & (np.abs(value) < 2**62)
    value = np.where(good, value, 0)
    whole = np.floor(value)
    return Block(whole.astype(np.int64), value - whole, np.where(good, 0, -1))


def _typed(column: pa.Array) -> Block:
    ticks = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    second, rest = np.divmod(ticks, TICKS[column.type.unit])
    return Block(second, rest / TICKS[column.type.unit], np.where(missing, -1, 0))
