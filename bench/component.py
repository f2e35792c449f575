"""Base classes of losses and decoders: each has a name, a version, options and checks.

Methods find them by name through ``bench.registry``, so ``bench`` depends on none of them and not on torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from bench.config import Config as BaseConfig
from bench.config import Empty, configure, require_config

Check = Callable[[], str | None]
Kind = Literal["item", "item_term", "token", "preference"]


class Component:
    """A loss or a decoder: registered under a name and configured by options.

    Class attributes:
        version: declared by the author and raised when results move at equal options; it is part of what
            identifies a result.
        contract: the module whose ``questions(kind)`` returns the checks that ``bench test`` makes, by
            name; a check returns None if it holds, else a sentence with what was found.
        Config: a subclass of ``bench.config.Config`` with a default for every field.
    """

    name: ClassVar[str] = ""  # set by the registry
    version: ClassVar[int] = 1
    contract: ClassVar[str] = ""
    Config: ClassVar[type[BaseConfig]] = Empty

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_config(cls)


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

    @classmethod
    def complete(cls, options: Mapping[str, Any] | None) -> Any:
        """A Config with these options and the defaults for the rest.

        Raises:
            ConfigError: an unknown key or a value out of range.
        """
        return configure(cls.Config, options, owner=cls.name)
