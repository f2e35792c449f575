"""Trie statistics of the published data: sizes, average number of valid tokens, seconds to build.

    python -m speed.avt

The average over train_10000 with Llama-3's tokenizer is the check that data, titles, quoting and trie
are the paper's (MSL, Table 4). Datasets not found are left out. `bench paper --tries` keeps these numbers.
"""

from __future__ import annotations

import ast
import csv
import json
import os
from pathlib import Path

import numpy as np

from bench.errors import DataError
from bench.registry import datasets
from llmrec.lm import llama3_tokens
from llmrec.tries import statistics

PAPER = {"toy": 54.38, "book": 70.90, "clothing": 53.74, "office": 8.98}


def data_folder() -> Path:
    """Where the published files are: BENCH_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("BENCH_DATA", beside))


def read_titles(folder: Path) -> list[str]:
    """Titles by item id, padding first."""
    names = json.loads((folder / "id2name4Rec.json").read_text(encoding="utf-8"))
    return ["", *(names[str(item)] for item in range(1, len(names) + 1))]


def read_targets(path: Path) -> np.ndarray:
    """The last item of each window."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        return np.array([ast.literal_eval(row["item_ids"])[-1] for row in rows])


def main() -> None:
    tokenizer, rows = llama3_tokens.load(), []
    for name, published in PAPER.items():
        try:
            dataset = datasets.get(name)(data_folder())
        except DataError as fault:
            print(f"{name} left out: {fault}")
            continue
        rows.append({"data": name, "paper": published, **statistics(dataset, tokenizer)})
    for key in rows[0] if rows else []:
        print(f"{key:24}", *(f"{row[key]!s:>20}" for row in rows))
    print(json.dumps({"avt": rows}))


if __name__ == "__main__":
    main()
