"""Reads YAML with two changes: ``1e-4`` is a number, and a repeated key is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from bench.errors import SuiteError

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, with the numbers of YAML 1.2."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different.

        Raises:
            ConstructorError: a key is repeated.
        """
        first: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == MERGE:
                continue
            name, line = key.value, key.start_mark.line + 1
            if (key.tag, name) in first:
                said = (
                    f"the key {name!r} stands in line {first[key.tag, name]} already; leave one out"
                )
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            first[key.tag, name] = line
        return super().construct_mapping(node, deep)


# PyYAML wants a dot and a signed exponent, and takes 1e-4 for text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+\Z"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        SuiteError: it cannot be read, is not YAML, or has a key twice; with the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SuiteError(f"{path} cannot be read as UTF-8 text: {fault}") from fault
    return read_text(text, str(path))


def read_text(text: str, name: str = "value") -> Any:
    """The content of a YAML text.

    Args:
        text: the YAML.
        name: what it is called in messages.

    Raises:
        SuiteError: it is not YAML, or has a key twice; with the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.constructor.ConstructorError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise SuiteError(f"{name}, line {line}: {fault.problem}") from fault
    except yaml.YAMLError as fault:
        raise SuiteError(f"{name}: not YAML: {fault}") from fault
