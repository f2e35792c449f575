"""Statistics of a trie on a catalogue small enough to count by hand."""

import numpy as np
import pytest

from bench.types import Catalogue, Dataset, Exam, Queries, Ragged, Split, Windows
from llmrec.tries import statistics


class Letters:
    """A tokenizer with one token a character and 0 as its end token."""

    eos_token_id = 0

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    def get_vocab(self):
        return {chr(code): code for code in range(1, 128)}


def test_fan_outs_of_two_titles_over_the_training_targets():
    """``"ab"`` twice and ``"ac"`` once: five positions a row, two valid tokens at the third only."""
    catalogue = Catalogue(("", "ab", "ac"))
    one = Ragged.of([[1]])
    train = Windows(
        catalogue, np.arange(3), Ragged.of([[1]] * 3), np.array([1, 1, 2]), np.arange(3)
    )
    exam = Exam(Queries(catalogue, np.arange(1), one, np.arange(1)), np.array([2]))
    found = statistics(Dataset("two", "0", catalogue, Split(train, exam, exam)), Letters())
    assert (found["leaves"], found["root"], found["branching_nodes"]) == (2, 1, 1)
    assert found["edges"] == 8  # the quote, a, then b and c, each with a quote and an end
    assert found["avt"] == pytest.approx(6 / 5)
    assert (found["branching"], found["choices"]) == (2.0, pytest.approx(1 / 5))
    assert found["build_seconds"] <= found["with_tokenizing_seconds"] + 1
