"""Every kind of file that a run store, its rows and the cache hold, and how each is checked.

``bench verify --store`` reads them all. A file that fits no kind is reported too: a new kind of file belongs
into this list, with its check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.disk.digests import cache_folder
from bench.disk.manifest import MANIFEST, check_folder, is_sealed
from bench.disk.sealed import ASIDE, check_seal, owner, read_note, read_sealed
from bench.disk.sealed_arrays import read_npz
from bench.errors import DamagedError
from bench.execution.fitting import BILL, check_fit, read_bill
from bench.results.row_damage import damage_of
from bench.results.store import Store

Check = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: for people.
        pattern: of its path below its home (rows, store or cache), a regular expression.
        check: raises DamagedError if a file is not as it was written; None where nothing rests on its bytes.
        heals: what happens to a damaged one when it is next needed.
    """

    name: str
    pattern: str
    check: Check | None
    heals: str = ""


@dataclass(frozen=True)
class Found:
    """One file that was looked at.

    Attributes:
        path: the file.
        kind: its kind; None if it has none.
        fault: what is wrong with it, empty if nothing is.
    """

    path: Path
    kind: Kind | None
    fault: str = ""


def _model(path: Path) -> None:
    parts = path.parts
    folder = Path(*parts[: len(parts) - parts[::-1].index("model") - 1])
    if (folder / BILL).exists():
        check_fit(folder, anew=True)


def _bill(path: Path) -> None:
    read_bill(path.parent)


def _note(path: Path) -> None:
    read_note(path)


def _part(path: Path) -> None:
    read_note(path, older=("cost", "attempts"))


def _mark(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except ValueError as fault:
        raise DamagedError(path, "it is no JSON") from fault


def _lists(path: Path) -> None:
    read_npz(path, of=path.parent.name)


def _figures(path: Path) -> None:
    read_npz(path, of=path.stem)


def _owned(path: Path) -> None:
    read_sealed(path, of=owner(path))


def _named(path: Path) -> None:
    read_sealed(path, of=path.name)


def _folder(path: Path) -> None:
    """The folder that a file is in, or the one above that which has the manifest."""
    folder = next((one for one in path.parents if is_sealed(one)), None)
    if folder is not None:
        check_folder(folder, anew=True, moved=True)


def _lines(path: Path) -> None:
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            check_seal(json.loads(line))
        except (ValueError, RecursionError) as fault:
            raise DamagedError(path, f"line {number} is damaged") from fault


def _row(path: Path) -> None:
    for damage in damage_of(path.with_suffix(".json")):
        raise damage


AGAIN, ANEW = "fitted again", "begun anew"
EVERYWHERE = (
    Kind("set aside earlier", rf".*{re.escape(ASIDE)}\d+(/.*)?", None),
    Kind("manifest of a folder", rf"(.*/)?{re.escape(MANIFEST)}", _folder, "made again"),
    Kind("being written", r"(.*/)?\.(?!cache/)[^/]+(/.*)?", None),
)
STORE = (
    Kind("fitted method", r"cells/[^/]+/model/.+", _model, AGAIN),
    Kind("bill of a fit", r"cells/[^/]+/fit\.json", _bill, AGAIN),
    Kind("bill of an unfinished fit", r"cells/[^/]+/fit-part\.json", _part, ANEW),
    Kind("progress", r"cells/[^/]+/status\.json", _note, "passed over"),
    Kind("mark of an answer", r"cells/[^/]+/answered", _mark, "passed over"),
    Kind("lists", r"cells/[^/]+/lists\.npz", _lists, "written with the next answer"),
    Kind("log", r"cells/[^/]+/log\.txt", None),
    Kind("checkpoint folder", r"cells/[^/]+/scratch/(.*/)?checkpoint-\d+/.+", _folder, ANEW),
    Kind("checkpoint file", r"cells/[^/]+/scratch/.+\.pt", _owned, ANEW),
    Kind("computed array", r"cells/[^/]+/scratch/.+\.npy", _named, "computed again"),
    Kind("written lines", r"cells/[^/]+/scratch/.+\.jsonl", _lines, "written again"),
    Kind("trials of a search", r"cells/[^/]+/scratch/trials\.json", _note, ANEW),
    Kind("record of a microscope", r"cells/[^/]+/scratch/microscope\.json", _note, ANEW),
    Kind("row of a stage", r"stages/.+\.json", _row, "made again"),
    Kind("lock", r"claims/[^/]+", None),
    Kind("word of a Slurm job", r"slurm/[^/]+", None),
)
ROWS = (
    Kind("row", r".+\.json", _row, "made again"),
    Kind("positions", r".+\.npz", _row, "made again"),
)
NUMBERS = (Kind("numbers of tables", r".+\.npz", _figures, "computed again"),)
CACHE = (
    Kind("note of a checksum", r"digests/.+", _note, "computed again"),
    Kind("written lines", r"cot/.+\.jsonl", _lines, "written again"),
    Kind("lock", r".+\.lock", None),
    Kind("downloaded package", r"[^/]+\.whl", None, "downloaded again; its checksum is pinned"),
    Kind("unpacked model", r"[^/]+/.+", _folder, "unpacked again"),
)


def kind_of(name: str, kinds: tuple[Kind, ...]) -> Kind | None:
    """The first kind that a file is of; None if it is of none.

    Args:
        name: its path below the home of these kinds.
        kinds: ``STORE``, ``ROWS``, ``NUMBERS`` or ``CACHE``.
    """
    fits = (kind for kind in (*EVERYWHERE, *kinds) if re.fullmatch(kind.pattern, name))
    return next(fits, None)


def look_through(store: Store) -> Iterator[Found]:
    """Read every file of a run store, of its rows, of what was computed from them and of the cache."""
    numbers = store.rows.parent / ".cache" / store.rows.name
    homes = [(store.root, STORE), (store.rows, ROWS), (numbers, NUMBERS), (cache_folder(), CACHE)]
    for home, kinds in homes:
        known: dict[Path, str] = {}
        for path in sorted(path for path in home.rglob("*") if path.is_file()):
            kind = kind_of(path.relative_to(home).as_posix(), kinds)
            yield Found(path, kind, _fault(path, kind, known))


def _fault(path: Path, kind: Kind | None, known: dict[Path, str]) -> str:
    """What is wrong with a file; of a folder that is checked as one it is said once, at its first file."""
    if kind is None or kind.check is None:
        return ""
    try:
        if kind.check in (_model, _folder):
            return _of_folder(path, kind.check, known)
        kind.check(path)
    except DamagedError as damage:
        return f"{damage.why}"
    except OSError as fault:
        return f"it cannot be read ({fault.strerror})"
    return ""


def _of_folder(path: Path, check: Check, known: dict[Path, str]) -> str:
    parents = (one for one in path.parents if is_sealed(one) or (one / "method.json").exists())
    folder = next(parents, path.parent)
    if folder in known:
        return ""
    known[folder] = ""
    check(path)
    return ""
