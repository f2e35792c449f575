"""What every decoder has in common: the result, the contract, and batches of users.

Q queries, B users of one batch, K list length, R rows (a user at a trie node), M trie nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import PositiveInt

from bench.component import Component
from bench.config import Config
from bench.errors import ConfigError, out_of_memory
from bench.method import configure
from bench.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

Progress = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Lists of answers, best first.

    Attributes:
        leaf_QK: leaves of the trie, int32 [Q, K]; -1 fills a list that is shorter than K, at its end.
        score_QK: what ordered them, higher is better, float32 [Q, K]; -inf where there is no leaf.
        certified_Q: True where the list is proven to be the true top K of its scoring rule; None where
            the decoder has no such notion.
        failed_Q: True where nothing usable was generated.
        facts: numbers about the decoding as a whole, for the row.
    """

    leaf_QK: IntArray
    score_QK: FloatArray
    certified_Q: BoolArray | None
    failed_Q: BoolArray
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.leaf_QK)


class DecoderConfig(Config):
    """Options all decoders share."""

    batch: PositiveInt = 32
    """Users decoded together; moves speed and memory, and scores by rounding only. On a GPU the searches
    take as many as fit into its memory."""


class Decoder(Component, ABC):
    """Turns prompts into ranked answers of the trie."""

    contract: ClassVar[str] = "llmrec.decode.contract"
    Config: ClassVar[type[Config]] = DecoderConfig

    def __init__(self, config: Any = None) -> None:
        self.config = configure(type(self), config)

    @abstractmethod
    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The best ``k`` answers for each prompt.

        Args:
            lm: the model; its ``embed`` makes the inputs, so soft tokens work. Dropout is off meanwhile.
            prompts: one per query.
            trie: the catalogue.
            k: length of the lists.
            progress: called as ``progress(done, total)`` after each batch of users.

        Raises:
            ConfigError: ``k`` is more than this decoder can return.
        """

    @property
    def asks(self) -> str | None:
        """The second model whose scores it is given by ``consult`` first; None for a decoder of one model."""
        return None

    def generation_config(self, lm: Backbone, trie: Trie) -> Any:
        """The configuration handed to transformers' ``generate``; None for a decoder that never calls it.

        Args:
            lm: the language model.
            trie: the catalogue, which knows the end token and the longest title.
        """
        return None

    @property
    def rule(self) -> str:
        """The scoring rule in a few words, printed beside every result."""
        return self.name


@runtime_checkable
class WeighsByPopularity(Protocol):
    """A decoder whose scores depend on how popular the titles are in the training rows."""

    def weigh(self, weight_I: FloatArray, gamma: float | None = None) -> None:
        """Set the popularity of the leaves.

        Args:
            weight_I: popularity of each leaf, scaled to [0, 1].
            gamma: the exponent chosen on the validation rows; None keeps the configured one.
        """


def need(name: str, value: float, *, low: float) -> None:
    """Refuse an option below its bound.

    Args:
        name: of the option, for the message.
        value: what was given.
        low: the smallest value allowed.

    Raises:
        ConfigError: with the value and the bound.
    """
    if not value >= low:
        raise ConfigError(f"{name} is {value}; it must be at least {low}")


@contextmanager
def evaluating(lm: Backbone) -> Iterator[None]:
    """No gradients and no dropout while decoding; modules in training mode return to it afterwards."""
    training = [module for module in lm.modules() if module.training]
    lm.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def in_batches(
    prompts: Sequence[Prompt],
    size: int,
    decode: Callable[[IntArray], None],
    progress: Progress | None = None,
) -> None:
    """Decode prompts of similar length together; where a GPU's memory runs out, half as many.

    Equal prompts sort together whatever the order they came in, so no list depends on that order.

    Args:
        prompts: the prompts of all queries.
        size: prompts in a batch; the last batch may be smaller.
        decode: given the row numbers of a batch; what it keeps, it keeps at its end.
        progress: called as ``progress(done, total)`` after each batch.
    """

    def content(row: int) -> tuple[int, bytes, bytes]:
        prompt = prompts[row]
        return len(prompt), prompt.ids.tobytes(), prompt.slots.tobytes()

    order = np.array(sorted(range(len(prompts)), key=content), np.int64)
    done = 0
    while done < len(order):
        rows = order[done : done + size]
        try:
            decode(rows)
        except RuntimeError as fault:
            if len(rows) == 1 or not out_of_memory(fault):
                raise
            size = len(rows) // 2
        else:
            done += len(rows)
            if progress:
                progress(done, len(prompts))
            continue
        torch.cuda.empty_cache()  # here, where the fault no longer holds on to what was computed


def shared_length(prompts: Sequence[Prompt]) -> int:
    """Number of leading ordinary tokens that all prompts have in common, less than any prompt's length."""
    first = prompts[0]
    length = min(len(prompt) for prompt in prompts) - 1
    same = first.slots[:length] == 0
    for prompt in prompts[1:]:
        same &= (prompt.ids[:length] == first.ids[:length]) & (prompt.slots[:length] == 0)
    return int(np.logical_and.accumulate(same).sum())


def blank(n_queries: int, k: int) -> tuple[IntArray, FloatArray]:
    """Lists without entries: ``leaf_QK`` filled with -1 and ``score_QK`` with -inf.

    Args:
        n_queries: Q.
        k: K.
    """
    return np.full((n_queries, k), -1, np.int32), np.full((n_queries, k), -np.inf, np.float32)
