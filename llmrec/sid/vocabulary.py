"""Codes as tokens: a vocabulary of codes alone, and codes behind the tokens of a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.sid.codes import Codes

NAME = re.compile(r"<[a-z]\d+>")


class CodeTokenizer:
    """The tokens of a model that reads and writes codes alone: 0 the end, 1 the start, then the codes.

    Args:
        codes: gives the names of the codes.
    """

    eos_token_id = pad_token_id = 0
    bos_token_id = None  # the start token belongs to prompts, not to texts
    start, first = 1, 2

    def __init__(self, codes: Codes) -> None:
        self._names = ["</s>", "<s>", *codes.names]
        self._ids = {name: token for token, name in enumerate(self._names)}

    def __len__(self) -> int:
        return len(self._names)

    def get_vocab(self) -> dict[str, int]:
        """Names and ids."""
        return dict(self._ids)

    def __call__(self, text: str | Sequence[str], **options: Any) -> dict[str, Any]:
        """Tokens of the codes that a text or several spell; other text has none."""
        if isinstance(text, str):
            return {"input_ids": self._read(text)}
        return {"input_ids": [self._read(one) for one in text]}

    def _read(self, text: str) -> list[int]:
        return [self._ids[name] for name in NAME.findall(text) if name in self._ids]

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """The names of tokens, one behind the other."""
        return "".join(self._names[int(token)] for token in ids)


class ExtendedTokenizer:
    """A tokenizer with codes behind its own tokens; texts are read as before.

    Args:
        base: the tokenizer.
        first: token of the first code.
        codes: gives the names of the codes.
    """

    def __init__(self, base: Any, first: int, codes: Codes) -> None:
        self.base, self.first, self._names = base, first, codes.names

    def __len__(self) -> int:
        return self.first + len(self._names)

    def __call__(self, text: str | Sequence[str], **options: Any) -> Any:
        """Tokens of a text or of several, by the tokenizer below."""
        return self.base(text, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "base":  # not set yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.base, name)

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """The text behind token ids, with the names of codes."""
        ids_L = np.asarray(ids, np.int64).reshape(-1)
        # cut where tokens of the base and codes change over, and decode each run as a whole
        cuts = np.flatnonzero(np.diff(ids_L >= self.first)) + 1
        return "".join(self._run(part, options) for part in np.split(ids_L, cuts) if len(part))

    def _run(self, ids_L: Any, options: dict[str, Any]) -> str:
        if ids_L[0] < self.first:
            return str(self.base.decode(ids_L.tolist(), **options))
        return "".join(self._names[token - self.first] for token in ids_L)
