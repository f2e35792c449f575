"""Models of the true shapes and real Book rows, for what is measured on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.registry import datasets
from llmrec.lm.backbone import Backbone, embedded_tokenizer
from llmrec.lm.lora import Lora, adapted
from llmrec.prompt import Prompt, Prompter
from llmrec.training.packing import Example
from llmrec.trie import Trie, for_titles
from speed.trie_search import folder

SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


@dataclass(frozen=True)
class Size:
    """One model with the work it is measured on.

    Attributes:
        shape: width, width of the MLP, layers, heads, key heads and vocabulary of a Llama.
        tied: whether the head is the embedding.
        rows: of a training step.
        users: of a search.
        compared: users that transformers decodes too.
    """

    shape: tuple[int, int, int, int, int, int]
    tied: bool
    rows: int
    users: int
    compared: int


SIZES = {
    "135m": Size((576, 1536, 30, 9, 3, 49152), tied=True, rows=128, users=512, compared=64),
    "8b": Size((4096, 14336, 32, 32, 8, 128256), tied=False, rows=16, users=64, compared=0),
}
REDUCED = {
    name: Size((32, 64, 2, 4, 2, size.shape[-1]), size.tied, 4, 6, min(size.compared, 4))
    for name, size in SIZES.items()
}


class Work:
    """Real rows, prompts and the trie of Book, for any model.

    Args:
        device: where models are.
        sizes: of the models.
    """

    def __init__(self, device: str, sizes: dict[str, Size]) -> None:
        self.device, self.sizes = device, sizes
        book = datasets.get("book")(folder("book"))
        self.tokenizer = embedded_tokenizer()
        self.trie: Trie = for_titles(book.catalogue.titles, self.tokenizer)
        prompter = Prompter(book.catalogue, self.tokenizer)
        train = book.split.train.sample(max(size.rows for size in sizes.values()))
        exam = book.split.test.sample(max(size.users for size in sizes.values()))
        leaf_W = self.trie.leaf_of_item_N[train.target_W]
        self.rows = [
            Example(prompter.prompt(history, training=True), int(leaf))
            for history, leaf in zip(train.history, leaf_W, strict=True)
        ]
        self.prompts: list[Prompt] = [prompter.prompt(h) for h in exam.queries.history]
        self.shared, self.avt = prompter.shared, self.trie.avt(train.target_W)

    def model(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Backbone:
        """A model of the shape with random weights and fresh adapters."""
        size = self.sizes[name]
        config = LlamaConfig(
            **dict(zip(SHAPE, size.shape, strict=True)), tie_word_embeddings=size.tied
        )
        torch.manual_seed(0)
        kept = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(self.device):
                causal = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(kept)
        model = adapted(causal, Lora(), seed=0)
        return Backbone(model, self.tokenizer, name=name, pretrained=True)


def seconds(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Median seconds of some repeats, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
