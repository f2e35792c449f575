"""Trie statistics of the published data: sizes, average number of valid tokens, seconds to build.

    python -m speed.avt

The average over train_10000 with Llama-3's tokenizer is the check that data, titles, quoting and trie
are the paper's (MSL, Table 4: 54.38 Toy, 70.90 Book, 8.98 Office). Datasets not found are left out.
"""

from __future__ import annotations

import ast
import csv
import json
import os
import time
from pathlib import Path

import numpy as np

from llmrec.lm import llama3_tokens
from llmrec.trie import Trie, for_titles

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


def measure(name: str, folder: Path, tokenizer: llama3_tokens.Llama3Tokens) -> dict[str, object]:
    titles = read_titles(folder)
    start = time.perf_counter()
    trie = for_titles(titles, tokenizer)
    tokenised_and_built = time.perf_counter() - start
    paths = [trie.answer[leaf].tolist() for leaf in trie.leaf_of_item_N[1:]]
    start = time.perf_counter()
    Trie.of(paths, trie.eos)
    built = time.perf_counter() - start
    return {
        "data": name,
        "items": trie.n_items,
        "leaves": trie.n_leaves,
        "edges": trie.n_edges,
        "branching": int((trie.fan_out_M > 1).sum()),
        "root": int(trie.fan_out_M[0]),
        "avt": round(trie.avt(read_targets(folder / "train_10000.csv")), 2),
        "paper": PAPER.get(name),
        "build_seconds": round(built, 3),
        "with_tokenizing": round(tokenised_and_built, 3),
    }


def main() -> None:
    tokenizer = llama3_tokens.load()
    folders = sorted(path.parent for path in data_folder().glob("*/train_10000.csv"))
    rows = [measure(folder.name, folder, tokenizer) for folder in folders]
    for key in rows[0] if rows else []:
        print(f"{key:16}", *(f"{row[key]!s:>10}" for row in rows))
    print(json.dumps({"avt": rows}))


if __name__ == "__main__":
    main()
