"""The tree of an encoder-decoder: prompts are read once by the encoder, and the tree is the decoder's.

In the decoder's own sequence the prompt is the start token alone; every node sees it, the tokens on its way
and, by cross attention, its user's prompt. B users, P prompt tokens, H heads, N positions of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from llmrec.decode.device_trie import DeviceTrie
from llmrec.decode.tree import Tree, padded
from llmrec.lm.backbone import Backbone
from llmrec.lm.encoder_decoder import EncoderDecoder
from llmrec.lm.masks import additive
from llmrec.prompt import Prompt


def tree_of(lm: Backbone, prompts: Sequence[Prompt], trie: DeviceTrie) -> Tree:
    """The tree that a model explores.

    Args:
        lm: the model, in evaluation mode.
        prompts: one per user.
        trie: its nodes name the explored prefixes.

    Raises:
        ConfigError: the model's attention does not take an explicit mask.
    """
    return (CrossTree if isinstance(lm, EncoderDecoder) else Tree)(lm, prompts, trie)


class CrossTree(Tree):
    """As ``Tree``, of the decoder.

    Args:
        lm: the model, in evaluation mode.
        prompts: one per user.
        trie: its nodes name the explored prefixes.
    """

    lm: EncoderDecoder

    def __init__(self, lm: Backbone, prompts: Sequence[Prompt], trie: DeviceTrie) -> None:
        assert isinstance(lm, EncoderDecoder), f"{lm.name} has no encoder"
        with torch.no_grad():
            ids_BP, _ = padded(prompts)
            length_B1 = np.array([[len(prompt)] for prompt in prompts])
            real_BP = torch.as_tensor(np.arange(ids_BP.shape[1]) < length_B1, device=lm.device)
            self.memory = lm.encode(lm.embed(torch.as_tensor(ids_BP, device=lm.device)), real_BP)
            self.bias_HNN = lm.relative_bias(trie.places + 1)
        self.cross = DynamicCache()  # keys and values of the prompts, by layer; filled once
        start = Prompt(np.array([lm.start], np.int32), np.zeros(1, np.int32))
        super().__init__(lm, [start] * len(prompts), trie)
        # the prompts' keys are of all users, so all go through every pass
        self.costs = replace(self.costs, few=0.0)

    def _forward(
        self,
        tokens: tuple[Tensor, Tensor],
        position: Tensor,
        seen: Tensor,
        at: Tensor,
        cache: Cache,
    ) -> Tensor:
        embeds = self.lm.embed(tokens[0])
        bias = self.bias_HNN[:, position[:, :, None], at[:, None]].transpose(0, 1)
        return self.lm.decode(
            embeds,
            self.memory,
            bias_BHTS=bias,
            mask_B1TS=additive(seen, embeds.dtype),
            past_key_values=EncoderDecoderCache(cache, self.cross),
        )
