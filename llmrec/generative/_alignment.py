"""LC-Rec's alignment: rows that write an item's codes from its title, and its title from its codes.

Each item of the training rows that has a title is one row of either kind, once an epoch; items that were
never trained on are in none. Both kinds are trained with LML's softmax over the whole vocabulary, whatever
loss the next item is trained with:

- a masked loss would need the trie of the titles beside that of the codes, and in it titles that were never
  trained on would be negatives;
- what a loss learns of its rows (a temperature, frequencies) stays what it is for the next item;
- so cells with different losses differ in the next item's loss alone.

Source: Zheng et al. (LC-Rec), ICDE 2024; the words of the prompts are ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.types import Catalogue, IntArray, Ragged, Windows
from llmrec.generative._code_prompts import AskForCodes, AskForTitle
from llmrec.generative._ranking import examples_of
from llmrec.losses.lml import LML
from llmrec.prompt import Prompter
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.loop import Training
from llmrec.training.packing import Example
from llmrec.training.tasks import SeveralTasks
from llmrec.trie import Trie, for_titles

if TYPE_CHECKING:
    from llmrec.generative.lc_rec import LCRec

TO_CODES, TO_TITLE = "title_to_codes", "codes_to_title"


def titled(train: Windows) -> IntArray:
    """Items of the training rows that have a title, ascending."""
    titles = train.catalogue.titles
    found = [item for item in np.flatnonzero(train.seen).tolist() if titles[item].strip()]
    return np.array(found, np.int64)


def with_alignment(training: Training, method: LCRec, train: Windows) -> Training:
    """A training on the next item and both alignment tasks.

    Args:
        training: on the next item, over answer tokens.
        method: knows model, codes, trie and configuration.
        train: training rows, whose items are aligned.

    Raises:
        DataError: an item whose prompt does not fit the cutoff.
    """
    own: Any = training.batch_loss
    catalogue, tokenizer = train.catalogue, method.lm.tokenizer
    options: dict[str, Any] = {"cutoff": method.config.cutoff, "style": method.style()}
    token_NL = method.codes.tokens(method.first)
    tasks: dict[str, tuple[Prompter, Trie]] = {
        TO_CODES: (AskForCodes(catalogue, tokenizer, **options), method.trie),
        TO_TITLE: (
            AskForTitle(catalogue, tokenizer, token_NL, **options),
            for_titles(catalogue.titles, tokenizer),
        ),
    }
    itself = _each_alone(catalogue, titled(train))
    rows: list[Example] = list(training.rows)
    losses = {}
    for task, (prompter, trie) in tasks.items():
        made = examples_of(prompter, trie, itself, method.config)
        rows += [replace(row, task=task, number=len(rows) + at) for at, row in enumerate(made)]
        norm = {"loss_norm": getattr(own.loss.config, "loss_norm", "token_mean")}
        loss = LML(norm, trie, vocabulary=own.loss.vocabulary, avt=trie.avt(itself.target_W))
        shared = prompter.shared if method.layouts.share_opening else 0
        losses[task] = TokenBatchLoss(loss, trie, shared=shared, packed=method.layouts.packed)
    return replace(training, rows=rows, batch_loss=SeveralTasks(own, losses))


def rows_by_task(training: Training) -> dict[str, int]:
    """How many rows of each task an epoch has."""
    tasks = [row.task or "next_item" for row in training.rows]
    return {task: tasks.count(task) for task in ("next_item", TO_CODES, TO_TITLE)}


def _each_alone(catalogue: Catalogue, item_W: IntArray) -> Windows:
    """A row for each item, whose history and target are the item itself."""
    nothing_W = np.zeros(len(item_W), np.int64)
    history = Ragged.of([[item] for item in item_W.tolist()])
    return Windows(catalogue, nothing_W, history, item_W.astype(np.int32), nothing_W)
