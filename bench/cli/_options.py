"""Options that several verbs share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from bench.api import Order, default_data_root
from bench.errors import ConfigError
from bench.execution.slurm_words import Queue, read_words
from bench.experiment.budget import read_duration
from bench.experiment.choice import Choice
from bench.experiment.given import read_values
from bench.experiment.profiles import profiles
from bench.results.places import RESULTS


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """What to run: suite, scale, filters."""
    group = parser.add_argument_group("what to run")
    group.add_argument("--suite", default="paper", help="name or .yaml file (default: paper)")
    group.add_argument(
        "--scale",
        default="auto",
        help="embedded, laptop, small, full, or auto: what this machine can do (default)",
    )
    group.add_argument(
        "--profile",
        choices=tuple(profiles()),
        default="corrected",
        help="; ".join(f"{name}: {profile.about}" for name, profile in profiles().items()),
    )
    for name, what in (("datasets", "book,office"), ("methods", "sasrec"), ("losses", "msl_ats")):
        group.add_argument(f"--{name}", type=_names, help=f"only these, comma-separated: {what}")
    group.add_argument("--seeds", type=_numbers, help="these seeds, comma-separated: 0,1,2")
    group.add_argument("--limit", type=_count, help="at most this many test rows")
    group.add_argument("--backbone", help="language model of every LLM row: scratch, a folder ...")
    group.add_argument(
        "--candidates",
        choices=("all", "known"),
        default="all",
        help="rank the whole catalogue (default) or only items that had occurred by the query's time",
    )
    group.add_argument(
        "--tune", type=_count, default=0, help="trials of a search on validation before each fit"
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value for every asked method that has the key, e.g. lr=1e-3, lora_targets=[q_proj,k_proj] or "
        "loss_options.tau=2; again for more (`bench options METHOD` lists the keys)",
    )
    group.add_argument("--plugin", action="append", default=[], help="a file that registers more")


def add_rank_option(group: argparse._ArgumentGroup) -> None:
    """How many GPUs a cell has."""
    group.add_argument(
        "--gpus-per-cell",
        type=_count,
        metavar="N",
        help="let N processes with a GPU each share the work of every cell whose method can (language "
        "models; the others keep one): rows of a batch and queries are dealt out, each seen once, and the "
        "results are those of one GPU at the same batch, so that no row is made again; without a GPU the N "
        "processes share the cores (default: the suite's or the scale's, 4 at scale full, as far as "
        "there are GPUs)",
    )


def add_place_options(group: argparse._ActionsContainer) -> None:
    """Where on this machine cells run."""
    group.add_argument(
        "--jobs",
        type=int,
        help="cells at a time, 1 or more (default: as many as cores and memory carry; on GPUs one each, and "
        "up to 4 on one where the peaks measured on earlier rows of their kind fit together)",
    )
    group.add_argument(
        "--gpus",
        type=_gpus,
        help="the GPUs to use: indices such as 0,2, in the order of their bus ids and "
        'counted among those in CUDA_VISIBLE_DEVICES if it is set; none (or "") for the CPU, where '
        "--scale auto then takes laptop, or embedded (default: all)",
    )


def add_how_options(parser: argparse.ArgumentParser) -> None:
    """How cells run, and for how long."""
    group = parser.add_argument_group("how")
    add_rank_option(group)
    add_place_options(group)
    group.add_argument(
        "--budget",
        type=_duration,
        metavar="TIME",
        help="run only what is foretold to end within a time such as 8h or 1h30m: cells in the suite's "
        "order, each with what it needs, as far as they fit; the others are not run this time",
    )
    group.add_argument(
        "--limit-minutes",
        type=float,
        help="end a cell that runs longer; it is shown as failed (default: 60, or ten times what was "
        "predicted if that is more; 0 for no limit)",
    )
    group.add_argument(
        "--microscope",
        type=_count,
        nargs="?",
        const=0,
        metavar="LOOKS",
        help="record the parts of the loss, their gradients, weights, logits and temperature while language "
        "models are trained: as often as costs under 2 %% of the steps' time, or so many times whatever they "
        "cost. Results and keys stay; rows that are there are not trained again without --reuse never. See "
        "`bench paper`",
    )
    group.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="where cells run"
    )
    group.add_argument(
        "--slurm",
        default="",
        help="for --executor slurm, e.g. partition=gpu,time=240,cpus=8,gpus=1,mem=32GB,at_once=16; also "
        "account, qos, constraint. No accounting is needed; jobs of a runner that was killed are found again",
    )


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Where data, rows and artefacts are."""
    group = parser.add_argument_group("where")
    group.add_argument("--data-root", help="folder with book/, toy/ ... (default: $BENCH_DATA)")
    group.add_argument(
        "--out",
        default=str(RESULTS),
        help="folder of rows and tables, empty or made by the suite (default: %(default)s)",
    )
    group.add_argument("--store", help="run store (default: $BENCH_STORE or .bench)")
    group.add_argument(
        "--reuse",
        choices=("auto", "same-code", "rows", "any", "never"),
        default="auto",
        help="take rows made here (auto), only those of unchanged source (same-code), also published "
        "ones, of leaderboards/rows (rows), those of any version from the same data (any), or none (never)",
    )
    group.add_argument("--retry", action="store_true", help="run failed and left-out cells again")


def order_of(options: argparse.Namespace) -> Order:
    """The order behind the options of ``run`` and ``plan``."""
    choice = Choice(
        scale=options.scale,
        profile=options.profile,
        data_root=default_data_root(options.data_root),
        datasets=options.datasets,
        methods=options.methods,
        losses=options.losses,
        seeds=options.seeds,
        backbone=options.backbone,
        tune=options.tune,
        limit=options.limit,
        candidates=options.candidates,
        config=read_values(options.set),
    )
    queue = queue_of(options)
    elsewhere = queue.there if queue else {}
    return Order(
        **elsewhere,
        suite=options.suite,
        choice=choice,
        reuse=options.reuse,
        retry=options.retry,
        plugins=tuple(options.plugin),
        jobs=options.jobs,
        gpus=options.gpus,
        gpus_per_cell=options.gpus_per_cell,
        limit_seconds=_limit(options.limit_minutes),
        microscope=options.microscope,
        budget=options.budget,
    )


def queue_of(options: argparse.Namespace) -> Queue | None:
    """What --slurm says of the jobs; None if cells run here.

    Raises:
        ConfigError: a word is not understood, or has no effect without --executor slurm.
    """
    if options.executor == "slurm":
        return read_words(options.slurm)
    if options.slurm:
        raise ConfigError(
            f"--slurm {options.slurm} has no effect on --executor local; add --executor slurm"
        )
    return None


def _limit(minutes: float | None) -> float | None:
    """Seconds; 0 minutes are no limit."""
    return None if minutes is None else minutes * 60 or math.inf


def _names(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in _names(text)]
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers") from fault


def _gpus(text: str) -> list[int]:
    return [] if text.strip().lower() == "none" else _numbers(text)


def _duration(text: str) -> float:
    try:
        return read_duration(text)
    except ConfigError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def clock(seconds: float) -> str:
    """Seconds as people read them: 8 s, 3 min, 2 h 05."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5940:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d}"


def shown_path(path: Path) -> str:
    """A path relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
