"""A causal language model with its tokenizer, loaded by name.

``load`` takes ``smollm2-135m`` (inside a package), ``scratch`` and ``tiny`` (random weights), a local
folder, a ``.gguf`` file or a hub id. Nothing here computes logits: ``body`` ends after the final norm,
and the output layer is a ``Head`` that losses and decoders apply to the rows they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.lm import smollm2
from llmrec.lm.head import Head
from llmrec.lm.lora import Lora, adapted
from llmrec.lm.names import SCRATCH, TINY_NAME
from llmrec.lm.pretrained import pretrained
from llmrec.lm.scratch import TINY, CompactTokenizer, ScratchShape, llama, tiny_tokenizer

# what these compute from ids is more than a look-up; python -m llmrec.support finds the others
READS_IDS = frozenset({"falcon_h1", "gemma3n_text", "gemma4_text", "gemma4_unified_text"})


class Backbone(torch.nn.Module):
    """A causal language model in three parts that are called apart: embedding, body and head.

    Attributes:
        model: the Hugging Face model, wrapped by peft if it has adapters.
        tokenizer: its tokenizer.
        name: what it was loaded as.
        pretrained: False for random weights.
        quant: bits of the frozen weights, None for plain ones.
        auto: transformers' class that makes such a model of its configuration.
        echoed: tokens in front of an answer in what ``generate`` returns when it begins with embeddings.
    """

    auto: ClassVar[str] = "AutoModelForCausalLM"
    echoed: ClassVar[int] = 0

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        pretrained: bool,
        quant: int | None = None,
    ) -> None:
        super().__init__()
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"the tokenizer of {name!r} has no end token; answers need one")
        self.model, self.tokenizer = model, tokenizer
        self.name, self.pretrained, self.quant = name, pretrained, quant
        self._merged = False

    @property
    def causal(self) -> Any:
        """The Hugging Face model under the adapters."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def head(self) -> Head:
        """The output layer with its scaling and capping."""
        return Head.of(self.causal)

    @property
    def adapted_maps(self) -> list[str]:
        """Names of the linear maps that have an adapter, sorted; empty without adapters."""
        peft = getattr(self.model, "peft_config", {})
        return sorted({name for one in peft.values() for name in one.target_modules})

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.causal.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights that are not quantised."""
        return self.causal.get_input_embeddings().weight.dtype

    @property
    def vocabulary(self) -> int:
        """Rows of the output layer (may exceed the tokenizer's length)."""
        return int(self.causal.get_output_embeddings().weight.shape[0])

    @property
    def pad_id(self) -> int:
        """A token to fill ragged rows with; it is always masked."""
        pad = self.tokenizer.pad_token_id
        rows = self.causal.get_input_embeddings().weight.shape[0]
        # a pad token that was added to the tokenizer alone has no row
        return int(self.tokenizer.eos_token_id if pad is None or pad >= rows else pad)

    @property
    def reads_ids(self) -> bool:
        """Whether the model needs token ids beside their embeddings (a factor, or embeddings by layer)."""
        return self.causal.config.get_text_config().model_type in READS_IDS

    def embed(self, ids_BL: Tensor, slots_BL: Tensor | None = None) -> Tensor:
        """Input embeddings [B, L, D]; models with soft tokens override this and fill the slots.

        Args:
            ids_BL: token ids.
            slots_BL: 0 for an ordinary token, else what stands in the slot (``Prompt.slots``); ignored
                here.
        """
        return self.causal.get_input_embeddings()(ids_BL)

    def body(
        self,
        *,
        embeds_BLD: Tensor,
        attention_mask: Tensor,
        ids_BL: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        prompt_B: IntArray | None = None,
    ) -> tuple[Tensor, Any]:
        """Hidden states after the final norm, and the cache.

        Args:
            embeds_BLD: from ``embed``.
            ids_BL: the tokens that ``embeds_BLD`` were made of; only models with ``reads_ids`` look at them.
            attention_mask: [B, past + L] with 1 for real tokens, or a ready mask [B, 1, L, past + L].
            position_ids: [B, L]; by default counted along the mask.
            past_key_values: cache of an earlier call.
            use_cache: whether to return one.
            prompt_B: tokens of each row's prompt; only models that read prompts and answers apart look at it.
        """
        # transformers would count padding on the left as positions
        if position_ids is None and attention_mask.ndim == 2:
            counted = attention_mask.long().cumsum(-1) - 1
            position_ids = counted.clamp(min=0)[:, -embeds_BLD.shape[1] :]
        with self._given(embeds_BLD, ids_BL) as inputs:
            out = self._decoder(
                **inputs,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
            )
        return out.last_hidden_state, out.past_key_values if use_cache else None

    def own_logits(self, prompt_P: IntArray, answer_T: IntArray) -> Tensor:
        """What the model's own forward pass says of each next token of an answer, [T + 1, V].

        Args:
            prompt_P: tokens of a prompt.
            answer_T: tokens of an answer, without the last.
        """
        ids_1L = torch.tensor([[*prompt_P.tolist(), *answer_T.tolist()]], device=self.device)
        own: Tensor = self.causal(input_ids=ids_1L).logits[0, len(prompt_P) - 1 :]
        return own

    @property
    def _decoder(self) -> Any:
        """The model without its head; some classes do not say under which name they have it."""
        below = self.causal.base_model
        return self.causal.model if below is self.causal else below

    @contextmanager
    def _given(self, embeds_BLD: Tensor, ids_BL: Tensor | None) -> Iterator[dict[str, Tensor]]:
        """The inputs of the model: embeddings, or ids with these embeddings in place of its own."""
        if not self.reads_ids or ids_BL is None:
            yield {"inputs_embeds": embeds_BLD}
            return
        # the model goes on from the ids as always, so what it adds to embeddings is not left out
        layer = self.causal.get_input_embeddings()
        hook = layer.register_forward_hook(lambda *_: embeds_BLD)
        try:
            yield {"input_ids": ids_BL}
        finally:
            hook.remove()

    def trainable(self) -> dict[str, Tensor]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def learnt(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint holds; soft tokens add theirs whether or not they are trained."""
        return self.trainable()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer."""
        return [{"params": list(self.trainable().values())}]

    def begin_step(self, step: int, total: int) -> None:
        """Called before each optimizer step, on every rank; a curriculum decides here.

        Args:
            step: number of the coming step, from 0.
            total: steps of the whole training.
        """

    def merge(self, *, rounding: bool = False) -> None:
        """Fold the adapters into the weights for faster decoding; training ends here.

        Weights of fewer than 32 bits stay as they are: what is scored is then what was validated. A change
        smaller than half the last digit would be lost (a quarter of them in bfloat16 after 60 steps).

        Args:
            rounding: fold them into such weights all the same.
        """
        exact = self.quant is None and torch.finfo(self.dtype).bits >= 32
        if (exact or rounding) and hasattr(self.model, "peft_config") and not self._merged:
            self.model.merge_adapter()
            self._merged = True


def load(
    name: str,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    seed: int = 0,
    lora: Lora | None = None,
    quant: int | None = None,
) -> Backbone:
    """A backbone by name.

    Args:
        name: ``smollm2-135m``, ``scratch``, ``tiny``, a folder, a ``.gguf`` file or a hub id.
        dtype: of the weights; by default float32 on a CPU and bfloat16 elsewhere.
        device: where to put it.
        seed: for random weights and adapters.
        lora: adapters to train instead of the weights.
        quant: 8 or 4 for quantised frozen weights (needs bitsandbytes).

    Raises:
        Unavailable: the weights, a package or a device is missing; says how to get it.
        ConfigError: adapters that do not fit the model, or quantisation of random weights.
    """
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    if name in {SCRATCH, TINY_NAME}:
        if lora or quant:
            raise ConfigError(f"{name!r} has random weights: it takes neither lora nor quant")
        tokenizer = tiny_tokenizer() if name == TINY_NAME else embedded_tokenizer()
        return small(name, tokenizer, shape=None, seed=seed, device=device).to(dtype)
    model, tokenizer = pretrained(name, dtype=dtype, device=device, quant=quant)
    if lora is not None:
        model = adapted(model, lora, seed=seed, quantised=quant is not None)
    return Backbone(model, tokenizer, name=name, pretrained=True, quant=quant)


def small(
    name: str, tokenizer: Any, *, shape: ScratchShape | None, seed: int, device: str = "cpu"
) -> Backbone:
    """A small Llama with random weights, all of them trained.

    Args:
        name: ``scratch`` or ``tiny``; chooses the default size.
        tokenizer: gives the vocabulary and the end token.
        shape: size of the model; None for the default of ``name``.
        seed: of the weights.
        device: where to put it.
    """
    shape = shape or (TINY if name == TINY_NAME else ScratchShape())
    model = llama(shape, len(tokenizer), tokenizer, seed).to(device)
    return Backbone(model, tokenizer, name=name, pretrained=False)


def scratch(
    texts: Sequence[str], *, shape: ScratchShape | None = None, seed: int, device: str = "cpu"
) -> Backbone:
    """The backbone ``scratch`` with only the tokens that these texts need.

    Args:
        texts: all texts that prompts and answers are made of.
        shape: size of the model; None for the default.
        seed: of the weights.
        device: where to put it.

    Raises:
        Unavailable: the embedded model, whose tokenizer is used, cannot be had.
    """
    tokenizer = CompactTokenizer.of(embedded_tokenizer(), texts)
    return small(SCRATCH, tokenizer, shape=shape, seed=seed, device=device)


def embedded_tokenizer(kept_V: IntArray | None = None) -> Any:
    """The tokenizer of the embedded model, or the part of it with the given tokens."""
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained(smollm2.folder())
    return whole if kept_V is None else CompactTokenizer(whole, kept_V)
