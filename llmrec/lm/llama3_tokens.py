"""Llama 3's tokenizer without its weights, for checking published trie statistics.

The ranks file comes inside the package llama-models (licence: Llama); it is read where it is installed
and never copied.
"""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import Unavailable

SPLIT = (  # how Llama 3 cuts text before merging; a fact of the tokenizer, published with it
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT = 128_001
VOCABULARY = 128_256


class Llama3Tokens:
    """Just enough of a Hugging Face tokenizer to build a trie."""

    eos_token_id = END_OF_TEXT

    def __init__(self, path: Path) -> None:
        import tiktoken

        pairs = (line.split() for line in path.read_bytes().splitlines() if line)
        ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
        self.encoding = tiktoken.Encoding(
            "llama3", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={}
        )
        self._ranks = ranks

    def __call__(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> dict[str, Any]:
        """Token ids of each text; special tokens are never added."""
        assert not add_special_tokens, "this tokenizer knows no special tokens"
        return {"input_ids": self.encoding.encode_ordinary_batch(list(texts), num_threads=1)}

    def get_vocab(self) -> dict[bytes, int]:
        """Token bytes to ids."""
        return self._ranks


def load() -> Llama3Tokens:
    """The tokenizer named by BENCH_LLAMA3_TOKENIZER, or that of an installed llama-models.

    Raises:
        Unavailable: neither is there.
    """
    named = os.environ.get("BENCH_LLAMA3_TOKENIZER")
    spec = None if named else importlib.util.find_spec("llama_models")
    inside = Path(spec.submodule_search_locations[0]) if spec else Path()  # type: ignore[index]
    path = Path(named) if named else inside / "llama3" / "tokenizer.model"
    if not path.is_file():
        raise Unavailable(
            "no Llama-3 tokenizer: set BENCH_LLAMA3_TOKENIZER to its tokenizer.model or "
            "`pip install --no-deps llama-models`"
        )
    return Llama3Tokens(path)
