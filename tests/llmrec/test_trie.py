import os
import warnings
from pathlib import Path

import marisa_trie
import numpy as np
import pytest

from bench.errors import DataError, Unavailable
from bench.registry import datasets
from llmrec.lm import llama3_tokens
from llmrec.trie import Trie, fingerprint, for_titles
from llmrec.tries import statistics

END = 9


class Characters:
    """Each character is a token; ``lossy`` folds case, as an uncased tokenizer would."""

    def __init__(self, *, lossy: bool = False, eos: int | None = 1) -> None:
        self.lossy, self.eos_token_id = lossy, eos

    def __call__(self, texts, *, add_special_tokens):
        assert not add_special_tokens
        fold = str.lower if self.lossy else str
        return {"input_ids": [[ord(c) for c in fold(text)] for text in texts]}

    def get_vocab(self):
        return {chr(i): i for i in range(256)} | {"lossy": int(self.lossy)}


def five() -> Trie:
    """Items 3 and 4 share a title; item 1 ends where item 5 goes on."""
    return Trie.of([[5, 6, END], [5, 7, END], [3, END], [3, END], [5, 6, 8, END]], END, "f")


def random_paths(seed: int, n: int = 300) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*rng.integers(1, 8, rng.integers(0, 9)).tolist(), 0] for _ in range(n)]


def test_five_titles_by_hand():
    trie = five()
    assert trie.children(0)[0].tolist() == [3, 5]
    assert trie.fan_out_M.tolist() == [2, 1, 2, 0, 2, 1, 1, 0, 0, 0]
    assert [items.tolist() for items in trie.leaf_items] == [[1], [2], [3, 4], [5]]
    assert trie.leaf_of_item_N.tolist() == [-1, 0, 1, 2, 2, 3]
    assert [path.tolist() for path in trie.path] == [[0, 2, 4], [0, 2, 5], [0, 1], [0, 2, 4, 6]]
    assert trie.sole_leaf_M.tolist() == [-1, 2, -1, 2, -1, 1, 3, 0, 1, 3]
    assert trie.tail_length_M.tolist() == [-1, 1, -1, 0, -1, 1, 1, 0, 0, 0]
    assert (trie.n_items, trie.n_leaves, trie.n_nodes, trie.n_edges) == (5, 4, 10, 9)


def test_average_of_valid_tokens_counts_every_position():
    trie = five()
    assert trie.avt(np.array([1])) == pytest.approx((2 + 2 + 2) / 3)
    assert trie.avt(np.array([1, 4, 4])) == pytest.approx((2 + 2 + 2 + 2 * (2 + 1)) / 7)
    assert trie.avt() == trie.avt(np.arange(1, 6))
    with pytest.raises(DataError, match="at least one target"):
        trie.avt(np.array([], int))


@pytest.mark.parametrize("seed", range(3))
def test_random_tries_against_sets_of_prefixes(seed):
    paths = random_paths(seed)
    trie = Trie.of(paths, 0)
    after: dict[tuple[int, ...], set[int]] = {}
    for path in paths:
        for at, token in enumerate(path):
            after.setdefault(tuple(path[:at]), set()).add(token)
    for leaf, (answer, nodes) in enumerate(zip(trie.answer, trie.path, strict=True)):
        for at, node in enumerate(nodes):
            tokens, children = trie.children(node)
            assert tokens.tolist() == sorted(after[tuple(answer[:at].tolist())])
            child = children[tokens.tolist().index(answer[at])]
            assert trie.step([node], [answer[at]])[0] == child
            ends = at + 1 == len(nodes)
            assert (trie.leaf_M[child] == leaf) if ends else (child == nodes[at + 1])
    assert trie.n_nodes - trie.n_leaves == len(after)
    for item, path in enumerate(paths, 1):
        assert trie.answer[trie.leaf_of_item_N[item]].tolist() == path
        assert item in trie.leaf_items[trie.leaf_of_item_N[item]]


