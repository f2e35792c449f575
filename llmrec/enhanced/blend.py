"""A late blend of two finished recommenders: one that reads titles and one that knows ids.

The model over ids knows nothing of an item it never saw, so scores cannot be added as they are. Probabilities
can: with w in {0, .1 .. 1}

    p_i = (1 - w) softmax over all items(s_text)_i + w softmax over seen items(s_id)_i

where the second term is 0 for a never-trained item. w is chosen by validation; ties go to the smaller one.

Axes: Q queries, B queries of a block, N items, K list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from bench.cell import SELECT_BY, K, Need, Run, Size
from bench.config import Config
from bench.evaluation.metrics import evaluate
from bench.method import Method, configure, keep, restore
from bench.registry import methods
from bench.types import Exam, Queries, Ragged, Ranking, Windows
from llmrec.enhanced.sasrec_text import cold_share

WEIGHTS = tuple(step / 10 for step in range(11))
TEXT, IDS, CHOSEN = "text", "ids", "weight.json"


class BlendConfig(Config):
    """Options of the two models; the blend itself has none."""

    text: Mapping[str, Any] = Field(default_factory=dict)
    """Options of ``sasrec_text``."""
    ids: Mapping[str, Any] = Field(default_factory=dict)
    """Options of ``sasrec``, which is trained with the loss ce_all."""


@methods.register("blend")
class Blend(Method):
    """SASRec over titles and SASRec over ids, their probabilities averaged with one weight.

    Attributes:
        weight: w of the model over ids, once fitted or loaded.
    """

    family = "enhanced"
    Config: ClassVar[type[Config]] = BlendConfig
    tags = frozenset({"text"})

    weight: float

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The two models."""
        configure(methods.get("sasrec_text"), config.text)
        configure(methods.get("sasrec"), config.ids)
        return {
            TEXT: Need(method="sasrec_text", config=dict(config.text)),
            IDS: Need(method="sasrec", loss="ce_all", config=dict(config.ids)),
        }

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Choose the weight by validation; nothing is trained."""
        self._text: Any = run.load(TEXT)
        self._ids: Any = run.load(IDS)
        lists = _blended(self._text, self._ids, valid.queries.history, K, WEIGHTS)
        by_weight = {
            weight: evaluate(ranking, valid, train_count=train.target_count)[SELECT_BY]
            for weight, ranking in zip(WEIGHTS, lists, strict=True)
        }
        self.weight = max(by_weight, key=lambda weight: (by_weight[weight], -weight))
        chosen = lists[WEIGHTS.index(self.weight)]
        run.facts.update(
            {
                "weight": self.weight,
                f"valid_{SELECT_BY}_by_weight": {str(w): v for w, v in by_weight.items()},
                f"valid_{SELECT_BY}": by_weight[self.weight],
                "valid_cold_share": cold_share(chosen, train.seen),
                "valid_cold_targets": float((~train.seen[valid.target_Q]).mean()),
            }
        )

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` items with the largest blended probability; the history is not excluded."""
        (ranking,) = _blended(self._text, self._ids, queries.history, k, (self.weight,))
        facts = {"cold_share": cold_share(ranking, self._ids.seen)}
        return Ranking(ranking.item_QK, ranking.score_QK, facts=facts)

    def save(self, folder: Path) -> None:
        """Write both models and the weight."""
        keep(self._text, folder / TEXT)
        keep(self._ids, folder / IDS)
        (folder / CHOSEN).write_text(json.dumps({"weight": self.weight}))

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote."""
        self._text = restore(folder / TEXT, device=device)
        self._ids = restore(folder / IDS, device=device)
        self.weight = json.loads((folder / CHOSEN).read_text())["weight"]

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Two models score every query, the validation's for each weight."""
        rows = size.test_rows + len(WEIGHTS) * size.valid_rows
        return 5.0 + rows * size.n_items * 6e-8


def _blended(
    text: Any, ids: Any, history: Ragged, k: int, weights: Sequence[float]
) -> list[Ranking]:
    """The lists under each weight; an item of probability 0 is not listed.

    Args:
        text: the fitted model over titles.
        ids: the fitted model over ids.
        history: of the queries.
        k: length of the lists.
        weights: values of w.
    """
    item_WQK = np.zeros((len(weights), len(history), k), np.int32)
    score_WQK = np.zeros((len(weights), len(history), k), np.float64)
    for rows, text_BN, ids_BN in _probabilities(text, ids, history):
        for at, weight in enumerate(weights):
            best = ((1 - weight) * text_BN + weight * ids_BN).topk(min(k, text_BN.shape[1]))
            listed = (best.values > 0).cpu().numpy()
            width = listed.shape[1]
            item_WQK[at, rows, :width] = np.where(listed, best.indices.cpu().numpy() + 1, 0)
            score_WQK[at, rows, :width] = best.values.cpu().numpy()
    return [Ranking(items, scores) for items, scores in zip(item_WQK, score_WQK, strict=True)]


def _probabilities(text: Any, ids: Any, history: Ragged) -> Iterator[tuple[Any, Any, Any]]:
    """Query numbers of a block and the probabilities of the items 1..N by both models, float64 [B, N]."""
    import torch

    from baselines.training import block, blocks

    for model in (text.model, ids.model):
        model.eval()
    device = ids.model.item_table().device
    unseen_N = torch.from_numpy(~ids.seen[1:]).to(device)

    def scored(method: Any, padded: Any, count: int) -> Any:
        inputs = block(history, padded, method.config.max_length, device)
        return method.model.scores(*inputs)[:count, 1:].double()

    with torch.inference_mode():
        for rows, padded in blocks(len(history)):
            # in float64 two scores that differ stay apart
            text_BN = scored(text, padded, len(rows)).softmax(-1)
            ids_BN = scored(ids, padded, len(rows)).masked_fill(unseen_N, -torch.inf).softmax(-1)
            yield rows, text_BN, ids_BN
