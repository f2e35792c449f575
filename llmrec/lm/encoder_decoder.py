"""A T5 as a backbone: the encoder reads the prompt once, the decoder writes the answer with a view of it.

Training and search ask two things of it: the states that predict answers in padded rows (``body``), and the
states of new answer tokens behind those that a cache holds (``decode``, see ``llmrec.decode.cross_tree``).
B rows, L columns of a row, P prompt tokens, T answer tokens, S answer tokens so far, H heads, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.lm.backbone import Backbone
from llmrec.lm.chance import seeded
from llmrec.lm.masks import additive
from llmrec.lm.scratch import ScratchShape


@dataclass(frozen=True, eq=False)
class Memory:
    """What the encoder made of some prompts.

    Attributes:
        state_BPD: its final states.
        mask_B11P: 0 at real tokens, the lowest number at padding.
    """

    state_BPD: Tensor
    mask_B11P: Tensor


class EncoderDecoder(Backbone):
    """A ``T5ForConditionalGeneration`` in the parts that are called apart.

    The decoder begins with the start token of the configuration, whose state predicts the first answer token.
    """

    auto = "AutoModelForSeq2SeqLM"
    echoed = 1

    @property
    def start(self) -> int:
        """The token that the decoder begins with."""
        return int(self.causal.config.decoder_start_token_id)

    def encode(self, embeds_BPD: Tensor, real_BP: Tensor) -> Memory:
        """Read prompts; which of their tokens follow which is told by relative positions alone.

        Args:
            embeds_BPD: from ``embed``.
            real_BP: True at real tokens, which may have padding on either side.
        """
        # ready to be added: a GPU would have to wait until transformers had looked for padding in another
        mask_B11P = additive(real_BP[:, None], embeds_BPD.dtype)
        out = self.causal.encoder(inputs_embeds=embeds_BPD, attention_mask=mask_B11P)
        return Memory(out.last_hidden_state, mask_B11P)

    def relative_bias(self, length: int) -> Tensor:
        """What the decoder adds to the score of a key at one position for a query at another.

        Args:
            length: number of positions.

        Returns:
            [H, length, length], by head, query and key.
        """
        attention = self.causal.decoder.block[0].layer[0].SelfAttention
        return attention.compute_bias(length, length)[0]

    def decode(
        self,
        embeds_BTD: Tensor,
        memory: Memory,
        *,
        bias_BHTS: Tensor,
        mask_B1TS: Tensor,
        past_key_values: Any = None,
    ) -> Tensor:
        """Final states of answer tokens, [B, T, D].

        Args:
            embeds_BTD: of the tokens, from ``embed``.
            memory: the prompts.
            bias_BHTS: from ``relative_bias``, for the positions at hand.
            mask_B1TS: additive; which answer tokens each token sees.
            past_key_values: an ``EncoderDecoderCache`` with the answer tokens before these; None for none.
        """
        decoder = self.causal.decoder
        hidden_BTD = decoder.dropout(embeds_BTD)
        # block by block, as the decoder itself would count the tokens of a tree as one sequence
        for block in decoder.block:
            hidden_BTD = block(
                hidden_BTD,
                attention_mask=mask_B1TS,
                position_bias=bias_BHTS,
                encoder_hidden_states=memory.state_BPD,
                encoder_attention_mask=memory.mask_B11P,
                past_key_values=past_key_values,
            )[0]
        return decoder.dropout(decoder.final_layer_norm(hidden_BTD))

    def body(
        self, *, embeds_BLD: Tensor, prompt_B: IntArray | None = None, **unread: Any
    ) -> tuple[Tensor, Any]:
        """Final states of rows, each a prompt and the answer behind it; for ``training.packing.states``.

        The state that predicts the first answer token stands in the column of the prompt's last token, as in
        a causal model. Columns in front of all of these hold 0.

        Args:
            embeds_BLD: from ``embed``.
            prompt_B: prompt tokens of each row.
            **unread: what a causal model is told beside: mask and positions follow from ``prompt_B``.

        Raises:
            ConfigError: rows that do not say where their answers begin.
        """
        if prompt_B is None or unread.get("past_key_values") is not None:
            raise ConfigError("an encoder-decoder reads a prompt and writes one answer behind it")
        first, widest = int(prompt_B.min()) - 1, int(prompt_B.max())
        column_L = torch.arange(embeds_BLD.shape[1], device=embeds_BLD.device)
        end_B1 = torch.as_tensor(prompt_B, device=embeds_BLD.device)[:, None]
        memory = self.encode(embeds_BLD[:, :widest], column_L[:widest] < end_B1)
        column_T = column_L[first:]
        start_11D = self.embed(torch.full_like(column_L[:1], self.start))[None]
        at_start_BT1 = (column_T == end_B1 - 1)[..., None]
        embeds_BTD = torch.where(at_start_BT1, start_11D, embeds_BLD[:, first:])
        answer_B1T = (column_T >= end_B1 - 1)[:, None]
        causal_TT = column_T <= column_T[:, None]
        hidden_BTD = self.decode(
            embeds_BTD,
            memory,
            bias_BHTS=self.relative_bias(len(column_T))[None],
            mask_B1TS=additive(answer_B1T & causal_TT, embeds_BLD.dtype),
        )
        return torch.nn.functional.pad(hidden_BTD, (0, 0, first, 0)), None

    def own_logits(self, prompt_P: IntArray, answer_T: IntArray) -> Tensor:
        """See ``Backbone.own_logits``."""
        asked = {"input_ids": prompt_P.tolist(), "decoder_input_ids": [self.start, *answer_T]}
        out = self.causal(**{k: torch.tensor([v], device=self.device) for k, v in asked.items()})
        return out.logits[0]


def small_t5(
    name: str,
    tokenizer: Any,
    *,
    shape: ScratchShape,
    start: int,
    dropout: float,
    seed: int,
    device: str = "cpu",
) -> EncoderDecoder:
    """A small T5 with random weights, all of them trained; leaves torch's global generator untouched.

    Args:
        name: what rows and messages call it.
        tokenizer: gives the vocabulary, the end token and the padding.
        shape: of encoder and decoder, each with so many layers.
        start: the token that the decoder begins with.
        dropout: share of activations and attention weights that training sets to 0.
        seed: of the weights.
        device: where to put it.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    special: dict[str, Any] = {"decoder_start_token_id": start}
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=shape.hidden,
        d_kv=shape.hidden // shape.heads,
        d_ff=shape.feed_forward,
        num_layers=shape.layers,
        num_heads=shape.heads,
        dropout_rate=dropout,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **special,
    )
    with seeded(seed):
        model: Any = T5ForConditionalGeneration(config)
    return EncoderDecoder(model.to(device), tokenizer, name=name, pretrained=False)
