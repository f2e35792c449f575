"""Prompts of a language model with codes as tokens: a history of codes, and one item's title or codes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from bench.types import Catalogue, IntArray
from llmrec.prompt import DOMAINS, PREAMBLE, Prompter


class ItemCodePrompter(Prompter):
    """Prompts with the codes of each history item in place of its title.

    Args:
        catalogue: the items.
        tokenizer: of the language model.
        token_NL: tokens of each item's codes.
        **options: as of ``Prompter``.
    """

    def __init__(
        self, catalogue: Catalogue, tokenizer: Any, token_NL: IntArray, **options: Any
    ) -> None:
        super().__init__(catalogue, tokenizer, **options)
        self.token_NL = token_NL

    @cached_property
    def _middle(self) -> list[list[int]]:
        comma = self._joints[0]
        return [[*row, *comma] for row in self.token_NL.tolist()]

    @cached_property
    def _last(self) -> list[list[int]]:
        end = self._joints[1]
        return [[*row, *end] for row in self.token_NL.tolist()]


class AskForCodes(Prompter):
    """Prompts that show the title of one item, a history of length 1, and ask for its codes."""

    def _opening(self, extra_space: bool) -> tuple[str, str]:
        return request(self.catalogue.domain, "title", "codes"), ""


class AskForTitle(ItemCodePrompter):
    """Prompts that show the codes of one item, a history of length 1, and ask for its title."""

    def _opening(self, extra_space: bool) -> tuple[str, str]:
        return request(self.catalogue.domain, "codes", "title"), ""


def request(domain: str, given: str, wanted: str) -> str:
    """The text before one item's title or codes, in the layout of the prompts with a history.

    Args:
        domain: chooses the noun.
        given: what is shown, ``title`` or ``codes``.
        wanted: what is asked for.
    """
    singular = DOMAINS[domain][2]
    instruction = f"Given the {given} of this {singular}, please write its {wanted}."
    shown = f"The {given} of this {singular}:"
    return f"{PREAMBLE}\n\n### Instruction:\n{instruction}\n\n### Input:\n{shown}"


def requests(domain: str) -> list[str]:
    """What these prompts say beside titles and codes."""
    return [request(domain, "title", "codes"), request(domain, "codes", "title")]
