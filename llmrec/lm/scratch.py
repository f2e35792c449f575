"""Language models without pretraining: ``scratch`` for real experiments on a CPU, ``tiny`` for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.types import IntArray
from llmrec.trie import text_tokens


@dataclass(frozen=True, kw_only=True)
class ScratchShape:
    """Size of a small Llama with tied embeddings.

    Attributes:
        hidden: width of the residual stream.
        layers, heads: depth and attention heads; keys and values have as many heads.
        feed_forward: width inside the gated feed-forward layer.
        context: longest sequence.
    """

    hidden: int = 128
    layers: int = 2
    heads: int = 2
    feed_forward: int = 384
    context: int = 1024


TINY = ScratchShape(hidden=48, layers=2, heads=2, feed_forward=96, context=1024)


def llama(shape: ScratchShape, vocabulary: int, tokenizer: Any, seed: int) -> Any:
    """A ``LlamaForCausalLM`` with random weights; leaves torch's global generator untouched.

    Args:
        shape: size of the model.
        vocabulary: number of tokens.
        tokenizer: gives the ids of its special tokens.
        seed: of the weights.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    from llmrec.lm.chance import seeded

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    with seeded(seed):
        return LlamaForCausalLM(config)


class CompactTokenizer:
    """A tokenizer of which only the tokens that occur are kept, renumbered 0..V-1.

    For models with random weights only, which have learnt nothing about the other tokens. Their output layer
    becomes about five times smaller. The fact ``vocabulary`` of a row says how many tokens were kept.

    Args:
        tokenizer: any Hugging Face tokenizer.
        kept_V: old ids of the kept tokens, ascending; the end token must be among them.
    """

    def __init__(self, tokenizer: Any, kept_V: IntArray) -> None:
        self.tokenizer, self.kept_V = tokenizer, kept_V
        self._new = np.full(int(max(len(tokenizer), kept_V.max() + 1)), -1, np.int64)
        self._new[kept_V] = np.arange(len(kept_V))
        self.eos_token_id = int(self._new[tokenizer.eos_token_id])
        assert self.eos_token_id >= 0, "the end token must be kept"
        self.pad_token_id, self.bos_token_id = self.eos_token_id, None

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str]) -> CompactTokenizer:
        """Keep the tokens of these texts, the letters of plain ASCII and the end token.

        Args:
            tokenizer: any Hugging Face tokenizer.
            texts: what it has to be able to read later.
        """
        plain = [chr(code) for code in range(32, 127)] + ["\n"]
        ids = text_tokens(tokenizer, [*texts, *plain])
        kept = {token for row in ids for token in row} | {tokenizer.eos_token_id}
        return cls(tokenizer, np.array(sorted(kept), np.int32))

    def __len__(self) -> int:
        return len(self.kept_V)

    def get_vocab(self) -> dict[str, int]:
        """Token strings and their new ids."""
        names = self.tokenizer.convert_ids_to_tokens(self.kept_V.tolist())
        return {name: new for new, name in enumerate(names)}

    def __call__(self, text: str | Sequence[str], **options: Any) -> dict[str, Any]:
        """Token ids of a text or of several, without special tokens.

        Raises:
            ValueError: a token that was not kept.
        """
        texts = [text] if isinstance(text, str) else list(text)
        renumbered = [self._renumber(row) for row in text_tokens(self.tokenizer, texts)]
        return {"input_ids": renumbered[0] if isinstance(text, str) else renumbered}

    def _renumber(self, ids: Sequence[int]) -> list[int]:
        new = self._new[np.asarray(ids, np.int64)]
        if (new < 0).any():
            lost = self.tokenizer.decode([ids[int(np.argmin(new))]])
            raise ValueError(f"the compact vocabulary has no token for {lost!r}")
        return new.tolist()

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """The text behind token ids."""
        return str(self.tokenizer.decode(self.kept_V[np.asarray(ids, np.int64)], **options))

    def batch_decode(self, rows: Sequence[Sequence[int]], **options: Any) -> list[str]:
        """The texts behind several rows of token ids."""
        return [self.decode(ids, **options) for ids in rows]


def tiny_tokenizer(*, bos: bool = False, vocabulary: int = 512) -> Any:
    """A byte-level BPE tokenizer trained on the prompt's own words; nothing is downloaded.

    Args:
        bos: whether it puts a beginning token in front of a text.
        vocabulary: number of tokens, at least 260.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from llmrec.prompt import DOMAINS, prompt_text

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([prompt_text(["A", "B"], domain) for domain in DOMAINS], trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
