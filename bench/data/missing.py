"""Words that stand for no value: one rule for ids and for titles."""

from __future__ import annotations

# what pandas reads as missing, and what str() and JSON writers make of a missing value
MISSING = frozenset(
    {
        *(
            "",
            "nan",
            "NaN",
            "NAN",
            "-nan",
            "-NaN",
            "null",
            "NULL",
            "Null",
            "None",
            "none",
            "NA",
            "N/A",
        ),
        *("n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "NaT", "1.#IND", "-1.#IND", "1.#QNAN"),
        "-1.#QNAN",
    }
)


def is_missing(text: str) -> bool:
    """Whether a text says that there is no value; white space around it does not count."""
    return text.strip() in MISSING
