"""The sentences above a table, on six rows whose strata are drawn below."""

from dataclasses import replace

import _board_rows as kit
import numpy as np

from bench.board.leaderboard import rank_entries
from bench.board.reach import reach
from bench.board.rows import read_folder, tables_of

SAME = np.array([1, 1, 0, 0, 0, 0], bool)
SERIES = np.array([0, 1, 0, 0, 0, 1], bool)
M = kit.M


def reached(folder, ranks):
    for method, ranks_Q in ranks.items():
        row, packed = kit.done(ranks_Q, kit.cell("popularity"))
        row = replace(row, cell=replace(row.cell, method=method))
        days = {"same_day": SAME, "later_day": ~SAME, "series": SERIES}
        kit.write(folder, row, replace(packed, masks={**packed.masks, **days}))
    ((key, entries),) = tables_of(read_folder(folder)).items()
    return reach(rank_entries(key, entries))


def test_ids_text_and_the_order_of_ids_have_a_sentence_each(tmp_path):
    ids, text, order = reached(
        tmp_path,
        {
            "last_item_text": [0, 0, M, M, M, M],
            "bm25": [0, M, M, M, M, M],
            "next_id": [M, M, 0, M, M, M],
            "random_new": [M, M, M, M, M, M],
        },
    )
    assert ids.startswith("cold share 50.0 % of test targets") and "Hit 50.0 %" in ids
    assert text == (
        "text: titles reach without any training 0.3333 NDCG@10 (last_item_text); 33.3 % of targets are of a "
        "series of their history"
    )
    assert order == (
        "order of ids: alone 0.1667 NDCG@10 (next_id); targets of the last item's own day (33.3 % of rows): "
        "best line 1.0000 (last_item_text); of a later day (66.7 %): 0.2500 (next_id), where ten random new "
        "items expect 0.0000"
    )


def test_a_table_without_such_lines_says_nothing_of_them(tmp_path):
    ids, *rest = reached(tmp_path, {"popularity": [M, M, 9, M, M, M]})
    assert ids.startswith("cold share 50.0 %") and not rest
