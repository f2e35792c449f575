"""Whether a target belongs to a series of the history: titles that share a stem. numpy and re only.

A title's stems are the part before its first colon, comma, semicolon, bracket or spaced dash, and the
text in each pair of brackets; in lower case, without punctuation, numbers and the words volume, vol, book,
part, no and series. So "Freed (Rosewood Bay) (Volume 3)" has the stems "freed" and "rosewood bay". What is
shorter than two letters is no stem. Axes: Q queries.
"""

from __future__ import annotations

import re

import numpy as np

from bench.types import BoolArray, Exam

END = re.compile(r"[:,;(\[]| [-–—] ")
BRACKETS = re.compile(r"[(\[]([^)\]]*)[)\]]")
NOISE = re.compile(r"\b(?:volumes?|vol|books?|parts?|no|series|\w*\d\w*)\b|[^\w\s]|_")


def stems(title: str) -> frozenset[str]:
    """The stems of a title, possibly none."""
    parts = [END.split(title, maxsplit=1)[0], *BRACKETS.findall(title)]
    plain = (" ".join(NOISE.sub(" ", part.lower()).split()) for part in parts)
    return frozenset(stem for stem in plain if len(stem) > 1)


def in_series(exam: Exam) -> BoolArray:
    """Whether the target's title shares a stem with the title of any history item, bool [Q]."""
    titles, history = exam.queries.catalogue.titles, exam.queries.history
    used = np.unique(np.concatenate([history.values, exam.target_Q])).tolist()
    of = {item: stems(titles[item]) for item in used}
    return np.array(
        [
            any(not of[item].isdisjoint(of[target]) for item in row.tolist())
            for row, target in zip(history, np.asarray(exam.target_Q).tolist(), strict=True)
        ],
        bool,
    )
