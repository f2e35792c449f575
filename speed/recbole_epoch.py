"""Seconds of one SASRec epoch: the suite's training against RecBole's own, in pairs in one process.

Both train RecBole's SASRec with cross-entropy on the same rows with the same batch size, in turns. RecBole's
side reads benchmark files and uses its TrainDataLoader and its Trainer unchanged. It is measured twice: as
installed (importing it switches autograd's anomaly mode on) and with that mode off. CPU seconds are
compared, since they depend less on what else the machine does. Usage::

    python -m speed.recbole_epoch [--rows 8192] [--pairs 5] [--batch-size 256]

The last line is a JSON object; ``ratio`` is ours / RecBole as installed, by medians of the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from baselines import _recbole as rb  # noqa: PLC2701 (the other side of the comparison)
from baselines import training
from baselines.sasrec import SASRec
from bench.cell import Run
from bench.types import Catalogue, Exam, Queries, Ragged, Windows


def rows(n_rows: int, n_items: int) -> Windows:
    """Random windows of the paper's shape: 4 to 10 history items and a target, skewed popularity."""
    rng = np.random.default_rng(0)
    items = np.minimum(rng.zipf(1.3, (n_rows, 11)), n_items).astype(np.int32)
    lengths = rng.choice([4, 5, 6, 7, 8, 9, 10], n_rows, p=[0.05] * 5 + [0.05, 0.7])
    history = Ragged.of([row[:length] for row, length in zip(items, lengths, strict=True)])
    catalogue = Catalogue(("", *(f"item {i}" for i in range(1, n_items + 1))))
    time_W = np.arange(n_rows)
    return Windows(catalogue, time_W, history, items[:, 10], time_W)


def write_files(train: Windows, folder: Path) -> None:
    """RecBole's benchmark files ``suite.train.inter`` ... and the item list."""
    head = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"
    lines = [
        f"{u}\t{' '.join(map(str, h))}\t{t}\t{s}\n"
        for u, h, t, s in zip(
            train.user_W, train.history, train.target_W, train.timestamp_W, strict=True
        )
    ]
    (folder / "suite").mkdir(parents=True)
    for part, kept in (("train", lines), ("valid", lines[:2]), ("test", lines[:2])):
        (folder / "suite" / f"suite.{part}.inter").write_text(head + "".join(kept))
    ids = "".join(f"{i}\n" for i in range(1, train.n_items + 1))
    (folder / "suite" / "suite.item").write_text("item_id:token\n" + ids)


def plain(train: Windows, batch_size: int, folder: Path) -> Callable[[], object]:
    """One epoch of RecBole's own Trainer over its own loader, made from files."""
    from recbole.data.dataloader import TrainDataLoader

    write_files(train, folder)
    options = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "gpu_id": "",
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {
            "inter": ["user_id", "item_id_list", "item_id", "timestamp"],
            "item": ["item_id"],
        },
        "MAX_ITEM_LIST_LENGTH": 10,
        "train_neg_sample_args": None,
        "train_batch_size": batch_size,
        "metrics": ["NDCG"],
        "valid_metric": "NDCG@10",
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "group_by": None,
            "order": "TO",
            "mode": "full",
        },
    }
    with rb.bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = rb.Config(model="SASRec", dataset="suite", config_dict=options)
        dataset = rb.SequentialDataset(config).build()[0]
    trainer = rb.Trainer(config, rb.SASRec(config, dataset))
    loader = TrainDataLoader(config, dataset, None, shuffle=True)
    return lambda: trainer._train_epoch(loader, 0)


def ours(train: Windows, batch_size: int, folder: Path) -> Callable[[], object]:
    """One epoch of the suite's SASRec with RecBole's dropout."""
    method = SASRec({"batch_size": batch_size, "dropout": 0.5}, loss="ce")
    asked = Queries(train.catalogue, train.user_W, train.history, train.timestamp_W)
    course = training.Course(
        valid=Exam(asked, train.target_W),
        train_count=train.target_count,
        width=10,
        batch_size=batch_size,
        run=Run(seed=0, device="cpu", folder=folder),
    )
    columns = training.columns(train.history, train.target_W, method.width)
    config, dataset = method.build(columns, train.n_items, folder, "cpu")
    trainer = training.ExamTrainer(config, method.model, course)
    batches = training.Batches(dataset, method.model, size=batch_size, seed=0)
    return lambda: trainer._train_epoch(batches, 0)


def seconds(epoch: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    epoch()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--items", type=int, default=6344)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(options.threads)
    train = rows(options.rows, options.items)
    with tempfile.TemporaryDirectory() as name:
        theirs = plain(train, options.batch_size, Path(name) / "theirs")
        own = ours(train, options.batch_size, Path(name) / "ours")
        taken: dict[str, list[float]] = {"ours": [], "recbole": [], "recbole_quiet": []}
        for pair in range(options.pairs + 1):
            figures = {"ours": seconds(own), "recbole_quiet": seconds(theirs)}
            with torch.autograd.set_detect_anomaly(True):
                figures["recbole"] = seconds(theirs)
            print("warm-up" if pair == 0 else f"pair {pair}", figures)
            for side, figure in figures.items():
                taken[side] += [figure] if pair else []
    median = {side: round(statistics.median(figures), 3) for side, figures in taken.items()}
    quiet = [a / b for a, b in zip(taken["ours"], taken["recbole_quiet"], strict=True)]
    loud = [a / b for a, b in zip(taken["ours"], taken["recbole"], strict=True)]
    print(
        json.dumps(
            {
                "what": "CPU seconds of one SASRec epoch",
                "rows": options.rows,
                "batch_size": options.batch_size,
                "threads": options.threads,
                **median,
                "ratio": round(statistics.median(loud), 3),
                "ratio_quiet": round(statistics.median(quiet), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
