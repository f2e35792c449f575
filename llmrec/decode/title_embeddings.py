"""Texts as points: the base model's last hidden state, Euclidean distances, popularity weighting.

Serves BIGRec's grounding (arXiv 2308.08434). Q queries, I items, N texts, D hidden width, L tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import ConfigError, ContractError
from bench.types import FloatArray, IntArray
from llmrec.decode.base import blank
from llmrec.decode.generate import own_generation
from llmrec.prompt import bos_of
from llmrec.trie import text_tokens

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone

GAMMAS = tuple(range(100))  # the authors' grid for popularity
SAME = 1e-4  # relative distance below which two texts count as the same point
WORD = re.compile(r" ?[^ ]+| +")  # cut in front of spaces, where byte-level tokenizers never merge
CLOSE = 1e-3  # relative squared distance below which the product form has lost its digits


@contextmanager
def base_weights(lm: Backbone) -> Iterator[None]:
    """The model without its adapters, in evaluation mode."""
    off = lm.model.disable_adapter() if hasattr(lm.model, "disable_adapter") else nullcontext()
    with own_generation(lm), off:
        yield


def embed_texts(
    lm: Backbone,
    texts: Sequence[str],
    *,
    instead: Sequence[list[int]] | None = None,
    batch: int = 32,
) -> Tensor:
    """Last hidden state of the last token of each text, tokenised as the tokenizer does by default.

    Args:
        lm: the model; its adapters are switched off meanwhile.
        texts: an empty text is embedded as the end token alone.
        instead: tokens of each text to take where the tokenizer cannot read the text again, not even
            letter by letter (a compact vocabulary knows only the tokens it was made for).
        batch: texts per forward pass.

    Returns:
        fp32 [N, D].

    Raises:
        ContractError: an embedding is not finite.
    """
    head = bos_of(lm.tokenizer)
    end = [lm.tokenizer.eos_token_id]
    bodies = _token_ids(lm, texts, instead)
    ids = [[*head, *body] if body else end for body in bodies]
    # sorted by content, so that batches, and with them rounding, do not depend on the order given
    order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), ids[row]))
    points: list[Tensor | None] = [None] * len(ids)
    with base_weights(lm):
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            for row, point_D in zip(rows, _last_states(lm, [ids[r] for r in rows]), strict=True):
                points[row] = point_D
    point_ND = torch.stack([p for p in points if p is not None])
    if not bool(torch.isfinite(point_ND).all()):
        raise ContractError("the model gives embeddings that are not finite; check its weights")
    return point_ND


def _token_ids(
    lm: Backbone, texts: Sequence[str], instead: Sequence[list[int]] | None
) -> list[list[int]]:
    found = []
    for row, text in enumerate(texts):
        try:
            found.append(_read(lm, text))
        except ValueError:
            if instead is None:
                raise
            found.append(instead[row])
    return found


def _read(lm: Backbone, text: str) -> list[int]:
    """Tokens of a text; a word whose tokens a compact vocabulary left out is spelt.

    A title can lose its tokens with its quotes: they may begin or end in the quote. What is returned
    depends on the text alone, so that a title and a generation of it are the same point.

    Raises:
        ValueError: a letter that was not kept.
    """

    def tokens(part: str) -> list[int]:
        return text_tokens(lm.tokenizer, [part])[0]

    try:
        return tokens(text)
    except ValueError:
        found: list[int] = []
        for word in WORD.findall(text):
            try:
                found += tokens(word)
            except ValueError:
                found += [token for letter in word for token in tokens(letter)]
        return found


def _last_states(lm: Backbone, ids: Sequence[list[int]]) -> Tensor:
    """Hidden state of each row's last token, fp32 [B, D]; causal, so padding behind it is unseen."""
    width = max(len(row) for row in ids)
    length_B = torch.tensor([len(row) for row in ids], device=lm.device)
    ids_BL = torch.tensor([row + [lm.pad_id] * (width - len(row)) for row in ids], device=lm.device)
    mask_BL = (torch.arange(width, device=lm.device) < length_B[:, None]).long()
    hidden_BLD, _ = lm.body(
        embeds_BLD=lm.embed(ids_BL, torch.zeros_like(ids_BL)), ids_BL=ids_BL, attention_mask=mask_BL
    )
    return hidden_BLD[torch.arange(len(ids), device=lm.device), length_B - 1].float()


