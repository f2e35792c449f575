"""Constrained beam search as the released code runs it: transformers' ``generate`` and a prefix function.

Kept as the reference that the fast search is measured against, and for ``paper_faithful``. Two defects of
the released code are repaired: it leaves ``do_sample`` to the model's own generation config (sampled beams
on Llama-3; ``inherit_sampling`` brings this back), and its trie lacks the end token, so that a title which
begins another can never end (no option brings this back). Q queries, B users, W beams, K list.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor
from transformers import GenerationConfig

from bench.errors import ConfigError
from bench.registry import decoders
from bench.types import FloatArray, IntArray
from llmrec.decode.base import (
    Decoded,
    Decoder,
    DecoderConfig,
    Progress,
    blank,
    evaluating,
    in_batches,
)
from llmrec.decode.beam import require_beams

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

IMPOSSIBLE = -1e7  # transformers starts unused beams at -1e9


class GenerateConfig(DecoderConfig):
    """Options of the released search."""

    batch: PositiveInt = 8
    """Users decoded together; moves speed and memory, and scores by rounding only."""
    beams: PositiveInt = 10
    """Width; the list is cut from what they return."""
    length_penalty: float = 1.0
    """Exponent of the length the score is divided by; the released code leaves transformers' default, 1."""
    renormalize: bool = False
    """Softmax among valid tokens before beams are compared (the authors' later decoder)."""
    inherit_sampling: bool = False
    """Leave sampling flags to the model's generation config, as the released code does."""
    max_new_tokens: PositiveInt | None = None
    """Longest answer in tokens, null for the longest title; the released code has 128."""


