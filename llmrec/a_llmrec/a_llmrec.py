"""A-LLMRec: a language model that reads a user vector and, behind each title, a vector of the item.

Stage 1 (``a_llmrec_align``) puts items and titles into one space; stage 2, here, learns two maps into the
language model: of SASRec's state after the history (F_U) and of the joint item vectors (F_I). An item that
SASRec never saw is shown by the vector of its title. In the setting of the MSL paper the prompt is BIGRec's,
with the user's slot as the first token of its input section and no candidate list.

Source: Kim et al., "Large Language Models meet Collaborative Filtering: An Efficient All-round LLM-based
Recommender System", KDD 2024, Section 4.2. The original leaves the language model frozen
(``llm_tuning: frozen``); the rows of the MSL paper are level with tuned models, so ``lora`` is the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file
from torch import nn

from bench.cell import Need, Run
from bench.errors import ArtefactError
from bench.method import configure, keep, restore
from bench.registry import methods
from bench.types import Catalogue, Exam, Queries, Ranking, Windows
from llmrec.a_llmrec.a_llmrec_align import Align
from llmrec.generative._soft import TOY_SASREC, SoftConfig, SoftGenerative, sequential
from llmrec.lm.backbone import Backbone
from llmrec.lm.soft_tokens import ItemVectors, check_trained_on, fingerprint
from llmrec.lm.soft_users import Numbering, Users
from llmrec.lm.text_encoder import BACKBONE
from llmrec.prompt import Prompter, Style

SASREC, MEAN = "sasrec", "user.safetensors"


class ALLMRecConfig(SoftConfig):
    """Configuration of A-LLMRec, stage 2."""

    llm_tuning: Literal["lora", "frozen"] = "lora"
    """``lora`` (adapters, or all weights of a model without pretraining) or ``frozen``, which takes no
    adapters whatever ``lora_r`` says."""
    unseen: Literal["text", "raw", "placeholder"] = "text"
    """What stands for an item that SASRec never saw: the joint vector of its ``text`` (paper), its ``raw``
    item vector, or a ``placeholder``."""
    user_slot: bool = True
    """Whether the prompt has a user vector; it is of all the history that SASRec reads, also where
    ``history`` shows less."""
    align: Mapping[str, Any] = Field(default_factory=dict)
    """Options of stage 1, see ``a_llmrec_align``; its SASRec is the one given here."""

    @property
    def whole(self) -> bool:
        """Whether all weights of a pretrained model are trained."""
        return super().whole and self.llm_tuning != "frozen"


def into_words(width_in: int, width: int, between: nn.Module) -> nn.Module:
    """A learned map F into the embeddings of the language model: linear, layer norm, activation, linear.

    The weights are Xavier-normal.

    Args:
        width_in: width of the vectors.
        width: of the language model.
        between: the activation.
    """
    first, last = nn.Linear(width_in, width), nn.Linear(width, width)
    for layer in (first, last):
        nn.init.xavier_normal_(layer.weight)
    return nn.Sequential(first, nn.LayerNorm(width), between, last)


@methods.register("a_llmrec")
class ALLMRec(SoftGenerative):
    """Reads a user vector and the history as titles with joint vectors, and writes the next title."""

    Config = ALLMRecConfig
    users: Users  # known before the first prompt is made, see ``gather`` and ``redress``
    toy: ClassVar = {
        **SoftGenerative.toy,
        "sasrec": TOY_SASREC,
        "align": {"text_encoder": "hash", "latent": 16, "epochs": 2},
    }

    def __init__(self, config: Any = None, **axes: Any) -> None:
        super().__init__(config, **axes)
        self.config = self.written_out(self.config)

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """The config with every option of stage 1, of its loss and of its decoder written out."""
        return super().complete(cls.written_out(config), loss=loss, decoder=decoder)

    @classmethod
    def written_out(cls, config: Any) -> Any:
        """``config`` with every option of stage 1, and without adapters where nothing is tuned."""
        given = {**config.align, "sasrec": config.sasrec, "sasrec_loss": config.sasrec_loss}
        align = configure(methods.get("a_llmrec_align"), given).as_dict()
        lora_r = 0 if config.llm_tuning == "frozen" else config.lora_r
        return config.replace(lora_r=lora_r, align=align)

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """SASRec and stage 1, which rests on the same SASRec."""
        align = cls.written_out(config).align
        reads_with = backbone if align["text_encoder"] == BACKBONE else None
        need = Need(method="a_llmrec_align", backbone=reads_with, config=align)
        return {**super().needs(config, loss=loss, backbone=backbone), "align": need}

    @property
    def frozen(self) -> bool:
        """Whether the language model stays as it is."""
        return bool(self.config.llm_tuning == "frozen")

    def style(self) -> Style:
        """A user slot, and a slot behind each title."""
        return replace(super().style(), item_slots=True, user_slot=self.config.user_slot)

    def make_prompter(self, catalogue: Catalogue, **options: Any) -> Prompter:
        """A prompter whose user slots hold the number of the user."""
        made = Numbering(catalogue, self.lm.tokenizer, **options)
        made.users, made.most = self.users, self._most
        return made

    @contextmanager
    def _whole_histories(self) -> Iterator[None]:
        """Within this context ``history`` shortens prompts only; SASRec still reads the whole history."""
        own = self.config
        self._most, self.config = own.history, own.replace(history=None)
        try:
            yield
        finally:
            self.config = own

    _most: int | None = None

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Tune as every method here; the user is the whole history, whatever of it is shown."""
        with self._whole_histories():
            super().fit(train, valid, run)

    def gather(self, train: Windows, run: Run) -> ItemVectors:
        """The joint vectors, and SASRec for the users.

        Raises:
            ArtefactError: stage 1 or SASRec was trained on other rows, or they do not belong together.
        """
        self.sasrec = sequential(run.load("sasrec"))
        check_trained_on(self.sasrec.seen, train, "sasrec")
        align = run.load("align")
        assert isinstance(align, Align), f"the need 'align' is {align.name!r}, not stage 1"
        joint = align.joint
        if joint.sasrec != fingerprint(self.sasrec.item_vectors(), self.sasrec.seen):
            raise ArtefactError(
                "stage 1 was made with another sasrec; run the cell again with --reuse never"
            )
        self._mean_D = joint.mean_D
        self._know_users()
        source_N = joint.source(self.config.unseen)
        run.facts["items_by_text"] = int((source_N == 2).sum())
        return joint.vectors(self.config.unseen)

    def _know_users(self) -> None:
        self.users = Users(self.sasrec.user_vectors, self.sasrec.seen, self._mean_D)

    def maps(self, width_in: int, width: int) -> dict[str, nn.Module]:
        """The maps F_I of items and, with a user slot, F_U of users."""
        made = {"item": into_words(width_in, width, nn.GELU())}
        if self.config.user_slot:
            made["user"] = into_words(len(self._mean_D), width, nn.LeakyReLU())
        return made

    def undress(self, folder: Path) -> None:
        """Save the joint vectors, SASRec and the mean user."""
        super().undress(folder)
        keep(self.sasrec, folder / SASREC)
        save_file({"mean": np.ascontiguousarray(self._mean_D)}, folder / MEAN)

    def redress(self, lm: Backbone, folder: Path) -> Backbone:
        """The backbone with soft tokens as saved."""
        self.sasrec = sequential(restore(folder / SASREC, device=str(lm.device)))
        self._mean_D = load_file(folder / MEAN)["mean"]
        self._know_users()
        return super().redress(lm, folder)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` best titles; notes how many users only had items that SASRec never saw."""
        with self._whole_histories():
            ranking = super().recommend(queries, k)
        nobody = sum(self.users.nobody(history) for history in queries.history)
        return replace(ranking, facts={**ranking.facts, "users_with_mean_vector": nobody})
