"""Collaborative vectors inside the prompt: soft tokens for any causal language model.

A prompt has slots beside its token ids (``Prompt.slots``). ``SoftBackbone.embed`` looks up the embeddings of
the tokens and replaces those at slots by a learned projection of the item's or the user's vector. Nothing is
added to the vocabulary and no position moves, so hidden states stay aligned with the ids, and every loss and
decoder works unchanged, since they all start from ``embed``.

Axes: B sequences, L tokens, D width of the language model, S slots, N items, F width of item vectors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.errors import ArtefactError, ConfigError
from bench.types import BoolArray, Windows
from llmrec.lm.backbone import Backbone
from llmrec.lm.soft_users import FIRST_USER, Users
from llmrec.prompt import USER_SLOT

PLACEHOLDER = -2
PLACEHOLDER_STD = 0.02
Unseen = Literal["placeholder", "raw", "mean"]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Frozen vectors of the items.

    Attributes:
        vector_NF: by item id, float32 [N + 1, F]; row 0 is never read.
        known_N: items that have one, bool [N + 1]; the others are shown as the placeholder.
    """

    vector_NF: Vectors
    known_N: BoolArray

    @classmethod
    def of(cls, vector_NF: Vectors, seen_N: BoolArray, unseen: Unseen) -> ItemVectors:
        """Vectors of a recommender that saw only some items in training.

        Args:
            vector_NF: its item table.
            seen_N: items that occur in its training rows.
            unseen: what the others get: the ``placeholder``, their ``raw`` untrained vector, or the
                ``mean`` of all trained ones.

        Raises:
            ConfigError: ``unseen`` is none of these.
        """
        if unseen not in get_args(Unseen):
            allowed = ", ".join(get_args(Unseen))
            raise ConfigError(f"unseen is {unseen!r}; allowed are {allowed}")
        everything = np.ones_like(seen_N)
        everything[0] = False
        if unseen == "raw":
            return cls(vector_NF, everything)
        if unseen == "mean" and seen_N.any():
            mean_F = vector_NF[seen_N].mean(0)
            return cls(np.where(seen_N[:, None], vector_NF, mean_F).astype(np.float32), everything)
        return cls(vector_NF, seen_N)


