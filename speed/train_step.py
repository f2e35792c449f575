"""One training step of the embedded model on real Book rows: the released layout against ours.

    python -m speed.train_step [--rows 8] [--pairs 2]

Released: rows padded on the left to a multiple of 8, logits of every position, the library's own cross
entropy computed along the way and thrown away, one boolean [tokens x V] mask a row, then minus infinity,
log-sum-exp, mean. Ours: the shared opening once, no padding seen, the forced tail cut, no logits but those
of valid tokens. Both train the same adapters on the same rows with the same loss (MSL), in pairs in one
process; their gradients are compared. Times are process CPU seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.registry import datasets
from llmrec.lm import backbone
from llmrec.lm.backbone import Backbone, Lora
from llmrec.losses.msl import MSL
from llmrec.prompt import Prompter
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.packing import Example, lay_out
from llmrec.trie import Trie, for_titles

TARGET = 2.0


def released_masks(rows: Sequence[Example], trie: Trie, vocabulary: int) -> list[Tensor]:
    """Valid tokens of every answer position, bool [T, V] a row; made beforehand, as released."""
    masks = []
    for row in rows:
        nodes = trie.path[row.leaf]
        mask_TV = torch.zeros(len(nodes), vocabulary, dtype=torch.bool)
        for place, node in enumerate(nodes):
            mask_TV[place, torch.from_numpy(trie.children(int(node))[0].astype(np.int64))] = True
        masks.append(mask_TV)
    return masks


def released_step(lm: Backbone, rows: Sequence[Example], trie: Trie, masks: list[Tensor]) -> int:
    """Forward and backward in the released layout; returns the positions that went through it."""
    full = [np.concatenate([row.prompt.ids, trie.answer[row.leaf]]) for row in rows]
    width = -(-max(len(ids) for ids in full) // 8) * 8
    ids_BL = torch.full((len(rows), width), lm.pad_id)
    mask_BL, label_BL = torch.zeros_like(ids_BL), torch.full_like(ids_BL, -100)
    for b, (row, ids) in enumerate(zip(rows, full, strict=True)):
        ids_BL[b, -len(ids) :] = torch.from_numpy(ids.astype(np.int64))
        mask_BL[b, -len(ids) :] = 1
        answer = torch.from_numpy(trie.answer[row.leaf].astype(np.int64))
        label_BL[b, -len(answer) :] = answer
    out = lm.causal(input_ids=ids_BL, attention_mask=mask_BL, labels=label_BL, use_cache=False)
    total, count = torch.zeros(()), 0
    for b, mask_TV in enumerate(masks):
        size = len(mask_TV)
        logits_TV = out.logits[b, -size - 1 : -1].float().masked_fill(~mask_TV, float("-inf"))
        nll_T = logits_TV.logsumexp(1) - logits_TV.gather(1, label_BL[b, -size:, None])[:, 0]
        chosen_T = mask_TV.sum(1) > 1
        total, count = total + nll_T[chosen_T].sum(), count + int(chosen_T.sum())
    (total / count).backward()
    return ids_BL.numel()


def our_step(lm: Backbone, rows: Sequence[Example], batch_loss: TokenBatchLoss) -> int:
    """Forward and backward as the training loop does them; returns the tokens that went through."""
    before = batch_loss.tokens
    count = batch_loss.count(rows)
    for part in batch_loss.parts(rows, len(rows)):
        (batch_loss.sum(lm, part) / count).backward()
    return batch_loss.tokens - before


def timed(lm: Backbone, step: Callable[[], int]) -> tuple[float, int, Tensor]:
    """CPU seconds, positions and the gradient of one step."""
    lm.zero_grad()
    started = time.process_time()
    tokens = step()
    seconds = time.process_time() - started
    return seconds, tokens, torch.cat([p.grad.flatten() for p in lm.trainable().values()])


def setting(n_rows: int) -> tuple[Backbone, Trie, list[Example], TokenBatchLoss]:
    """The embedded model with adapters that do something, and the first rows of a real sample."""
    book = datasets.get("book")(None)
    lm = backbone.load("smollm2-135m", lora=Lora(dropout=0.0), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, value in lm.trainable().items():
        if "lora_B" in name:  # it starts at zero, which would leave half of the gradient zero
            torch.nn.init.normal_(value, std=0.02, generator=generator)
    trie = for_titles(book.catalogue.titles, lm.tokenizer)
    prompter = Prompter(book.catalogue, lm.tokenizer)
    train = book.split.train.sample(n_rows)
    rows = [
        Example(prompter.prompt(history, training=True), int(trie.leaf_of_item_N[target]))
        for history, target in zip(train.history, train.target_W, strict=True)
    ]
    avt = trie.avt(train.target_W)
    loss = MSL(None, trie, vocabulary=lm.vocabulary, avt=avt)
    assert lay_out(rows, trie, loss, pad=lm.pad_id).tokens > 0, "nothing to train on"
    return lm.train(), trie, rows, TokenBatchLoss(loss, trie, shared=prompter.shared)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8, help="rows in the step")
    parser.add_argument("--pairs", type=int, default=2, help="measured pairs, after one unmeasured")
    options = parser.parse_args()
    try:
        lm, trie, rows, batch_loss = setting(options.rows)
    except BenchError as fault:
        print(json.dumps({"train_step": None, "left_out": str(fault)}))
        return 0
    masks = released_masks(rows, trie, lm.vocabulary)
    ratios, seconds, worst = [], [], 0.0
    for pair in range(options.pairs + 1):
        slow, positions, wanted = timed(lm, lambda: released_step(lm, rows, trie, masks))
        fast, tokens, found = timed(lm, lambda: our_step(lm, rows, batch_loss))
        worst = max(worst, float((found - wanted).norm() / wanted.norm()))
        print(f"pair {pair}: released {slow:.2f} s, ours {fast:.2f} s", flush=True)
        if pair:
            ratios.append(slow / fast)
            seconds.append((slow, fast))
    result = {
        "rows": len(rows),
        "released_positions": positions,
        "our_tokens": tokens,
        "released_seconds": round(statistics.median(slow for slow, _ in seconds), 3),
        "our_seconds": round(statistics.median(fast for _, fast in seconds), 3),
        "times_faster": round(statistics.median(ratios), 2),
        "target": TARGET,
        "gradient_error": worst,
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }
    print(json.dumps({"train_step": result}))
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
