"""A language model writes the rationales. M entries, L tokens, C candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from bench.types import Windows
from llmrec.decode.generate import NO_SAMPLING, own_generation
from llmrec.llm_cf._cot import SYSTEM, Entries, question
from llmrec.lm.backbone import Backbone
from llmrec.prompt import bos_of


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How texts are written.

    Attributes:
        candidates: texts per entry; 1 is greedy, more are sampled.
        new_tokens: longest text.
        temperature, top_k: of the sampling.
        cutoff: longest prompt; the oldest history items are left out to fit.
        batch: prompts at a time.
    """

    candidates: int = 1
    new_tokens: int = 160
    temperature: float = 0.6
    top_k: int = 50
    cutoff: int = 1024
    batch: int = 8


class Writer:
    """Prompts in the model's own chat format, and what it answers.

    Attributes:
        read, written: tokens so far.
    """

    def __init__(self, lm: Backbone, rule: Writing) -> None:
        self.lm, self.rule = lm, rule
        self.read = self.written = 0

    def prompt(self, train: Windows, entries: Entries, at: int) -> tuple[str, list[int]]:
        """Text and tokens of one prompt.

        Args:
            train: training rows.
            entries: all entries.
            at: number of the entry.
        """
        row, item, label = (int(x[at]) for x in (entries.row_M, entries.item_M, entries.label_M))
        n = len(train.history[row])
        for dropped in range(n):
            text = self._chat(question(train, row, item, label, dropped))
            ids = self.lm.tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) <= self.rule.cutoff or dropped == n - 1:
                return text, list(ids)
        raise AssertionError("an entry has a history")

    def _chat(self, asked: str) -> str:
        tokenizer = self.lm.tokenizer
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
        if getattr(tokenizer, "chat_template", None):
            return str(
                tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            )
        front = tokenizer.decode(bos_of(tokenizer)) if bos_of(tokenizer) else ""
        return f"{front}{SYSTEM}\n\n{asked}\n\nReasoning:\n"

    def write(
        self, prompts: Sequence[Sequence[int]], *, seed: int, sample: bool
    ) -> list[list[str]]:
        """Candidates for each prompt of a batch.

        Args:
            prompts: their tokens.
            seed: of the sampling.
            sample: whether to sample even a single candidate (a second try).
        """
        width = max(map(len, prompts))
        pad = self.lm.pad_id
        ids_BL = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
        mask_BL = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        device = self.lm.device
        with own_generation(self.lm), torch.random.fork_rng():
            torch.manual_seed(seed)
            out_SL = self.lm.causal.generate(
                input_ids=ids_BL.to(device),
                attention_mask=mask_BL.to(device),
                generation_config=self._generation(sample),
            )
        answer_SL = out_SL[:, width:].cpu()
        self.read += sum(map(len, prompts))
        texts = [self._text(answer_L.tolist()) for answer_L in answer_SL]
        c = self.rule.candidates
        return [texts[i * c : (i + 1) * c] for i in range(len(prompts))]

    def _text(self, ids: list[int]) -> str:
        eos = self.lm.tokenizer.eos_token_id
        kept = ids[: ids.index(eos)] if eos in ids else ids
        self.written += len(kept)
        # tags stay visible, so that a leaked one is found
        return str(self.lm.tokenizer.decode(kept, clean_up_tokenization_spaces=False)).strip()

    def _generation(self, sample: bool) -> GenerationConfig:
        options: dict[str, Any] = dict(NO_SAMPLING)
        if sample or self.rule.candidates > 1:
            options |= {
                "do_sample": True,
                "temperature": self.rule.temperature,
                "top_k": self.rule.top_k,
            }
        return GenerationConfig(
            **options,
            num_return_sequences=self.rule.candidates,
            max_new_tokens=self.rule.new_tokens,
            eos_token_id=self.lm.tokenizer.eos_token_id,
            pad_token_id=self.lm.pad_id,
        )
