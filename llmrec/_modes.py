"""A mode and what it decides: how ``auto`` is settled, and whose defaults hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from bench.config import Config

C = TypeVar("C", bound=Config)


def settled(
    config: C, mode: str, by_mode: Mapping[str, Mapping[str, Any]], authors: Mapping[str, Any]
) -> C:
    """The configuration with its mode and every ``auto`` replaced.

    Args:
        config: an instance of a method's Config.
        mode: the mode that holds, never ``auto``.
        by_mode: by mode, what ``auto`` means.
        authors: what stands for the values left at their defaults; empty outside the authors' mode.
    """
    values: dict[str, Any] = {"mode": mode} | {
        key: value for key, value in by_mode[mode].items() if getattr(config, key) == "auto"
    }
    default = {key: field.default for key, field in type(config).model_fields.items()}
    values |= {k: v for k, v in authors.items() if getattr(config, k) == default[k]}
    return config.replace(**values)