class SoftTokens(torch.nn.Module):
    """Embeddings of the slots: projections of frozen vectors, or a fixed placeholder.

    Args:
        items: vectors of the items.
        item: the learned map from F to D.
        width: D.
        user: the learned map of user vectors to D, if prompts have a user slot.
        users: the user vectors.
        seed: of the placeholder, a constant vector drawn from N(0, 0.02) and never trained.
    """

    placeholder_D: Tensor
    vector_NF: Tensor
    known_N: Tensor

    def __init__(
        self,
        items: ItemVectors,
        item: torch.nn.Module,
        *,
        width: int,
        user: torch.nn.Module | None = None,
        users: Users | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.item, self.user, self.users = item, user, users
        drawn_D = torch.randn(width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("placeholder_D", drawn_D * PLACEHOLDER_STD)
        vector_NF, known_N = np.ascontiguousarray(items.vector_NF), items.known_N.copy()
        self.register_buffer("vector_NF", torch.from_numpy(vector_NF), persistent=False)
        self.register_buffer("known_N", torch.from_numpy(known_N), persistent=False)

    def forward(self, text_BLD: Tensor, slots_BL: Tensor, *, hybrid: bool = True) -> Tensor:
        """The input embeddings with every slot filled, a new tensor [B, L, D].

        Args:
            text_BLD: embeddings of the tokens; what stands at a slot is replaced.
            slots_BL: 0 a token, j > 0 item j, -2 the placeholder, -3 - u user u.
            hybrid: False puts the placeholder in all slots; no projection then gets a gradient.
        """
        at = slots_BL.nonzero(as_tuple=True)
        if not len(at[0]):
            return text_BLD
        distinct_S, which = slots_BL[at].unique(return_inverse=True)
        vector_SD = self.vectors(distinct_S) if hybrid else self._placeholders(distinct_S)
        return text_BLD.index_put(at, vector_SD.to(text_BLD.dtype)[which])

    def vectors(self, slot_S: Tensor) -> Tensor:
        """Embeddings of the given slots, float32 [S, D]."""
        assert not (slot_S == USER_SLOT).any(), "a user slot that names no user"
        vector_SD = self._placeholders(slot_S)
        # index_put copies, so that the placeholder, which is expanded from one row, is never written to
        item = self.known_N[slot_S.clamp(min=0)].nonzero()[:, 0]
        if len(item):
            projected_SD = self.item(self.vector_NF[slot_S[item]])
            vector_SD = vector_SD.index_put((item,), projected_SD)
        user = (slot_S <= FIRST_USER).nonzero()[:, 0]
        if len(user):
            assert self.user is not None and self.users is not None, "no user vectors"
            table_UF = self.users.table(self.vector_NF.device)
            projected_SD = self.user(table_UF[FIRST_USER - slot_S[user]])
            vector_SD = vector_SD.index_put((user,), projected_SD)
        return vector_SD

    def _placeholders(self, slot_S: Tensor) -> Tensor:
        return self.placeholder_D.expand(len(slot_S), -1)


class Curriculum(Protocol):
    """Says whether a forward pass of the training shows the collaborative vectors."""

    @property
    def unit(self) -> str:
        """What one decision is for: ``step`` or ``micro``, a micro-batch."""

    def hybrid(self, step: int, total: int, micro: int = 0) -> bool:
        """Whether the collaborative vectors are shown; else the placeholder stands in their slots.

        Args:
            step: number of the optimizer step, from 0.
            total: steps of the whole training.
            micro: number of the micro-batch within the step, from 0.
        """


class SoftBackbone(Backbone):
    """A backbone whose prompts hold soft tokens.

    Args:
        lm: the backbone below; its model is taken over, not copied.
        soft: fills the slots.
        curriculum: when training is hybrid; None for always. Evaluation is always hybrid.
        frozen: keep the language model as it is, in evaluation mode.
        options: ``weight_decay`` and ``lr`` of the projections for the optimizer.
    """

    def __init__(
        self,
        lm: Backbone,
        soft: SoftTokens,
        *,
        curriculum: Curriculum | None = None,
        frozen: bool = False,
        options: dict[str, float] | None = None,
    ) -> None:
        below: dict[str, Any] = {key: getattr(lm, key) for key in ("name", "pretrained", "quant")}
        super().__init__(lm.model, lm.tokenizer, **below)
        self.soft = soft.to(lm.device)
        self.curriculum, self.frozen, self.options = curriculum, frozen, options or {}
        self.hybrid, self._step, self._micro = True, (0, 1), 0
        if frozen:
            self.model.requires_grad_(False)
            self.model.eval()

    def embed(self, ids_BL: Tensor, slots_BL: Tensor | None = None) -> Tensor:
        """Input embeddings [B, L, D] with the slots filled."""
        if slots_BL is None:
            return super().embed(ids_BL)
        # what stands under a slot is replaced, and may be a pad token that has no row
        text_BLD = super().embed(ids_BL.masked_fill(slots_BL != 0, self.pad_id))
        return self.soft(text_BLD, slots_BL, hybrid=self._hybrid(slots_BL))

    def _hybrid(self, slots_BL: Tensor) -> bool:
        if not self.training or self.curriculum is None:
            return True
        if self.curriculum.unit == "micro" and slots_BL.any():
            self.hybrid = self.curriculum.hybrid(*self._step, self._micro)
            self._micro += 1
        return self.hybrid

    def begin_step(self, step: int, total: int) -> None:
        """Ask the curriculum whether the coming optimizer step is hybrid."""
        self._step, self._micro = (step, total), 0
        if self.curriculum is not None and self.curriculum.unit != "micro":
            self.hybrid = self.curriculum.hybrid(step, total)

    def train(self, mode: bool = True) -> SoftBackbone:
        """Training mode; a frozen language model stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def learnt(self) -> dict[str, Tensor]:
        """What training changes, and the projections and the placeholder in any case."""
        own = {f"soft.{name}": value for name, value in self.soft.state_dict().items()}
        return {**self.trainable(), **own}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The language model's parameters, and the projections with options of their own."""
        trained = self.trainable().items()
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in trained if not name.startswith("soft.")]},
            {"params": [p for name, p in trained if name.startswith("soft.")], **self.options},
        ]
        return [group for group in groups if group["params"]]


def check_trained_on(seen_N: BoolArray, train: Windows, name: str) -> None:
    """Refuse a recommender that was trained on other rows than these come from.

    Args:
        seen_N: items that occur in the recommender's training rows, bool [N + 1].
        train: the training rows at hand.
        name: what messages call the recommender.

    Raises:
        ArtefactError: another number of items, or rows with items it never saw.
    """
    repair = "run the cell again with --reuse never"
    if len(seen_N) != train.n_items + 1:
        raise ArtefactError(
            f"{name} knows {len(seen_N) - 1} items, the catalogue holds {train.n_items}; {repair}"
        )
    strange = np.flatnonzero(train.seen & ~seen_N)
    if len(strange):
        raise ArtefactError(
            f"{name} was trained on other rows: item {strange[0]} of this training set is new to it; "
            + repair
        )


def fingerprint(vector_NF: Vectors, seen_N: BoolArray) -> str:
    """A hash that tells two recommenders apart, 16 hex digits.

    Args:
        vector_NF: its item vectors.
        seen_N: items it saw in training.
    """
    made = hashlib.sha256(np.ascontiguousarray(vector_NF, np.float32).tobytes())
    made.update(seen_N.tobytes())
    return made.hexdigest()[:16]
