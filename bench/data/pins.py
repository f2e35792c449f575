r"""Which files make up the paper's data: repository, commit, path and git blob id of each.

A blob id is the SHA-1 of ``"blob <length>\0"`` and the bytes, so it names the content and not the place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from bench.errors import UnknownName

BASE = "https://raw.githubusercontent.com"
BEAR = "Tiny-Snow/BEAR-WWW-2026", "806210055922157cfd8f7f2e7ee392c3b7b863f0"
LBR = "Void-JackLee/LBR", "4e492894a41da0c4c8b89ababcab85844690b39c"
LARGE = 128 << 20  # bytes; Toy's files have titles in their rows
LLM4DSR = "WANGBohaO-jpg/LLM4DSR", "b900dbaba9dda0950f8e23c095b301c4b4f74c48"


@dataclass(frozen=True)
class Pin:
    """One file of one commit.

    Attributes:
        target: where it goes, below the data root.
        repository, commit, path: where it is.
        blob: its git blob id, 40 hex digits.
        most: bytes; of a file that is larger than that nothing is kept.
    """

    target: str
    repository: str
    commit: str
    path: str
    blob: str
    most: int = 16 << 20

    def url(self, base: str = BASE) -> str:
        """Address of the bytes."""
        return f"{base.rstrip('/')}/{self.repository}/{self.commit}/{quote(self.path)}"


def _bear(folder: str, **blobs: str) -> list[Pin]:
    names = {"titles": "id2name4Rec.json"}
    files = ((names.get(stem, f"{stem}.csv"), blob) for stem, blob in blobs.items())
    most = LARGE if folder == "Toy" else Pin.most
    return [
        Pin(f"{folder.lower()}/{f}", *BEAR, f"data/{folder}/{f}", blob, most) for f, blob in files
    ]


PAPER: tuple[Pin, ...] = (
    *_bear(
        "Toy",
        train="daf0f7b00e21b47d638e546c6e8a4ad25c92b465",
        train_10000="7091b0eb988617f10f45630db384ff792577647c",
        test="3a2e1c46fa1ef2c5e937329f4bd7b24411fcd7ee",
        titles="5306507fa396d9b7f2fe6f212e20636520935495",
    ),
    Pin(
        "toy/valid.csv",
        *LLM4DSR,
        "data/Toy_noise_user0.0/valid.csv",
        "86d78efad22a175b75621df74f1a290ef5453eda",
        LARGE,
    ),
    *_bear(
        "Book",
        train="034036449175d9e45aa4286a41a44d6e460f8627",
        train_10000="69daee112dd2bf607e0544afea751624b7228a8e",
        test="774bb5961d08e9be3fc08de264bf9a75823428c2",
        titles="b0bac114fd293e6d84e2ef57dc40078867d025b7",
    ),
    *_bear(
        "Clothing",
        train="c9452b89c8ee1ff68df871360f14008256acc669",
        train_10000="afb2cc847449bf50ff881fbcc203fd53e577a6dd",
        test="dce4c81fa97fee8cd36db71c017e010b3cf691bf",
        test_5000="28906b6ad3761f7e26ae935bf3199c800e08a5a3",
        titles="5d8ffbf66ac24bca040fe04a31f082c2a6b16286",
    ),
    *_bear(
        "Office",
        train="94bd4735ca413336d18008ebdc5adb5d9e67ab43",
        train_10000="3a57a699983d68245c0525a13594db2cade40bb2",
        test="e23c2de4ea395e3d7ad24389f3d34a5621dac595",
        titles="d82f3f538673859dc06d076dc48cba2312c5f8e7",
    ),
    Pin("office/valid.csv", *LBR, "data/Office/valid.csv", "be1d69d755bcc4aa67f581f2ea5178c86588bc78"),
)  # fmt: skip


def pins_for(names: Iterable[str]) -> list[Pin]:
    """The files behind ``paper`` (all) or single datasets.

    Raises:
        UnknownName: nothing pinned has that name.
    """
    folders = sorted({pin.target.partition("/")[0] for pin in PAPER})
    wanted = list(names)
    for name in wanted:
        if name not in (*folders, "paper"):
            raise UnknownName(
                f"nothing to fetch is called {name!r}; known: paper, {', '.join(folders)}"
            )
    if "paper" in wanted:
        return list(PAPER)
    return [pin for pin in PAPER if pin.target.partition("/")[0] in wanted]


def blob_id(data: bytes) -> str:
    """The id git gives these bytes, 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
