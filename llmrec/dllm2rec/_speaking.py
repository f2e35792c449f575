"""Answers of a fitted LLM method to histories: a freely generated title, or its constrained list.

Both go through the method's own ``recommend``, so that it makes its prompts and soft tokens itself.

Axes: Q queries, L tokens, K items.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
from transformers import GenerationConfig

from bench import ranks
from bench.types import Queries, Ranking
from llmrec.decode.base import Decoded, Decoder, blank
from llmrec.decode.generate import NO_SAMPLING, own_generation, run
from llmrec.generative._ranking import prompts_for

Line = dict[str, Any]
# logp is unknown: transformers scores a beam divided by its length, and a greedy answer not at all
SILENT: Line = {"text": "", "ids": [], "logp": None, "tokens": 0}


class Listener(Decoder):
    """A decoder that lets the model generate freely and keeps the texts.

    Args:
        beams: width of the search, of which the best is kept; 1 is greedy.
        max_new_tokens: longest answer.

    Attributes:
        heard: per prompt of this rank ``text``, ``ids``, ``logp``, ``tokens``, as ``written`` returns them.
    """

    reads_base: ClassVar[bool] = True  # who listens compares with what the bare model embeds

    def __init__(self, *, beams: int, max_new_tokens: int) -> None:
        super().__init__()
        self.beams, self.max_new_tokens = beams, max_new_tokens
        self.heard: list[Line] = []

    def __call__(
        self, lm: Any, prompts: Sequence[Any], trie: Any, k: int, *, progress: Any = None
    ) -> Decoded:
        """Fill ``heard``; the lists returned are empty."""
        config = GenerationConfig(
            **NO_SAMPLING,
            num_beams=self.beams,
            num_return_sequences=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=trie.eos,
            pad_token_id=trie.eos,
            early_stopping=False,
            return_dict_in_generate=True,
        )
        with own_generation(lm):
            token_QL, _ = run(lm, prompts, config)
        self.heard = [
            _heard(lm, len(prompt), token_L, trie.eos)
            for prompt, token_L in zip(prompts, token_QL, strict=True)
        ]
        leaf_QK, score_QK = blank(len(prompts), k)
        return Decoded(leaf_QK, score_QK, None, np.zeros(len(prompts), bool))


def _heard(lm: Any, asked: int, token_L: Any, eos: int) -> Line:
    ended = np.flatnonzero(token_L == eos)
    said = token_L[: ended[0]] if len(ended) else token_L
    text = lm.tokenizer.decode(
        said.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    bare = bare_tokens(lm.tokenizer, said.tolist())
    return {**SILENT, "text": first_line(text), "ids": bare, "tokens": asked + len(said)}


def written(speaker: Any, queries: Queries, *, beams: int, max_new_tokens: int) -> list[Line]:
    """The first title the model writes for each query when nothing constrains it.

    A query without a history, or too long for the model, has an empty text.

    Args:
        speaker: a fitted method of family llm.
        queries: histories.
        beams: width of the search; 1 is greedy.
        max_new_tokens: longest answer.

    Returns:
        Per query ``text``, its own tokens ``ids``, ``logp`` (None) and ``tokens`` (how many were read and
        written).
    """
    listener = Listener(beams=beams, max_new_tokens=max_new_tokens)
    ranking, some = _ask(speaker, queries, 1, listener)
    lines: list[Line] = [dict(SILENT) for _ in range(len(queries))]
    if ranking is None:
        return lines
    assert ranking.failed_Q is not None, "a generative method says which queries it could not ask"
    asked = some[~np.asarray(ranking.failed_Q)]
    for query, line in zip(asked, ranks.collected(listener.heard), strict=True):
        lines[query] = line
    return lines


def beamed(speaker: Any, queries: Queries, k: int) -> list[Line]:
    """The method's own constrained list for each query.

    Args:
        speaker: a fitted method of family llm.
        queries: histories.
        k: length of the lists.

    Returns:
        As ``written``, and ``items`` and ``scores``, best first; ``tokens`` counts the prompt only.
    """
    ranking, some = _ask(speaker, queries, k, None)
    nothing: Line = {**SILENT, "items": [], "scores": []}
    lines = [dict(nothing) for _ in range(len(queries))]
    if ranking is None:
        return lines
    assert ranking.score_QK is not None, "a decoder scores its lists"
    asked = some[~np.asarray(ranking.failed_Q)]
    prompts, _ = prompts_for(speaker.prompter, queries.take(asked), speaker.config.history)
    for query, prompt in zip(asked, prompts, strict=True):
        lines[query]["tokens"] = len(prompt)
    for query, item_K, score_K in zip(some, ranking.item_QK, ranking.score_QK, strict=True):
        items, scores = item_K[item_K > 0].tolist(), score_K[item_K > 0].tolist()
        if items:
            text = first_line(queries.catalogue.titles[items[0]])
            lines[query] |= {"text": text, "items": items, "scores": scores}
    return lines


def _ask(
    speaker: Any, queries: Queries, k: int, listener: Listener | None
) -> tuple[Ranking | None, Any]:
    """The ranking of the queries that have a history, and which ones those are."""
    some = np.flatnonzero(queries.history.lengths > 0)
    if not len(some):
        return None, some
    with nullcontext() if listener is None else speaker.decoding_by(listener):
        return speaker.recommend(queries.take(some), k), some


def bare_tokens(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The tokens of an answer's first line, without the quotes and spaces around it.

    Used where a compact vocabulary cannot tokenise the text again: without its quotes a title may have
    other tokens.

    Args:
        tokenizer: decodes the tokens.
        ids: tokens of the answer.
    """
    pieces = [tokenizer.decode([token]) for token in ids]
    bare = [bool(piece.strip().strip('"').strip()) for piece in pieces]
    start = next((at for at, some in enumerate(bare) if some), len(ids))
    stop = next((at for at in range(start, len(ids)) if "\n" in pieces[at]), len(ids))
    while stop > start and not bare[stop - 1]:
        stop -= 1
    return list(ids[start:stop])


def first_line(text: str) -> str:
    """The first line of an answer without quotes and spaces around it."""
    bare = text.strip()
    return bare.splitlines()[0].strip().strip('"').strip() if bare else ""
