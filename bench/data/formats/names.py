"""``ids.json``: what users and items are called where an imported dataset came from.

Beside the files in the published form, which know numbers only: ``{"users": {"1": "u-77"}, "items":
{"1": "B00AMNCYNQ"}}``. It is no part of a dataset's version, since no result depends on it.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.data.files import read_text, short
from bench.errors import DataError
from bench.types import Dataset, IntArray

FILE = "ids.json"


def write_names(dataset: Dataset, folder: Path) -> list[Path]:
    """Write the own ids of a dataset that has them.

    Returns:
        The file, or nothing.
    """
    items, users = dataset.catalogue.item_names, dataset.user_names
    if items is None and users is None:
        return []
    said = {
        "users": {str(user): name for user, name in (users or {}).items() if user},
        "items": {str(item): name for item, name in enumerate(items or ()) if item},
    }
    text = json.dumps(said, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text, encoding="utf-8")
    return [folder / FILE]


def read_names(
    folder: Path, published_N: IntArray
) -> tuple[tuple[str, ...] | None, dict[int, str] | None]:
    """Names by item id, entry 0 empty, and by user id; None where there are none.

    Args:
        folder: of the dataset.
        published_N: the number of each item in the files.

    Raises:
        DataError: the file is not of this form, or an item is missing.
    """
    path = folder / FILE
    if not path.is_file():
        return None, None
    try:
        said = json.loads(read_text(path))
        users = {int(user): str(name) for user, name in said["users"].items()}
        names = {int(item): str(name) for item, name in said["items"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not two objects, users and items, of names by number ({short(str(error))}); "
            "import the data again, or delete the file"
        ) from error
    if not names:
        return None, users or None
    if missing := [item for item in published_N.tolist() if item not in names]:
        raise DataError(f"{path}: item {missing[0]} has no name; import the data again")
    return ("", *(names[item] for item in published_N.tolist())), users or None
