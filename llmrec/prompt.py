"""Histories as prompts, built from tokenised pieces.

Every piece is tokenised once and pieces are only ever concatenated, so nothing is re-tokenised across
a boundary and slots for collaborative vectors can be placed exactly. The pieces are cut in front of
single spaces, where the usual byte-level tokenizers never merge: for those the result equals the tokens
of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.errors import ConfigError, DataError
from bench.types import Catalogue, IntArray
from llmrec.trie import text_tokens

USER_SLOT = -1
PREAMBLE = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request. "
)
RESPONSE = "### Response:\n"
# plural, verb, singular: Table 1 of the paper; movie and item are ours, in the same words
DOMAINS = {
    "toy": ("toys", "played", "toy"),
    "book": ("books", "read", "book"),
    "clothing": ("clothing", "worn", "clothing"),
    "office": ("office products", "used", "office product"),
    "movie": ("movies", "watched", "movie"),
    "item": ("items", "liked", "item"),
}


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt.

    Attributes:
        ids: token ids, int32 [P]; a slot carries the padding token, which is never looked up.
        slots: int32 [P]; 0 an ordinary token, j > 0 the vector of item j, -1 the user vector.
        dropped: how many of the oldest history items did not fit.
    """

    ids: IntArray
    slots: IntArray
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a prompt is laid out.

    Attributes:
        item_slots: a slot behind each history title (LLaRA, A-LLMRec).
        user_slot: a slot as the first token of the input section (A-LLMRec).
        infer_extra_space: at inference the preamble ends in two spaces, as in the released code.
        fit_history: drop the oldest titles of a prompt that is too long; the released code does not.
    """

    item_slots: bool = False
    user_slot: bool = False
    infer_extra_space: bool = False
    fit_history: bool = True


class TooLong(ValueError):
    """A prompt that does not fit even with a single history item."""


def bos_of(tokenizer: Any) -> list[int]:
    """The tokens this tokenizer puts in front of a text: one, or none (Qwen, GPT-2, SmolLM)."""
    ids, bos = tokenizer("a")["input_ids"], tokenizer.bos_token_id
    return [bos] if bos is not None and ids[0] == bos else []


class Prompter:
    """Makes prompts for one catalogue and one tokenizer; titles are tokenised once.

    Args:
        catalogue: the items; its domain chooses the nouns and the verb.
        tokenizer: called as ``tokenizer(text, add_special_tokens=False)["input_ids"]``.
        cutoff: longest prompt plus answer, in tokens.
        answer_budget: tokens kept free for the answer where its length is not known.
        style: slots and the switches of the released code.

    Raises:
        ConfigError: the domain has no words.
        DataError: a title would break the prompt.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tokenizer: Any,
        *,
        cutoff: int = 512,
        answer_budget: int = 128,
        style: Style | None = None,
    ) -> None:
        if catalogue.domain not in DOMAINS:
            allowed = ", ".join(DOMAINS)
            raise ConfigError(f"no prompt for the domain {catalogue.domain!r}; known: {allowed}")
        check_titles(catalogue.titles)
        self.catalogue, self.tokenizer = catalogue, tokenizer
        self.cutoff, self.answer_budget = cutoff, answer_budget
        self.style = style or Style()
        # a slot needs some token id; its embedding is replaced, so any will do
        pad = tokenizer.pad_token_id
        self._carrier = int(tokenizer.eos_token_id if pad is None else pad)
        self._head = {extra: self._make_head(extra) for extra in (False, True)}

    def _make_head(self, extra_space: bool) -> tuple[list[int], list[int]]:
        """Ids and slots of all that comes before the first title."""
        before, after = self._opening(extra_space)
        bos = bos_of(self.tokenizer)
        if not self.style.user_slot:
            ids = bos + text_tokens(self.tokenizer, [before + after])[0]
            return ids, [0] * len(ids)
        first, second = text_tokens(self.tokenizer, [before, " stands for this user. " + after])
        slots = [0] * (len(bos) + len(first)) + [USER_SLOT] + [0] * len(second)
        return [*bos, *first, self._carrier, *second], slots

    def _opening(self, extra_space: bool) -> tuple[str, str]:
        """All text before the first title, in two parts: a user slot would stand between them."""
        return head_text(self.catalogue.domain, extra_space=extra_space)

    @cached_property
    def shared(self) -> int:
        """How many leading tokens every training prompt has in common."""
        slots = self._head[False][1]
        return slots.index(USER_SLOT) if USER_SLOT in slots else len(slots)

    @cached_property
    def _middle(self) -> list[list[int]]:
        """Tokens of each title where another one follows, by item id."""
        end = "" if self.style.item_slots else ","
        return self._pieces([f' "{title}"{end}' for title in self.catalogue.titles])

    @cached_property
    def _last(self) -> list[list[int]]:
        """Tokens of each title at the end of the history, with all that follows if there is no slot."""
        if self.style.item_slots:
            return self._middle
        return self._pieces([f' "{title}"{TAIL}' for title in self.catalogue.titles])

    @cached_property
    def _joints(self) -> tuple[list[int], list[int]]:
        """Tokens that follow a slot: the comma, and the end of the prompt."""
        comma, end = self._pieces([",", TAIL])
        return comma, end

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        # behind a colon, as in the prompt: SentencePiece marks the start of a text with a space
        anchor = text_tokens(self.tokenizer, [":"])[0]
        full = text_tokens(self.tokenizer, [":" + text for text in texts])
        if all(ids[: len(anchor)] == anchor for ids in full):
            return [ids[len(anchor) :] for ids in full]
        return text_tokens(self.tokenizer, texts)

    def prompt(
        self, history: Sequence[int], *, training: bool = False, answer: int | None = None
    ) -> Prompt:
        """The prompt for a history, oldest items dropped until it fits.

        Args:
            history: item ids, oldest first.
            training: whether this is a training row (matters only with ``infer_extra_space``).
            answer: tokens of the answer if known, else the answer budget is kept free.

        Raises:
            DataError: an id outside the catalogue, or an empty history.
            TooLong: it does not fit with the beginning of one history item's title.
        """
        kept = [int(item) for item in history]
        self._check(kept)
        room = self.cutoff - (self.answer_budget if answer is None else answer)
        head_ids, head_slots = self._head[self.style.infer_extra_space and not training]
        sizes = [len(self._piece(item, last=False)[0]) for item in kept[:-1]]
        total = len(head_ids) + sum(sizes) + len(self._piece(kept[-1], last=True)[0])
        dropped = 0
        while self.style.fit_history and total > room:
            if dropped == len(sizes):
                return self._shortened(kept[-1], total - room, (head_ids, head_slots), dropped)
            total -= sizes[dropped]
            dropped += 1
        ids, slots = list(head_ids), list(head_slots)
        for place, item in enumerate(kept[dropped:], dropped + 1):
            piece_ids, piece_slots = self._piece(item, last=place == len(kept))
            ids += piece_ids
            slots += piece_slots
        return Prompt(np.array(ids, np.int32), np.array(slots, np.int32), dropped)

    def _shortened(
        self, item: int, excess: int, head: tuple[list[int], list[int]], dropped: int
    ) -> Prompt:
        """A prompt with a single title that is longer than the room: its end is left out."""
        ids, slots = self._piece(item, last=True)
        behind = [self._carrier, *self._joints[1]] if self.style.item_slots else []
        closing = self._pieces(['"' if self.style.item_slots else f'"{TAIL}'])[0]
        start = len(ids) - len(behind) - len(closing)  # of what closes the title
        stop = start - excess
        if stop < 1:
            total = len(head[0]) + len(ids)
            raise TooLong(f"a prompt of {total} tokens with one title; {total - excess} are free")
        ids = [*head[0], *ids[:stop], *closing, *behind]
        slots = [*head[1], *slots[:stop], *slots[start:]]
        return Prompt(np.array(ids, np.int32), np.array(slots, np.int32), dropped)

    def _piece(self, item: int, *, last: bool) -> tuple[list[int], list[int]]:
        """Ids and slots of one history item with what separates it from the next."""
        title = (self._last if last else self._middle)[item]
        if not self.style.item_slots:
            return title, [0] * len(title)
        rest = self._joints[last]
        return [*title, self._carrier, *rest], [0] * len(title) + [item] + [0] * len(rest)

    def _check(self, history: Sequence[int]) -> None:
        if not history:
            raise DataError("an empty history: a language model needs at least one item to go on")
        wrong = [item for item in history if not 1 <= item <= self.catalogue.n_items]
        if wrong:
            n = self.catalogue.n_items
            raise DataError(f"item {wrong[0]} has no title; the catalogue holds 1..{n}")


