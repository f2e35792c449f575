"""A language model with codes as new tokens behind its own.

Where adapters are trained, of the tables of the embedding and the head only the rows of the codes are: the
gradient of all other rows is set to 0 before the optimizer sees it, and without weight decay AdamW then
leaves them as they are, bit for bit. A model whose weights are all trained trains these tables as a whole.
V tokens of the model's own, C codes, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmrec.lm.backbone import Backbone
from llmrec.sid.codes import Codes
from llmrec.sid.vocabulary import ExtendedTokenizer
from llmrec.trie import text_tokens


class ExtendedBackbone(Backbone):
    """A backbone that reads and writes codes.

    Args:
        lm: the backbone below; its model is taken over, not copied.
        codes: each gets a row, first a random one of mean length.
        seed: of these rows.

    Attributes:
        first: V, the token of the first code.
    """

    def __init__(self, lm: Backbone, codes: Codes, *, seed: int) -> None:
        self.first = lm.vocabulary
        tokenizer = ExtendedTokenizer(lm.tokenizer, self.first, codes)
        below: dict[str, Any] = {key: getattr(lm, key) for key in ("name", "pretrained", "quant")}
        adapters = bool(lm.adapted_maps)
        super().__init__(lm.model, tokenizer, **below)
        with torch.random.fork_rng():
            self.causal.resize_token_embeddings(self.first + codes.n_tokens, mean_resizing=False)
        chance = torch.Generator().manual_seed(seed)
        for table_VD in self._tables():
            drawn_CD = torch.randn(codes.n_tokens, table_VD.shape[1], generator=chance)
            self._set(table_VD, drawn_CD.to(table_VD))
            if adapters:
                table_VD.requires_grad_(True)
                table_VD.register_hook(self._of_codes)
        self._codes_alone = adapters

    def start_from_titles(self, codes: Codes, titles: Sequence[str], items: Sequence[int]) -> None:
        """Set the row of each code to the mean embedding of the title tokens of the items that have it.

        Rows get the mean length of the model's own; a code of no item keeps its random row.

        Args:
            codes: of all items.
            titles: by item id.
            items: those that count.
        """
        token_NL = torch.from_numpy(codes.tokens(0)).long()
        words = text_tokens(self.tokenizer, [titles[item] for item in items])
        for table_VD in self._tables():
            own_VD = table_VD.detach()[: self.first].float()
            sum_CD = own_VD.new_zeros(codes.n_tokens, own_VD.shape[1])
            count_C = own_VD.new_zeros(codes.n_tokens)
            for item, ids in zip(items, words, strict=True):
                sum_CD[token_NL[item]] += own_VD[ids].sum(0)
                count_C[token_NL[item]] += len(ids)
            known_C = count_C > 0
            start_CD = table_VD.detach()[self.first :].float().clone()
            start_CD[known_C] = sum_CD[known_C] / count_C[known_C, None]
            self._set(table_VD, start_CD)

    def learnt(self) -> dict[str, Tensor]:
        """What training changes: of the tables of embedding and head the rows of the codes."""
        if not self._codes_alone:
            return super().learnt()
        tables = self._tables()
        rest = {
            k: p for k, p in self.trainable().items() if all(p is not table for table in tables)
        }
        rows = {f"codes_{n}": table.detach()[self.first :] for n, table in enumerate(tables)}
        return {**rest, **rows}

    def _tables(self) -> list[torch.nn.Parameter]:
        """The weights of the embedding and, if it has its own, of the head."""
        layers = (self.causal.get_input_embeddings(), self.causal.get_output_embeddings())
        return list({id(layer.weight): layer.weight for layer in layers}.values())

    def _of_codes(self, gradient_VD: Tensor) -> Tensor:
        kept_VD = torch.zeros_like(gradient_VD)
        kept_VD[self.first :] = gradient_VD[self.first :]
        return kept_VD

    @torch.no_grad()
    def _set(self, table_VD: Tensor, row_CD: Tensor) -> None:
        """Give the codes these rows, scaled to the mean length of the model's own."""
        length = table_VD[: self.first].float().norm(dim=1).mean()
        table_VD[self.first :] = (
            row_CD.float() * (length / row_CD.float().norm(dim=1, keepdim=True))
        ).to(table_VD)
