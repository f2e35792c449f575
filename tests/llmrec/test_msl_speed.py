"""The sparse loss has to stay far below the dense form; ratios within one process."""

import pytest
import torch

from llmrec.trie import for_titles
from speed.msl_loss import Pieces, measure, titles_and_targets


@pytest.mark.slow
def test_sparse_loss_is_fast_small_and_the_same():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _, titles, targets = titles_and_targets()
    row = measure(for_titles(titles, Pieces()), targets, (576, 49_152), 1)
    torch.set_num_threads(threads)
    assert row["times_faster"] > 20 and row["times_smaller"] > 20
    assert row["loss_difference"] < 1e-5 and row["gradient_difference"] < 1e-5
