"""Statistics of a dataset's trie under Llama 3's tokenizer, for the paper's Tables 4 and 7.

The average number of valid tokens over the published training sample checks that data, titles, quoting and
trie are the paper's (MSL, Table 4: 54.38 Toy, 70.90 Book, 53.74 Clothing, 8.98 Office). The same of the
embedded model's tokenizer tells how far what is run here differs in it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.data.audit import audit
from bench.types import Dataset
from llmrec.lm import llama3_tokens
from llmrec.lm.backbone import embedded_tokenizer
from llmrec.lm.names import EMBEDDED
from llmrec.trie import Trie, for_titles

TRAIN_ROWS = 10_000  # of the paper's language models


def measure(dataset: Dataset) -> dict[str, Any]:
    """Size and density of a dataset, and its tries.

    Args:
        dataset: with its titles.

    Returns:
        JSON-able: counts of the data, ``statistics`` under Llama 3's tokenizer and, by name of another
        one under ``other_tokens``, those under it.

    Raises:
        Unavailable: a tokenizer is not installed.
    """
    size = audit(dataset).facts["size"]
    return {
        "users": size["users"],
        "items": size["items"],
        "interactions": size["interactions (rebuilt from windows)"],
        "density": size["density"],
        **statistics(dataset, llama3_tokens.load()),
        "other_tokens": {EMBEDDED: statistics(dataset, embedded_tokenizer())},
    }


def statistics(dataset: Dataset, tokenizer: Any) -> dict[str, Any]:
    """The trie of a dataset's titles.

    Args:
        dataset: with its titles.
        tokenizer: called like one of Hugging Face.

    Returns:
        Leaves, edges, branching nodes and root fan-out; ``avt`` over the training sample, ``branching`` over
        its positions with a choice and ``choices``, their share; seconds to build, without and with
        tokenising.
    """
    start = time.perf_counter()
    trie = for_titles(dataset.catalogue.titles, tokenizer)
    whole = time.perf_counter() - start
    paths = [trie.answer[leaf].tolist() for leaf in trie.leaf_of_item_N[1:]]
    start = time.perf_counter()
    Trie.of(paths, trie.eos)
    built = time.perf_counter() - start
    target_W = dataset.split.whole().train.sample(TRAIN_ROWS).target_W
    nodes = trie.path.take(trie.leaf_of_item_N[target_W]).values
    fan_out_R = trie.fan_out_M[nodes]
    choice_R = fan_out_R > 1
    return {
        "leaves": trie.n_leaves,
        "edges": trie.n_edges,
        "branching_nodes": int((trie.fan_out_M > 1).sum()),
        "root": int(trie.fan_out_M[0]),
        "avt": float(fan_out_R.mean()),
        "branching": float(fan_out_R[choice_R].mean()) if choice_R.any() else 1.0,
        "choices": float(np.mean(choice_R)),
        "build_seconds": round(built, 4),
        "with_tokenizing_seconds": round(whole, 4),
    }
