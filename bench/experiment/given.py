"""Values that a user sets for the rows of a suite: ``lr=1e-3``, ``loss_options.tau=2``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.config_words import shown
from bench.errors import ConfigError, SuiteError
from bench.experiment.profiles import merged
from bench.experiment.suite import Scale, SuiteRow
from bench.experiment.yaml_text import read_text
from bench.registry import methods, near


def read_values(words: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words as a mapping; values are read as in a suite, dots reach into nested mappings.

    Raises:
        ConfigError: a word has no key, no value or a value that is no YAML, or a key is given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"--set {word!r} is not KEY=VALUE, such as lr=1e-3 or lora_targets=[q_proj,k_proj]"
            )
        if key in found:
            raise ConfigError(f"--set {key} is given twice: {shown(found[key])} and {text}")
        try:
            found[key] = read_text(text)
        except SuiteError as fault:
            raise ConfigError(f"--set {word!r}: its value cannot be read ({fault})") from fault
    return found


def with_values(row: SuiteRow, scale: Scale, values: Mapping[str, Any]) -> SuiteRow:
    """The row with those values that its method has a key for.

    Args:
        row: a row of a suite.
        scale: its nested values are kept beside those that are set.
        values: by key, dots reach into nested mappings.
    """
    keys = _keys(row)
    own = {key: value for key, value in values.items() if key.partition(".")[0] in keys}
    config = dict(row.config)
    for key, value in own.items():
        root, *inner = key.split(".")
        if inner and root not in config:
            config[root] = scale.config.get(row.method, {}).get(root, {})
        for name in reversed(inner):
            value = {name: value}
        config = merged(config, {root: value})
    return row.model_copy(update={"config": config}) if own else row


def idle_values(rows: Iterable[SuiteRow], values: Mapping[str, Any]) -> Iterator[str]:
    """A fault for every value that no method of the rows has a key for.

    Args:
        rows: those that are left after all filters.
        values: by key.
    """
    asked = list(rows)
    known = {key for row in asked for key in _keys(row)}
    for key, value in values.items():
        root = key.partition(".")[0]
        if root not in known:
            names = ", ".join(dict.fromkeys(row.method for row in asked))
            yield (
                f"--set {key}={shown(value)}: no key {root!r} in {names}.{near(root, known)} "
                "`bench options METHOD` lists them with their ranges"
            )


def _keys(row: SuiteRow) -> set[str]:
    return set(methods.get(row.method).Config.model_fields) if row.method in methods else set()
