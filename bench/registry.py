"""Methods, losses, decoders and datasets by name.

A name is found by reading the source of the rooms as text (``@methods.register("sasrec")`` at the start of a
line), so listing imports nothing; the module that owns a name is imported when the name is first used. A
registration written in another way would never be listed, so it is an error. Names also come from entry
points (groups ``bench.methods``, ``bench.losses`` ...) and from ``--plugin file.py``.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bench.errors import BenchError, UnknownName
from bench.text.plain import one_line
from bench.text.secrets import without_secrets

if TYPE_CHECKING:
    from bench.component import Component, Loss
    from bench.method import Method
    from bench.types import Dataset

T = TypeVar("T")
Named = TypeVar("Named")
HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("bench", "baselines", "llmrec")  # packages whose files, at any depth, may register names
REGISTRIES: list[Registry[Any]] = []  # all there are, so that a plugin can be taken out of each


@dataclass(frozen=True)
class Origin:
    """Where a name is defined: a module to import and, if it is one of ours, its file."""

    module: str
    path: Path | None = None


class Registry(Generic[T]):
    """The named classes or functions of one kind, of type T.

    Args:
        kind, plural: the noun for messages, and the one used in source and entry points.
        rooms: packages whose files are searched, as dotted names.
    """

    def __init__(self, kind: str, plural: str, rooms: tuple[str, ...]) -> None:
        self.kind, self.plural = kind, plural
        self.rooms = rooms
        self._loaded: dict[str, T] = {}
        self._owner: dict[str, str] = {}
        REGISTRIES.append(self)

    def register(self, name: str) -> Callable[[Named], Named]:
        """Decorator that gives a class or function its name.

        Raises:
            BenchError: the name is taken by another module, or reading the source did not find it.
        """

        def accept(thing: Named) -> Named:
            module = getattr(thing, "__module__", "?")
            self._check_listed(name, module)
            built_in = self.index.get(name)
            first = built_in.module if built_in and built_in.path else module
            owner = self._owner.setdefault(name, first)
            if owner != module:
                raise BenchError(
                    f"the {self.kind} {name!r} of {module} is already defined by {owner}"
                )
            if isinstance(thing, type):
                thing.name = name  # type: ignore[attr-defined]
            self._loaded[name] = thing  # type: ignore[assignment]
            return thing

        return accept

    def _check_listed(self, name: str, module: str) -> None:
        """Refuse a registration in this repository that ``index`` cannot see and would never list."""
        if module.partition(".")[0] not in self.rooms or name in self.index:
            return
        look_again()  # the file may have been written since the rooms were read
        if name not in self.index:
            raise BenchError(
                f"{module} registers the {self.kind} {name!r}, but reading its source does not show it; "
                f"{self._way(name)}"
            )

    @cached_property
    def index(self) -> dict[str, Origin]:
        """Every name that can be had without importing a plugin, with its origin.

        Raises:
            BenchError: a name is defined twice, or a registration is written so that it cannot be read.
        """
        pattern = re.compile(rf"""^@{self.plural}\.register\(\s*["']([\w.-]+)["']""", re.MULTILINE)
        found: dict[str, Origin] = {}
        for path, text in _registering(self.rooms):
            names = pattern.findall(text)
            if len(names) != text.count(f"{self.plural}.register("):
                self._check_readable(path, text, len(names))
            for name in names:
                if name in found:
                    raise BenchError(
                        f"the {self.kind} {name!r} is defined in both {found[name].path} and {path}"
                    )
                module = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
                found[name] = Origin(module, path)
        for point in _entry_points().select(group=f"bench.{self.plural}"):
            found.setdefault(point.name, Origin(point.value.partition(":")[0]))
        return found

    def _check_readable(self, path: Path, text: str, read: int) -> None:
        """Refuse calls of ``register`` beyond those that were read; texts that only mention it may stay."""
        nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
        calls = [node.lineno for node in nodes if self._registers(node)]
        if len(calls) == read:
            return
        plain = re.compile(rf"""@{self.plural}\.register\(\s*(["'][\w.-]+["']|$)""")
        lines = text.splitlines()
        line = next((n for n in calls if not plain.match(lines[n - 1])), calls[0])
        raise BenchError(f"{path}:{line} registers a {self.kind} unreadably; {self._way('name')}")

    def _registers(self, node: ast.Call) -> bool:
        """Whether this is a call of this registry's ``register``, by whatever path it is reached."""
        if not isinstance(node.func, ast.Attribute):
            return False
        owner = node.func.value
        known_as = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", None)
        return node.func.attr == "register" and known_as == self.plural

    def _way(self, name: str) -> str:
        return (
            f'write @{self.plural}.register("{name}") at the start of a line, above the definition'
        )

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self.index, *self._loaded})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._loaded or name in self.index

    def get(self, name: str) -> T:
        """What is registered under a name; its module is imported on first use.

        Raises:
            UnknownName: nothing has that name; the message holds near matches and all known names.
        """
        if name not in self._loaded:
            if name not in self.index:
                raise UnknownName(self._unknown(name))
            importlib.import_module(self.index[name].module)
        return self._loaded[name]

    def drop(self, module: str) -> None:
        """Forget what a module registered."""
        for name in [name for name, owner in self._owner.items() if owner == module]:
            del self._owner[name]
            self._loaded.pop(name, None)

    def path(self, name: str) -> Path:
        """The source file behind a name."""
        origin = self.index.get(name)
        if origin is not None and origin.path is not None:
            return origin.path
        module = sys.modules[self.get(name).__module__]
        return Path(module.__file__ or "")

    def _unknown(self, name: str) -> str:
        return f"no {self.kind} is called {name!r}.{near(name, self.names())}"


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: similar names, then all names.

    Args:
        name: the unknown name.
        known: all names.
    """
    known = sorted(known)
    found = alike(name, known)
    hint = f" Did you mean {' or '.join(found)}?" if found else ""
    return f"{hint} Known: {', '.join(known) or 'none'}"


def alike(name: str, known: Iterable[str]) -> list[str]:
    """The two known names that come nearest to an unknown one; fewer, or none, where none is near.

    Args:
        name: the unknown name.
        known: all names.
    """
    return difflib.get_close_matches(name, list(known), n=2, cutoff=0.5)


@cache
def _registering(rooms: tuple[str, ...]) -> list[tuple[Path, str]]:
    """The files of these rooms that call some ``register``, with their text; read once for all registries."""
    paths = (p for room in rooms for p in sorted((HOUSE / room.replace(".", "/")).rglob("*.py")))
    texts = ((path, path.read_text(encoding="utf-8")) for path in paths)
    return [(path, text) for path, text in texts if ".register(" in text]


@cache
def _entry_points() -> Any:  # typeshed has another type for Python 3.10
    """Those of every installed package; reading them takes as long as reading the rooms."""
    return importlib.metadata.entry_points()


def look_again() -> None:
    """Empty the cache of names, so that sources are read anew; imported modules stay as they are."""
    _registering.cache_clear()
    _entry_points.cache_clear()
    for registry in REGISTRIES:
        registry.__dict__.pop("index", None)


methods: Registry[type[Method]] = Registry("method", "methods", ROOMS)
losses: Registry[type[Loss]] = Registry("loss", "losses", ROOMS)
decoders: Registry[type[Component]] = Registry("decoder", "decoders", ROOMS)
datasets: Registry[Callable[..., Dataset]] = Registry("dataset", "datasets", ROOMS)


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Import the files of one order, see ``load_plugin``.

    Raises:
        BenchError: as ``load_plugin``, or two different files have one name.
    """
    seen: dict[str, Path] = {}
    for path in map(Path, paths):
        first = seen.setdefault(path.stem, path.resolve())
        if first != path.resolve():
            raise BenchError(f"--plugin {path}: {first} has the same name; rename one of them")
        load_plugin(path)


def load_plugin(path: str | Path) -> None:
    """Import a user's file so that its registrations take effect; anew if it changed since.

    A file of the same name that was loaded before, from elsewhere, gives way to it.

    Raises:
        BenchError: there is no such file, it is not a Python file, or it fails on import.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise BenchError(f"--plugin {path}: no such file")
    if path.suffix != ".py":
        raise BenchError(f"--plugin {path}: not a Python file; its name must end in .py")
    name, source = f"plugin_{path.stem}", path.read_bytes()
    mark = (str(path), hashlib.sha256(source).hexdigest())
    if name in sys.modules:
        if getattr(sys.modules[name], "plugin_mark", None) == mark:
            return
        _unload(name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, f"{path} is not a Python file"
    module = importlib.util.module_from_spec(spec)
    module.plugin_mark = mark  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        # not by the loader, which takes compiled code for fresh if file and second are the same
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as fault:
        _unload(name)
        if isinstance(fault, BenchError):
            raise
        said = one_line(without_secrets(f"{type(fault).__name__}: {fault}"))
        raise BenchError(f"--plugin {path} cannot be imported ({said}); mend the file") from fault


def _unload(name: str) -> None:
    del sys.modules[name]
    for registry in REGISTRIES:
        registry.drop(name)
