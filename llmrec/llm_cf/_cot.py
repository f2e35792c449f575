"""The chain-of-thought data set of LLM-CF: its rows, the prompt, and the score of a text.

A tenth of the training rows is drawn; each gives one entry with its true target and one with an item the
user did not choose, because the data has no negatives. The outcome is told, so the reasoning is post hoc.
The wording is ours. numpy only.

Axes: M entries, S sampled rows, N items, T texts, D width of text vectors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.types import Catalogue, IntArray, Windows
from llmrec.prompt import DOMAINS

PROMPT_VERSION = "1"
SHORTEST = 10  # characters a text must have
LEAKED = re.compile(
    r"<\|?[a-z_]+\|?>|\[/?INST\]|<</?SYS>>|###\s*(Instruction|Input|Response)|^(system|user|assistant):",
    re.IGNORECASE | re.MULTILINE,
)
SYSTEM = (
    "You study how people choose. Think aloud in plain sentences, one step after another, and take no "
    "side. First say who this person seems to be, judging by the history. Then say what the item in "
    "question is and what kind of things it belongs with. Then weigh how well the two go together. Last, "
    "consider whether the person may want something different from before."
)
ASPECTS = (
    "What this person likes, as the history shows.",
    "What the item in question is like and what it belongs with.",
    "How well the item goes together with this person's taste.",
    "Whether this person wants variety or something new.",
)
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Entries:
    """What there is to explain: a row, an item and whether the user went on to it.

    Attributes:
        row_M: training row, int64; each occurs twice.
        item_M: the row's target, or an item outside its window, int64.
        label_M: 1 chosen, 0 not chosen, int64.
    """

    row_M: IntArray
    item_M: IntArray
    label_M: IntArray

    def __len__(self) -> int:
        return len(self.row_M)

    @property
    def ids(self) -> list[str]:
        """A name for each entry that does not depend on how many there are."""
        return [f"{row}:{label}" for row, label in zip(self.row_M, self.label_M, strict=True)]

    def take(self, places: Sequence[int]) -> Entries:
        """The entries at these places."""
        at = np.asarray(places, np.int64)
        return Entries(self.row_M[at], self.item_M[at], self.label_M[at])


def sample_entries(
    train: Windows,
    *,
    share: float,
    most: int | None,
    negatives: Literal["random", "popularity"],
    seed: int,
) -> Entries:
    """Draw rows without replacement, and for each an item that was not chosen.

    A larger share or limit keeps the smaller draw as its beginning, so a cache of texts stays of use.

    Args:
        train: training rows; those without a history are not drawn.
        share: of the rows.
        most: at most this many rows, None for no limit.
        negatives: uniform over the items of the training rows, or by how often they are a target.
        seed: of the draw.
    """
    usable = np.flatnonzero(train.history.lengths > 0)
    order = np.random.default_rng(seed).permutation(usable)
    rows = order[: max(1, round(share * len(train)))][:most]
    weight_N = train.target_count if negatives == "popularity" else train.seen
    pool = np.flatnonzero(weight_N)
    chance_P = weight_N[pool] / weight_N[pool].sum()
    other = [_not_chosen(train, int(row), pool, chance_P, seed) for row in rows]
    item_S2 = np.stack([train.target_W[rows].astype(np.int64), np.array(other, np.int64)], 1)
    label_S2 = np.tile([1, 0], (len(rows), 1))
    has_S2 = item_S2 > 0
    return Entries(np.repeat(rows, 2)[has_S2.ravel()], item_S2[has_S2], label_S2[has_S2])


def _not_chosen(train: Windows, row: int, pool: IntArray, chance_P: Any, seed: int) -> int:
    """An item outside the row's window, 0 if there is none."""
    allowed = ~np.isin(pool, train.sequences[row])
    if not chance_P[allowed].sum():
        return 0
    own = chance_P[allowed] / chance_P[allowed].sum()
    return int(np.random.default_rng([seed, row]).choice(pool[allowed], p=own))


def name_of(catalogue: Catalogue, item: int) -> str:
    """An item as a prompt names it.

    Args:
        catalogue: the items.
        item: its id.
    """
    return catalogue.titles[item] or f"Item {item}"


