"""``bench options``: every key that a method, a loss or a decoder can be given."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from tabulate import tabulate

from bench.cli._verb import add_verb
from bench.config import Config, Option
from bench.config import options as options_of
from bench.config_words import allowed, shown
from bench.errors import UnknownName
from bench.method import Configurable, losses_of
from bench.registry import Registry, decoders, load_plugins, losses, methods, near

ABOUT = """\
Every key of a method and of the losses and decoders it takes, with what it allows, its default and a
sentence. Set one with --set of `bench run` and `bench plan`, or under `config:` in a suite.

  python -m bench options bigrec                  the method, its losses, its decoders
  python -m bench options sasrec dros             two methods
  python -m bench options msl_ats                 a loss or a decoder alone
  python -m bench options --all --format md       everything, for the documentation

A default is that of the method itself; a scale and a profile may set others (`bench plan`, `bench show`).
"""
HEADS = ("key", "default", "allowed", "")
KINDS: dict[str, Registry[Any]] = {"method": methods, "loss": losses, "decoder": decoders}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers, "options", "every key of a method, its losses and decoders", ABOUT
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="method, loss or decoder")
    parser.add_argument("--all", action="store_true", help="everything that is registered")
    parser.add_argument(
        "--format", choices=("text", "md", "json"), default="text", help="default: %(default)s"
    )
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the keys."""
    load_plugins(options.plugin)
    if not options.names and not options.all:
        raise UnknownName(f"name a method: {', '.join(methods)}; or give --all")
    asked = list(_everything()) if options.all else list(_asked(options.names))
    if options.format == "json":
        found = {
            f"{kind} {owner.name}": [one._asdict() for one in options_of(owner.Config)]
            for kind, owner in asked
        }
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    for kind, owner in asked:
        print(section(kind, owner, markdown=options.format == "md"))
    return 0


def _everything() -> Iterator[tuple[str, Configurable]]:
    for kind, registry in KINDS.items():
        for name in registry:
            yield kind, registry.get(name)


def _asked(names: list[str]) -> Iterator[tuple[str, Configurable]]:
    """What is called so, a method followed by the losses and decoders it takes, nothing twice."""
    seen = set()
    for name in names:
        kinds = [kind for kind, registry in KINDS.items() if name in registry]
        if not kinds:
            known = [known for registry in KINDS.values() for known in registry]
            raise UnknownName(f"no method, loss or decoder is called {name!r}.{near(name, known)}")
        for kind in kinds:
            for found in [(kind, name), *(_taken(name) if kind == "method" else [])]:
                if found not in seen:
                    seen.add(found)
                    yield found[0], KINDS[found[0]].get(found[1])


def _taken(name: str) -> Iterator[tuple[str, str]]:
    method = methods.get(name)
    yield from (("loss", loss) for loss in losses_of(method) if loss in losses)
    if method.decodes:
        yield from (("decoder", decoder) for decoder in decoders)


def section(kind: str, owner: Configurable, *, markdown: bool) -> str:
    """The keys of one owner as a table under its name.

    Args:
        kind: ``method``, ``loss`` or ``decoder``.
        owner: whose keys.
        markdown: a Markdown table, else plain text.
    """
    first = (type.__getattribute__(owner, "__doc__") or "").strip().partition("\n")[0]
    lines = [_line(owner.Config, one) for one in options_of(owner.Config)]
    title = f"{kind} {owner.name}: {first}"
    if not lines:
        return f"## {title}\n\nNo keys.\n" if markdown else f"{title}\n  no keys\n"
    if markdown:
        cells = [[part.replace("|", "\\|") for part in line] for line in lines]
        return f"## {title}\n\n{tabulate(cells, HEADS, tablefmt='pipe', disable_numparse=True)}\n"
    table = tabulate(
        lines, HEADS, tablefmt="plain", disable_numparse=True, maxcolwidths=[24, 22, 26, 64]
    )
    return f"{title}\n" + "".join(f"  {line}\n" for line in table.splitlines())


def _line(kind: type[Config], option: Option) -> tuple[str, str, str, str]:
    sentence = " ".join(option.sentence.split()).replace("``", "`")
    return option.key, shown(option.default), allowed(kind.model_fields[option.key]), sentence