def test_forced_tails_against_walking():
    trie = Trie.of(random_paths(7, 40), 0)
    for node in range(trie.n_nodes):
        at, steps = node, 0
        while trie.fan_out_M[at] == 1:
            at, steps = int(trie.children(at)[1][0]), steps + 1
        alone = trie.fan_out_M[at] == 0
        assert trie.tail_length_M[node] == (steps if alone else -1)
        assert trie.sole_leaf_M[node] == (trie.leaf_M[at] if alone else -1)


def test_children_agree_with_marisa():
    paths = random_paths(11)
    trie = Trie.of(paths, 0)
    words = marisa_trie.Trie("".join(chr(64 + token) for token in path) for path in paths)
    for answer, nodes in zip(trie.answer, trie.path, strict=True):
        for at, node in enumerate(nodes):
            prefix = "".join(chr(64 + token) for token in answer[:at])
            following = {ord(word[at]) - 64 for word in words.keys(prefix) if len(word) > at}
            assert trie.children(node)[0].tolist() == sorted(following)


def test_step_refuses_invalid_tokens():
    trie = five()
    assert trie.step([0, 0, 2, 9], [5, 6, END, END]).tolist() == [2, -1, -1, -1]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "empty"),
        ([[5, END], [5]], "item 2"),
        ([[5, END, 6, END]], "nowhere else"),
        ([[]], "item 1"),
    ],
)
def test_broken_answers_are_named(paths, message):
    with pytest.raises(DataError, match=message):
        Trie.of(paths, END)


def test_titles_are_quoted_and_the_empty_one_is_legal():
    trie = for_titles(["", "a", "", "ab", "a"], Characters())
    assert [answer.tolist() for answer in trie.answer] == [
        [34, 97, 34, 1],
        [34, 34, 1],
        [34, 97, 98, 34, 1],
    ]
    assert trie.leaf_of_item_N.tolist() == [-1, 0, 1, 2, 0]


def test_one_item_and_no_item():
    assert for_titles(["", "a"], Characters()).avt() == 1.0
    with pytest.raises(DataError, match="empty"):
        for_titles([""], Characters())


def test_tokenizer_without_an_end_token():
    with pytest.raises(DataError, match="end token"):
        for_titles(["", "a"], Characters(eos=None))


def test_titles_that_become_one_answer_are_warned_of():
    with pytest.warns(UserWarning, match="'A' and 'a'"):
        trie = for_titles(["", "a", "A"], Characters(lossy=True))
    assert trie.leaf_items[0].tolist() == [1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for_titles(["", "a", "a"], Characters(lossy=True))  # equal titles are no surprise


def test_fingerprint_follows_tokenizer_titles_and_end():
    titles = ["", "a", "b"]
    trie = for_titles(titles, Characters())
    trie.require(titles, Characters())
    for other in (Characters(lossy=True), Characters(eos=2)):
        with pytest.raises(DataError, match="fingerprint"):
            trie.require(titles, other)
    assert fingerprint(["", "ab", ""], Characters()) != fingerprint(["", "a", "b"], Characters())


@pytest.fixture(scope="module")
def llama3() -> llama3_tokens.Llama3Tokens:
    try:
        return llama3_tokens.load()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("name", "root", "avt", "edges"),
    [("book", 64, 70.90, 70_029), ("toy", 46, 54.38, 110_945), ("office", 24, 8.97, 49_670)],
)
def test_published_statistics_with_llama3(llama3, name, root, avt, edges):
    """MSL, Table 4 (Office there is 8.98) and the first-token counts of the authors' first commit."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("BENCH_DATA", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"no {name} data")
    row = statistics(datasets.get(name)(folder.parent), llama3)
    assert (row["root"], round(row["avt"], 2), row["edges"]) == (root, avt, edges)
    assert row["build_seconds"] < 1.0
