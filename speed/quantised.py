"""Weights of 8 and 4 bits against bfloat16: how far log-probabilities of titles move, on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llmrec.lm.backbone import load
from llmrec.lm.names import EMBEDDED
from llmrec.losses.lml import LML
from llmrec.prompt import Prompt
from llmrec.training.shared_prefix import LogProbs
from llmrec.trie import Trie

PROMPTS, TITLES = 16, 8


def quantised(device: str, prompts: Sequence[Prompt], trie: Trie) -> dict[str, Any]:
    """Differences of the embedded model's log-probabilities of random titles, in nats a title.

    Args:
        device: ``cuda``, or ``cpu``, where this is left out.
        prompts: of the embedded model's tokenizer; the first few are taken.
        trie: the titles.

    Returns:
        For 8 and 4 bits the mean difference and the share of prompts whose best title is the same; else why
        this was left out.
    """
    if device == "cpu":
        return {"quantised": "left out, as there is no GPU"}
    if importlib.util.find_spec("bitsandbytes") is None:
        return {"quantised": "left out, as bitsandbytes is not installed"}
    shown = list(prompts[:PROMPTS])
    leaf_BJ = np.random.default_rng(0).integers(0, trie.n_leaves, (len(shown), TITLES))
    found_BJ = {}
    for bits in (None, 8, 4):
        lm = load(EMBEDDED, dtype=torch.bfloat16, device=device, quant=bits).eval()
        loss = LML(None, trie, vocabulary=lm.vocabulary, avt=1.0)
        with torch.no_grad():
            found_BJ[bits] = LogProbs(loss, trie)(lm, shown, leaf_BJ)[0].float().cpu()
    whole_BJ = found_BJ.pop(None)
    made: dict[str, Any] = {}
    for bits, log_prob_BJ in found_BJ.items():
        same_B = log_prob_BJ.argmax(1) == whole_BJ.argmax(1)
        made[f"quant{bits}.nats"] = float((log_prob_BJ - whole_BJ).abs().mean())
        made[f"quant{bits}.same_best"] = float(same_B.float().mean())
    return made
