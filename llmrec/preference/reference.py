"""Log-probabilities of every answer under the reference, the model before a preference training.

They have to be the numbers that the policy gives as long as it is the same model. In 16 bits a
log-probability depends, by some hundredths, on the shape of the batch it is computed in; so they are computed
there in the very micro-batches in which the training will see a row first. In 32 bits the batches are of
similar length, which is faster.
W rows, E draws of negatives, J = 1 + K answers a row (the positive first), B rows of a micro-batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench import ranks
from bench.cell import Run
from bench.disk.sealed_arrays import read_array, write_array
from bench.errors import ContractError, out_of_memory
from bench.types import FloatArray, IntArray
from llmrec.lm.backbone import Backbone
from llmrec.preference.rows import PreferenceRow, longest_first, parts_of
from llmrec.prompt import Prompt
from llmrec.training.documents import Room
from llmrec.training.order import Shuffle
from llmrec.training.shared_prefix import LogProbs
from llmrec.trie import Trie


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Which rows go through the model together.

    Attributes:
        size: rows of a forward pass; halved where GPU memory runs out.
        step: rows of an optimizer step, over all ranks.
        seed: of the order in which the training draws them.
        room: where rows stand end to end, how long the rows of tokens are.
    """

    size: int
    step: int
    seed: int
    room: Room | None = None

    def of_training(self, rows: Sequence[PreferenceRow], trie: Trie, epoch: int) -> list[IntArray]:
        """Row numbers of this rank's micro-batches of an epoch, as the training cuts them.

        Args:
            rows: all training rows.
            trie: knows the length of their answers.
            epoch: from 0.
        """
        order = Shuffle(len(rows), self.seed)
        order.set_epoch(epoch)
        drawn, made = list(order), list[IntArray]()
        for start in range(0, len(drawn), self.step):
            mine = np.array(ranks.mine(drawn[start : start + self.step]), np.int64)
            parts = parts_of([rows[row] for row in mine], trie, self.size, self.room)
            made += [mine[part] for part in parts]
        return made

    def by_length(self, rows: Sequence[PreferenceRow], trie: Trie) -> list[IntArray]:
        """Row numbers of this rank's share in batches of similar length.

        Args:
            rows: all training rows.
            trie: knows the length of their answers.
        """
        mine = ranks.mine(longest_first(rows, trie))
        parts = parts_of([rows[row] for row in mine], trie, self.size, self.room)
        return [mine[part] for part in parts]


def with_reference(
    lm: Backbone, rows: Sequence[PreferenceRow], log_probs: LogProbs, batches: Batches, run: Run
) -> list[PreferenceRow]:
    """The rows with log-probabilities of their answers under ``lm`` as it stands.

    They are kept in ``run.folder``, so that an interrupted run does not compute them again.

    Args:
        lm: the start model, before any step of this training.
        rows: training rows without reference.
        log_probs: how log-probabilities of answers are found.
        batches: which rows go through the model together.
        run: its folder keeps the result; hears of progress.

    Raises:
        ContractError: one of them is not finite.
    """
    leaf_EWJ = np.stack([row.leaf_EJ for row in rows], 1)
    # the name holds a hash of weights, prompts and answers, so a stale file is never read
    cut = f"-{batches.step}-{batches.size}-{ranks.size()}" if coarse(lm) else ""
    packed = f"-{batches.room.budget}" if batches.room else ""
    path = run.folder / f"reference-{_mark(lm, rows, leaf_EWJ)}{cut}{packed}.npy"
    reference_EWJ = read_array(path)
    if reference_EWJ is None:
        reference_EWJ = _all_references(lm, rows, leaf_EWJ, log_probs, batches, run)
        if ranks.rank() == 0:
            write_array(path, reference_EWJ)
    bad = np.flatnonzero(~np.isfinite(reference_EWJ).all((0, 2)))
    if len(bad):
        raise ContractError(
            f"the reference gives training row {bad[0]} a log-probability that is not finite; the "
            "start model is broken, run its cell again with --reuse never"
        )
    return [
        dataclasses.replace(row, reference_EJ=reference_EWJ[:, w].astype(np.float32))
        for w, row in enumerate(rows)
    ]


def coarse(lm: Backbone) -> bool:
    """Whether a model computes in 16 bits or fewer, so that rounding shows in a log-probability."""
    return lm.quant is not None or torch.finfo(lm.dtype).bits < 32


def _all_references(
    lm: Backbone,
    rows: Sequence[PreferenceRow],
    leaf_EWJ: IntArray,
    log_probs: LogProbs,
    batches: Batches,
    run: Run,
) -> FloatArray:
    """Log-probabilities of all answers, float32 [E, W, J]; each rank computes its share of the rows."""
    lm.eval()
    prompts = [row.prompt for row in rows]
    reference_EWJ, done = np.zeros(leaf_EWJ.shape, np.float32), 0
    for e, leaf_WJ in enumerate(leaf_EWJ):
        if coarse(lm):
            parts = batches.of_training(rows, log_probs.trie, e)
        else:
            parts = batches.by_length(rows, log_probs.trie)
        for part_B, log_prob_BJ in _reference(lm, prompts, leaf_WJ, log_probs, parts):
            reference_EWJ[e, part_B] = log_prob_BJ
            done += len(part_B)
            total = len(leaf_EWJ) * sum(map(len, parts))
            run.progress(0, 1, reference=done / total)
    ranks.summed(torch.from_numpy(reference_EWJ))  # a row that is another rank's is 0 here
    return reference_EWJ


@torch.no_grad()
def _reference(
    lm: Backbone,
    prompts: Sequence[Prompt],
    leaf_WJ: IntArray,
    log_probs: LogProbs,
    parts: Sequence[IntArray],
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Rows [B] and their log-probabilities [B, J]; halves the batches when GPU memory runs out."""
    size, waiting = max(map(len, parts), default=1), list(parts)[::-1]
    while waiting:
        rows = waiting.pop()
        if len(rows) > size:
            waiting += [rows[size:], rows[:size]]
            continue
        try:
            log_prob_BJ, _ = log_probs(lm, [prompts[row] for row in rows], leaf_WJ[rows])
        except RuntimeError as fault:
            if len(rows) == 1 or not out_of_memory(fault):
                raise
            size = len(rows) // 2
            torch.cuda.empty_cache()
            waiting.append(rows)
            continue
        yield rows, log_prob_BJ.float().cpu().numpy()


def _mark(lm: Backbone, rows: Sequence[PreferenceRow], leaf_EWJ: IntArray) -> str:
    """A hash of the weights, prompts and answers that the reference depends on, 16 hex digits."""
    made = hashlib.sha256(lm.name.encode() + np.ascontiguousarray(leaf_EWJ).tobytes())
    for ids, slots in ((row.prompt.ids, row.prompt.slots) for row in rows):
        made.update(f"{len(ids)} ".encode() + ids.tobytes() + slots.tobytes())
    for name, value in sorted({**lm.learnt(), **dict(lm.named_buffers())}.items()):
        whole = value.detach().cpu().contiguous().reshape(-1)
        made.update(f"{name} {whole.dtype} ".encode() + whole.view(torch.uint8).numpy().tobytes())
    return made.hexdigest()[:16]