def question(train: Windows, row: int, item: int, label: int, dropped: int = 0) -> str:
    """The user's part of the prompt.

    Args:
        train: the rows.
        row: whose history.
        item: the item in question.
        label: whether it was chosen; told, not asked.
        dropped: how many of the oldest history items to leave out.
    """
    catalogue = train.catalogue
    plural, verb, singular = DOMAINS.get(catalogue.domain, DOMAINS["item"])
    past = [f"- {name_of(catalogue, int(i))}" for i in train.history[row][dropped:]]
    return "\n".join(
        [
            f"The {singular} in question: {name_of(catalogue, item)}",
            f"The {plural} this person has {verb} before, oldest first:",
            *past,
            f"What happened: {outcome(catalogue, item, label)}",
            "Start your reasoning right away.",
        ]
    )


def outcome(catalogue: Catalogue, item: int, label: int) -> str:
    """A sentence that says whether the item was chosen.

    Args:
        catalogue: the items.
        item: its id.
        label: 1 if the user chose it, else 0.
    """
    verb = "chose" if label else "did not choose"
    return f"The person {verb} {name_of(catalogue, item)}."


def template(train: Windows, row: int, item: int, label: int) -> str:
    """A rationale made of fixed sentences with titles, where no language model writes one.

    Args:
        train: training rows.
        row: number of the row.
        item: the item in question.
        label: 1 if the user chose it, else 0.
    """
    catalogue = train.catalogue
    plural, verb, singular = DOMAINS.get(catalogue.domain, DOMAINS["item"])
    past = [name_of(catalogue, int(i)) for i in train.history[row]]
    title = name_of(catalogue, item)
    fit = "goes well with" if label else "does not go well with"
    return (
        f"This person has {verb} {'; '.join(past)}. The {singular} in question is {title}. "
        f"It {fit} the {plural} of the past, above all with {past[-1]}. "
        f"{outcome(catalogue, item, label)}"
    )


def prompt_hash(text: str) -> str:
    """SHA-256 of a prompt, its first 16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def has_sentiment() -> bool:
    """Whether TextBlob is installed; without it coherence is left out of the score."""
    return importlib.util.find_spec("textblob") is not None


def worth(
    texts: Sequence[str], prompts: Sequence[str], outcomes: Sequence[str], embed: Embed
) -> npt.NDArray[np.float64]:
    """How good each text is, the mean of its parts; 0 for one that is too short or leaks prompt tags.

    Parts: completeness (mean cosine to four aspects), relevance (cosine to the prompt), consistency (cosine
    to the outcome sentence) and, where TextBlob is installed, coherence.

    Args:
        texts: candidates.
        prompts: what each was written for.
        outcomes: the sentence that says what happened.
        embed: unit vectors [T, D].

    Returns:
        float64 [T].
    """
    if not texts:
        return np.zeros(0)
    text_TD, prompt_TD = embed(texts), embed(prompts)
    parts = [
        (text_TD @ embed(ASPECTS).T).mean(1),
        (text_TD * prompt_TD).sum(1),
        (text_TD * embed(outcomes)).sum(1),
    ]
    if has_sentiment():
        parts.append(np.array([coherence(text) for text in texts]))
    return np.where([usable(text) for text in texts], np.mean(parts, 0), 0.0)


def usable(text: str) -> bool:
    """Long enough, and no tags of a prompt in it."""
    return len(text.strip()) >= SHORTEST and not LEAKED.search(text)


def coherence(text: str) -> float:
    """Half 1 - mean change of sentiment between sentences (at most 1), half 1 - share of repeated words."""
    from textblob import TextBlob

    sentences = TextBlob(text).sentences
    mood = np.array([sentence.sentiment.polarity for sentence in sentences])
    change = float(np.abs(np.diff(mood)).mean()) if len(mood) > 1 else 0.0
    words = re.findall(r"\w+", text.lower())
    repeated = 1 - len(set(words)) / len(words) if words else 1.0
    return ((1 - min(change, 1.0)) + (1 - repeated)) / 2
