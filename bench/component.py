"""What losses and decoders have in common: a name, a version, options and a contract.

Methods reach them by name through ``bench.registry``; where they are written, and with what library, is
nothing to ``bench``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from bench.config import Config as BaseConfig
from bench.config import Empty

Check = Callable[[], str | None]
Kind = Literal["item", "item_term", "token", "preference"]


class Component(ABC):
    """A loss or a decoder: registered under a name and configured by options.

    Class attributes:
        version: declared by the author and raised when results move at equal options; it is part of what
            identifies a result.
        Config: a subclass of ``bench.config.Config`` with a default for every field.
    """

    name: ClassVar[str] = ""  # set by the registry
    version: ClassVar[int] = 1
    Config: ClassVar[type[BaseConfig]] = Empty

    @classmethod
    @abstractmethod
    def questions(cls) -> Mapping[str, Check]:
        """The contract of its kind on small random inputs, by question.

        Each check returns None where the answer is yes, else what was seen instead; see ``bench test``.
        """


class Loss(Component):
    """A training loss.

    Class attributes:
        kind: what it is a loss over, and so which methods take it. ``item``: scores of all items at
            positions of a history. ``item_term``: a term that a method adds to an ``item`` loss.
            ``token``: the tokens of one answer. ``preference``: several answers to one prompt.
        search: by option, the values a tuning may try.
    """

    kind: ClassVar[Kind]
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
