"""Training rows as padded tensors, with no token in them that the loss does not need.

A row is a prompt and its answer. Exact savings: the forward pass stops at the last answer token that the
loss asks for (a forced tail has zero loss); only the hidden states that predict an answer token are
returned; and the opening words that all prompts share are computed once per micro-batch and extended by
each row, with gradients through both. B rows, L tokens, D hidden width, R answer tokens, S shared tokens.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.types import BoolArray, IntArray, Ragged
from llmrec.lm.transfer import moved
from llmrec.losses.base import Answers, Loss
from llmrec.training.documents import Documents, Room, end_to_end

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Example:
    """One training row.

    Attributes:
        prompt: the prompt.
        leaf: of its answer in the trie.
        keep: how many tokens of the answer are trained on; None for all of them.
        number: of the training row, for messages.
        task: which of several tasks it belongs to (``SeveralTasks``); empty for the method's own.
    """

    prompt: Prompt
    leaf: int
    keep: int | None = None
    number: int = -1
    task: str = ""


@dataclass(frozen=True, eq=False)
class Layout:
    """A micro-batch, right-padded.

    Attributes:
        shared_S: ids of the opening that all rows share, int64; empty if it is not split off.
        ids_BL, slots_BL: what follows it, int64; padding is the pad token and slot 0.
        length_B: real tokens of each row after the opening, int64.
        answers: the answer tokens whose loss is wanted.
        column_R: position in L of the state that predicts each of them, int64.
        prompt_B: tokens of each row's prompt after the opening; on the host, wherever the rest is.
    """

    shared_S: Tensor
    ids_BL: Tensor
    slots_BL: Tensor
    length_B: Tensor
    answers: Answers
    column_R: Tensor
    prompt_B: IntArray

    @property
    def tokens(self) -> int:
        """Real tokens that go through the model."""
        return len(self.shared_S) + int(self.length_B.sum())

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        names = ("shared_S", "ids_BL", "slots_BL", "length_B", "column_R")
        columns = moved([getattr(self, name) for name in names], device)
        found = dict(zip(names, columns, strict=True))
        return Layout(answers=self.answers.to(device), prompt_B=self.prompt_B, **found)


def all_answers(examples: Sequence[Example], trie: Trie) -> Answers:
    """Every answer token of these rows that is trained on, end tokens included.

    Args:
        examples: the rows.
        trie: where their answers are.
    """
    answers = Answers.of(trie, _leaves(examples))
    kept_R = _trained_on(examples, answers)
    return answers if kept_R is None else answers.take(torch.from_numpy(kept_R))


def _leaves(examples: Sequence[Example]) -> IntArray:
    return np.array([example.leaf for example in examples], np.int64)


def _trained_on(examples: Sequence[Example], answers: Answers) -> BoolArray | None:
    """Which tokens of the whole answers are trained on, [R]; None for all."""
    if all(example.keep is None for example in examples):
        return None
    most = [len(answers) if example.keep is None else example.keep for example in examples]
    return answers.places() < np.array(most)[answers.row_R.numpy()]


@dataclass(frozen=True, eq=False)
class Targets:
    """What a loss wants of some rows, cut out of what was found once for the whole catalogue.

    Attributes:
        answers: every answer token that is trained on.
        wanted_R: those that the forward pass has to reach, bool.
        fed_B: answer tokens of each row that are fed: up to the one before the last wanted.
    """

    answers: Answers
    wanted_R: BoolArray
    fed_B: IntArray

    @classmethod
    def of(cls, examples: Sequence[Example], trie: Trie, loss: Loss) -> Targets:
        """The targets of these rows.

        Args:
            examples: the rows.
            trie: where their answers are.
            loss: says which answer tokens matter.
        """
        leaf_B = _leaves(examples)
        answers = Answers.of(trie, leaf_B)
        wanted_R = Ragged(_wanted(trie, loss), trie.path.offsets).take(leaf_B).values > 0
        if (kept_R := _trained_on(examples, answers)) is not None:
            answers, wanted_R = answers.take(torch.from_numpy(kept_R)), wanted_R[kept_R]
        row_R, place_R = answers.row_R.numpy(), answers.places()
        reach_B = np.zeros(len(examples), np.int64)  # tokens to predict, forced tail excluded
        np.maximum.at(reach_B, row_R[wanted_R], place_R[wanted_R] + 1)
        return cls(answers, wanted_R, np.maximum(reach_B - 1, 0))

    def wanted(self, trie: Trie, loss: Loss, device: torch.device) -> Answers:
        """The wanted answer tokens, planned if the loss reads a plan.

        Args:
            trie: where they are.
            loss: the loss.
            device: where it will be computed.
        """
        answers = self.answers.take(torch.from_numpy(np.flatnonzero(self.wanted_R)))
        return answers.planned(trie, device) if loss.plans else answers


_walked: weakref.WeakKeyDictionary[Loss, tuple[Trie, IntArray]] = weakref.WeakKeyDictionary()


def _wanted(trie: Trie, loss: Loss) -> IntArray:
    """1 where a token of any answer matters to a loss, else 0, found once; as ``trie.path.values``."""
    if loss not in _walked or _walked[loss][0] is not trie:
        every = Answers.of(trie, np.arange(trie.n_leaves))
        _walked[loss] = trie, loss.matters(every).numpy().astype(np.int8)
    return _walked[loss][1]


def lay_out(
    examples: Sequence[Example],
    trie: Trie,
    loss: Loss,
    *,
    pad: int,
    shared: int = 0,
    device: torch.device = CPU,
) -> Layout:
    """Arrange rows as a padded batch for ``states``.

    Args:
        examples: the rows.
        trie: where their answers are.
        loss: says which answer tokens the forward pass has to reach.
        pad: a token to fill up with.
        shared: how many leading tokens all these prompts have in common; 0 keeps rows whole.
        device: where the loss will be computed.
    """
    targets = Targets.of(examples, trie, loss)
    row_R, place_R = targets.answers.row_R.numpy(), targets.answers.places()
    prompt_B = np.array([len(example.prompt) for example in examples]) - shared
    assert prompt_B.min() > 0, f"{shared} shared tokens leave nothing of a prompt"
    length_B = prompt_B + targets.fed_B
    ids_BL = np.full((len(examples), int(length_B.max())), pad, np.int64)
    slots_BL = np.zeros_like(ids_BL)
    for b, example in enumerate(examples):
        ids_BL[b, : prompt_B[b]] = example.prompt.ids[shared:]
        slots_BL[b, : prompt_B[b]] = example.prompt.slots[shared:]
        ids_BL[b, prompt_B[b] : length_B[b]] = trie.answer[example.leaf][: targets.fed_B[b]]
    column_R = (prompt_B[row_R] - 1 + place_R)[targets.wanted_R]
    opening = examples[0].prompt.ids[:shared].astype(np.int64)
    return Layout(
        shared_S=torch.from_numpy(opening),
        ids_BL=torch.from_numpy(ids_BL),
        slots_BL=torch.from_numpy(slots_BL),
        length_B=torch.from_numpy(length_B),
        answers=targets.wanted(trie, loss, device),
        column_R=torch.from_numpy(column_R.astype(np.int64)),
        prompt_B=prompt_B,
    )


def rows_end_to_end(
    examples: Sequence[Example],
    trie: Trie,
    loss: Loss,
    *,
    pad: int,
    room: Room,
    device: torch.device = CPU,
) -> Documents:
    """The same rows end to end, for ``document_states``.

    Args:
        examples: the rows.
        trie: where their answers are.
        loss: says which answer tokens the forward pass has to reach.
        pad: a token to fill up with.
        room: length of the row of tokens, and of the opening that all prompts share.
        device: where the loss will be computed.
    """
    targets = Targets.of(examples, trie, loss)
    prompts, leaf_B1 = [example.prompt for example in examples], _leaves(examples)[:, None]
    fed_B1 = targets.fed_B[:, None]
    rows = end_to_end(prompts, leaf_B1, fed_B1, targets.answers, trie, pad=pad, room=room)
    wanted = targets.wanted(trie, loss, device)
    return replace(rows, answers=wanted, column_R=rows.column_R[targets.wanted_R])


def states(lm: Backbone, layout: Layout) -> Tensor:
    """Final hidden states that predict ``layout.answers``, [R, D]; never any logits.

    Args:
        lm: the model.
        layout: a micro-batch, on the model's device.
    """
    embeds_BLD = lm.embed(layout.ids_BL, layout.slots_BL)
    size_B, shared = len(embeds_BLD), len(layout.shared_S)
    # padding stands behind every real token, so causality alone keeps it out of sight
    mask = torch.ones(size_B, shared + embeds_BLD.shape[1], device=embeds_BLD.device).long()
    cache = None
    if shared:
        opening_1SD = lm.embed(layout.shared_S[None], torch.zeros_like(layout.shared_S)[None])
        _, cache = lm.body(
            embeds_BLD=opening_1SD,
            ids_BL=layout.shared_S[None],
            attention_mask=mask[:1, :shared],
            use_cache=True,
        )
        cache.batch_repeat_interleave(size_B)
    hidden_BLD, _ = lm.body(
        embeds_BLD=embeds_BLD,
        ids_BL=layout.ids_BL,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
        prompt_B=layout.prompt_B,
    )
    return hidden_BLD[layout.answers.row_R, layout.column_R]


def by_length(examples: Sequence[Example], trie: Trie) -> IntArray:
    """Row numbers from the longest to the shortest, so that rows of a micro-batch need little padding.

    Args:
        examples: the rows.
        trie: knows the length of their answers.
    """
    size = [len(example.prompt) + int(trie.answer.lengths[example.leaf]) for example in examples]
    return np.argsort(-np.array(size), kind="stable")


def micro_batches(examples: Sequence[Example], trie: Trie, size: int) -> Iterator[list[Example]]:
    """The rows of an optimizer step, ``size`` at a time, longest first.

    Args:
        examples: the rows.
        trie: knows the length of their answers.
        size: rows of a micro-batch; the last may be smaller.
    """
    order = by_length(examples, trie)
    for start in range(0, len(order), size):
        yield [examples[row] for row in order[start : start + size]]