@decoders.register("generate")
class Generate(Decoder):
    """transformers' beam search under a prefix constraint."""

    Config = GenerateConfig
    config: GenerateConfig

    @property
    def rule(self) -> str:
        """The scoring rule in words."""
        space = "valid" if self.config.renormalize else "all"
        return (
            f"transformers beam {self.config.beams}, sum of log-probabilities over {space} tokens / "
            f"length^{self.config.length_penalty:g}"
        )

    def generation_config(self, lm: Backbone, trie: Trie) -> GenerationConfig:
        """What ``generate`` is given."""
        options: dict[str, Any] = {
            "num_beams": self.config.beams,
            "num_return_sequences": self.config.beams,
            "max_new_tokens": self.config.max_new_tokens or int(trie.answer.lengths.max()),
            "length_penalty": self.config.length_penalty,
            "early_stopping": False,
            "renormalize_logits": self.config.renormalize,
            "eos_token_id": trie.eos,
            "pad_token_id": trie.eos,
            "return_dict_in_generate": True,
            "output_scores": True,
        }
        if not self.config.inherit_sampling:
            options |= NO_SAMPLING
        return GenerationConfig(**options)

    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The ``k`` best finished beams; see ``Decoder``.

        Raises:
            ConfigError: ``k`` is larger than the number of beams.
        """
        require_beams(k, self.config.beams)
        config = self.generation_config(lm, trie)
        leaf_QK, score_QK = blank(len(prompts), k)
        allowed = allowed_tokens(trie)
        repeats = 0

        def decode(rows: IntArray) -> None:
            nonlocal repeats
            with own_generation(lm, inherit=self.config.inherit_sampling):
                token_SL, score_S = run(lm, [prompts[row] for row in rows], config, allowed)
            leaf_S = walk(trie, token_SL)
            for at, row in enumerate(rows):
                mine = slice(at * self.config.beams, (at + 1) * self.config.beams)
                leaves, scores = _distinct(leaf_S[mine], score_S[mine])
                repeats += int((leaf_S[mine] >= 0).sum()) - len(leaves)
                n = min(k, len(leaves))
                leaf_QK[row, :n], score_QK[row, :n] = leaves[:n], scores[:n]

        in_batches(prompts, self.config.batch, decode, progress)
        facts = {
            "beams": self.config.beams,
            "space": "valid" if self.config.renormalize else "full",
            "length_penalty": self.config.length_penalty,
            "unreachable_titles": int((trie.answer.lengths > config.max_new_tokens).sum()),
            "repeated_beams": repeats,
        }
        return Decoded(leaf_QK, score_QK, None, leaf_QK[:, 0] < 0, facts)


NO_SAMPLING = {
    "do_sample": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
}


@contextmanager
def own_generation(lm: Backbone, *, inherit: bool = False) -> Iterator[None]:
    """Replace the model's own generation config by an empty one within this context.

    Otherwise its defaults would fill whatever our config leaves open.

    Args:
        lm: the model; it is in evaluation mode meanwhile.
        inherit: keep the model's own generation config after all, as the released code does.
    """
    kept = lm.causal.generation_config
    if not inherit:
        start = getattr(lm.causal.config, "decoder_start_token_id", None)
        lm.causal.generation_config = GenerationConfig(decoder_start_token_id=start)
    try:
        with evaluating(lm):
            yield
    finally:
        lm.causal.generation_config = kept


def run(
    lm: Backbone,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    allowed: Callable[[int, Tensor], list[int]] | None = None,
) -> tuple[IntArray, FloatArray]:
    """Call transformers' ``generate`` on left-padded prompts.

    Args:
        lm: the model; its ``embed`` makes the inputs.
        prompts: one per query, S = queries times ``num_return_sequences``.
        config: what ``generate`` is told.
        allowed: the tokens that may follow, by number of the sequence and tokens generated so far; None
            for all.

    Returns:
        New tokens int64 [S, L] and sequence scores [S], ``num_return_sequences`` rows a prompt.

    Raises:
        ConfigError: a prompt has soft tokens and the model needs token ids.
    """
    # padded on the left, so that all prompts end where generation begins
    width = max(len(prompt) for prompt in prompts)
    ids_BP = np.full((len(prompts), width), lm.pad_id, np.int64)
    slots_BP, mask_BP = np.zeros_like(ids_BP), np.zeros_like(ids_BP)
    for row, prompt in enumerate(prompts):
        at = slice(width - len(prompt), width)
        ids_BP[row, at], slots_BP[row, at], mask_BP[row, at] = prompt.ids, prompt.slots, 1
    ids, slots, mask = (torch.as_tensor(x, device=lm.device) for x in (ids_BP, slots_BP, mask_BP))
    inputs, skip = {"inputs_embeds": lm.embed(ids, slots)}, lm.echoed
    if not takes_embeddings(lm):
        if slots_BP.any():
            require_embeddings(lm)
        inputs, skip = {"input_ids": ids}, width  # what is returned then begins with the prompt
    out = lm.causal.generate(
        **inputs,
        attention_mask=mask,
        generation_config=config,
        prefix_allowed_tokens_fn=allowed and (lambda row, seen: allowed(row, seen[skip:])),
    )
    score = getattr(out, "sequences_scores", None)
    score_S = np.zeros(len(out.sequences)) if score is None else score.double().cpu().numpy()
    return out.sequences[:, skip:].cpu().numpy(), score_S


def takes_embeddings(lm: Backbone) -> bool:
    """Whether ``generate`` can begin with embeddings; else it needs token ids."""
    prepare = inspect.signature(lm.causal.prepare_inputs_for_generation).parameters
    return "inputs_embeds" in prepare and not lm.reads_ids


def require_embeddings(lm: Backbone) -> None:
    """Refuse a model whose ``generate`` takes no soft tokens.

    Raises:
        ConfigError: names what works.
    """
    if not takes_embeddings(lm):
        raise ConfigError(
            f"no soft tokens can be given to {lm.name!r}, whose generate() needs token ids; take the "
            "decoder beam or exact"
        )


def allowed_tokens(trie: Trie) -> Callable[[int, Tensor], list[int]]:
    """The prefix function: valid tokens after the generated ones, the end token past the end."""
    known: dict[int, list[int]] = {}
    child: dict[tuple[int, int], int] = {}

    def allowed(_: int, ids: Tensor) -> list[int]:
        node = 0
        for token in ids.tolist():
            node = child.get((node, token), -1)
            if node < 0:
                return [trie.eos]
        if node not in known:
            tokens, nodes = trie.children(node)
            known[node] = tokens.tolist() or [trie.eos]
            child.update(((node, int(t)), int(n)) for t, n in zip(tokens, nodes, strict=True))
        return known[node]

    return allowed


def walk(trie: Trie, token_SL: IntArray) -> IntArray:
    """The leaf that each generated sequence reaches, -1 where it leaves the trie or never ends.

    Args:
        trie: the catalogue.
        token_SL: generated tokens, one sequence a row, int [S, L].
    """
    leaf_S = np.full(len(token_SL), -1, np.int32)
    node_S: IntArray = np.zeros(len(token_SL), np.int64)
    for token_S in token_SL.T:
        node_S = np.where(node_S >= 0, trie.step(np.maximum(node_S, 0), token_S), -1)
        ended_S = (node_S >= 0) & (trie.leaf_M[np.maximum(node_S, 0)] >= 0)
        leaf_S[ended_S] = trie.leaf_M[node_S[ended_S]]
        node_S[ended_S] = -1
    return leaf_S


def _distinct(leaf_W: IntArray, score_W: FloatArray) -> tuple[IntArray, FloatArray]:
    """Real answers without repeats, best first, ties to the smaller leaf."""
    real = (leaf_W >= 0) & (score_W > IMPOSSIBLE)
    order = np.lexsort((leaf_W[real], -score_W[real]))
    leaf, score = leaf_W[real][order], score_W[real][order]
    _, first = np.unique(leaf, return_index=True)
    keep = np.sort(first)
    return leaf[keep], score[keep]
