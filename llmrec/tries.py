"""Statistics of a dataset's trie under Llama 3's tokenizer, for the paper's Tables 4 and 7.

The average number of valid tokens over the published training sample checks that data, titles, quoting and
trie are the paper's (MSL, Table 4: 54.38 Toy, 70.90 Book, 53.74 Clothing, 8.98 Office).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.data.audit import audit
from bench.types import Dataset
from llmrec.lm import llama3_tokens
from llmrec.trie import Trie, for_titles

TRAIN_ROWS = 10_000  # of the paper's language models


def measure(dataset: Dataset, tokenizer: Any) -> dict[str, Any]:
    """Size, density and trie of a dataset.

    Args:
        dataset: with its titles.
        tokenizer: Llama 3's.

    Returns:
        JSON-able: counts of the data; leaves, edges, branching nodes and root fan-out of the trie; ``avt``
        over the training sample, ``branching`` over its positions with a choice; seconds to build.
    """
    size = audit(dataset).facts["size"]
    start = time.perf_counter()
    trie = for_titles(dataset.catalogue.titles, tokenizer)
    whole = time.perf_counter() - start
    paths = [trie.answer[leaf].tolist() for leaf in trie.leaf_of_item_N[1:]]
    start = time.perf_counter()
    Trie.of(paths, trie.eos)
    built = time.perf_counter() - start
    target_W = dataset.split.whole().train.sample(TRAIN_ROWS).target_W
    leaf_W = trie.leaf_of_item_N[target_W]
    fan_out_R = np.concatenate([trie.fan_out_M[trie.path[leaf]] for leaf in leaf_W])
    return {
        "users": size["users"],
        "items": size["items"],
        "interactions": size["interactions (rebuilt from windows)"],
        "density": size["density"],
        "leaves": trie.n_leaves,
        "edges": trie.n_edges,
        "branching_nodes": int((trie.fan_out_M > 1).sum()),
        "root": int(trie.fan_out_M[0]),
        "avt": trie.avt(target_W),
        "branching": float(fan_out_R[fan_out_R > 1].mean()),
        "choices": float((fan_out_R > 1).mean()),
        "build_seconds": round(built, 4),
        "with_tokenizing_seconds": round(whole, 4),
    }


def tokenizer() -> llama3_tokens.Llama3Tokens:
    """Llama 3's tokenizer.

    Raises:
        Unavailable: it is not installed.
    """
    return llama3_tokens.load()