def distances(point_QD: Tensor, point_ID: Tensor, chunk: int = 256) -> Iterator[FloatArray]:
    """Euclidean distances of each query to all items, one query at a time, float64 [I].

    ``|q|^2 + |i|^2 - 2 q i`` loses all digits where the distance is near 0, so close pairs are computed
    again by subtraction.

    Args:
        point_QD: embeddings of the queries.
        point_ID: embeddings of the items.
        chunk: queries of one matrix product.
    """
    square_I = point_ID.square().sum(1)
    for start in range(0, len(point_QD), chunk):
        query_QD = point_QD[start : start + chunk]
        square_QI = query_QD.square().sum(1)[:, None] + square_I
        distance_QI = (square_QI - 2 * query_QD @ point_ID.T).clamp_(min=0)
        near_QI = distance_QI < CLOSE * square_QI
        row, item = near_QI.nonzero(as_tuple=True)
        for low in range(0, len(row), 4096):
            at = slice(low, low + 4096)
            difference = query_QD[row[at]] - point_ID[item[at]]
            distance_QI[row[at], item[at]] = difference.square().sum(1)
        floor_QI = SAME**2 * square_QI
        distance_QI = torch.where(distance_QI < floor_QI, 0.0, distance_QI)
        yield from distance_QI.sqrt().double().cpu().numpy()


def nearest(point_QD: Tensor, point_ID: Tensor, k: int) -> tuple[IntArray, FloatArray]:
    """The ``k`` nearest items of each query and their negative distances, [Q, K] each.

    Ties go to the smaller number.

    Args:
        point_QD: embeddings of the queries.
        point_ID: embeddings of the items.
        k: length of the lists.
    """
    leaf_QK, score_QK = blank(len(point_QD), k)
    for row, distance_I in enumerate(distances(point_QD, point_ID)):
        order = np.argsort(distance_I, kind="stable")[:k]
        leaf_QK[row, : len(order)], score_QK[row, : len(order)] = order, -distance_I[order]
    return leaf_QK, score_QK


def scaled(distance_I: FloatArray) -> FloatArray:
    """Distances scaled to [0, 1] for one query; all 1 where they are all equal, so only weights decide."""
    span = distance_I.max() - distance_I.min()
    return (distance_I - distance_I.min()) / span if span > 0 else np.ones_like(distance_I)


def popularity(weight_I: Any, gamma: float, n_items: int) -> FloatArray:
    """BIGRec's factor ``(1 + weight) ** -gamma`` on the scaled distance, [I] (arXiv 2308.08434).

    The nearest item keeps distance 0, so it stays first whatever gamma is.

    Args:
        weight_I: popularity of each item, in [0, 1].
        gamma: exponent; 0 leaves all distances as they are.
        n_items: I.

    Raises:
        ConfigError: weights of another length, or outside [0, 1].
    """
    weight = np.asarray(weight_I, np.float64)
    if weight.shape != (n_items,) or weight.min() < 0 or weight.max() > 1:
        raise ConfigError(
            f"popularity weights have shape {weight.shape} and lie in [{weight.min():g}, "
            f"{weight.max():g}]; needed are {n_items} weights in [0, 1], one per leaf"
        )
    return (1 + weight) ** -gamma


def choose_gamma(
    point_QD: Tensor,
    point_ID: Tensor,
    weight_I: FloatArray,
    target_Q: IntArray,
    gammas: Sequence[float] = GAMMAS,
) -> float:
    """The gamma with the best NDCG@5 on these validation users, the smallest of equals.

    Args:
        point_QD: embedded generations.
        point_ID: embedded titles, by leaf.
        weight_I: popularity by leaf, in [0, 1].
        target_Q: the leaf each user went on to.
        gammas: the grid.
    """
    gain = np.zeros(len(gammas))
    factor_GI = np.stack([popularity(weight_I, gamma, len(point_ID)) for gamma in gammas])
    for target, distance_I in zip(target_Q, distances(point_QD, point_ID), strict=True):
        scaled_I = scaled(distance_I)
        for at, factor_I in enumerate(factor_GI):
            score_I = scaled_I * factor_I
            ahead = int(
                (score_I < score_I[target]).sum() + (score_I[:target] == score_I[target]).sum()
            )
            gain[at] += 1 / np.log2(ahead + 2) if ahead < 5 else 0.0
    return float(gammas[int(gain.argmax())])