TAIL = f"\n \n\n{RESPONSE}"


def head_text(domain: str, *, extra_space: bool = False) -> tuple[str, str]:
    """The prompt's text before the first title, in two parts: a user slot would stand between them.

    Args:
        domain: chooses the nouns and the verb.
        extra_space: whether the preamble ends in two spaces, as the released code has it at inference.
    """
    plural, verb, singular = DOMAINS[domain]
    instruction = (
        f"Given a list of {plural} the user has {verb} before, please recommend a new {singular} "
        "that the user likes to the user."
    )
    preamble = PREAMBLE + (" " if extra_space else "")
    before = f"{preamble}\n\n### Instruction:\n{instruction}\n\n### Input:\n"
    return before, f"The user has {verb} the following {plural} before:"


def prompt_text(titles: Sequence[str], domain: str) -> str:
    """The whole prompt as text, for people to read and for tests.

    Args:
        titles: of the history, oldest first.
        domain: chooses the nouns and the verb.
    """
    listed = ", ".join(f'"{title}"' for title in titles)
    return "".join(head_text(domain)) + " " + listed + TAIL


def all_texts(catalogue: Catalogue) -> list[str]:
    """Every piece of text that prompts and answers of this catalogue are made of."""
    pieces = ["".join(head_text(catalogue.domain, extra_space=extra)) for extra in (False, True)]
    for title in catalogue.titles:
        pieces += [f'"{title}"', f': "{title}",', f': "{title}"{TAIL}', f': "{title}"']
    return [*pieces, head_text(catalogue.domain)[0], " stands for this user. The", ":" + TAIL, ":,"]


def check_titles(titles: Sequence[str]) -> None:
    """Refuse titles that would break out of their place in the prompt.

    Raises:
        DataError: a title holds a line break or the response marker; names the item.
    """
    for item, title in enumerate(titles):
        if "\n" in title or "\r" in title or RESPONSE.strip() in title:
            raise DataError(
                f"the title of item {item} ({title[:40]!r}) holds a line break or the response "
                "marker; replace it with a space in the catalogue"
            )
