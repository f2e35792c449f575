"""The verbs board, claims, compare and verify, called as the command line calls them."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from _board_rows import COLD, USER, M, cell, done, lists_of, tiny_board, write

from bench.board.leaderboard import ours_of
from bench.board.rows import read_folder, tables_of
from bench.errors import DataError, UnknownName
from bench.evaluation.positions import Positions


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


def call(*words):
    parser = argparse.ArgumentParser(prog="bench")
    subparsers = parser.add_subparsers(dest="verb")
    for verb in ("board", "claims", "compare", "verify"):
        importlib.import_module(f"bench.cli.{verb}").add_parser(subparsers)
    options = parser.parse_args([str(word) for word in words])
    return options.func(options)


@pytest.mark.parametrize("verb", ["board", "claims", "compare", "verify"])
def test_help_teaches_with_examples(verb, capsys):
    with pytest.raises(SystemExit):
        call(verb, "--help")
    assert f"python -m bench {verb}" in capsys.readouterr().out


def test_board(rows, tmp_path, capsys):
    assert call("board", "--rows", rows, "--out", tmp_path / "out") == 0
    assert "3 tables" in capsys.readouterr().out
    with pytest.raises(DataError, match="no such folder"):
        call("board", "--rows", tmp_path / "nowhere")


def test_compare(rows, capsys):
    assert call("compare", "sasrec", "bigrec", "--rows", rows) == 0
    text = capsys.readouterr().out
    assert "6 test rows, 4 users" in text
    # (1 + (.6309 + .3869) / 2) / 6 = .2515; (1 + 1 + .5) / 6 = .4167
    assert "A  0.2515 [" in text
    assert "B  0.4167 [" in text
    assert "A - B  -0.1652 [" in text
    assert "4 target titles" in text and "targets like these" in text
    assert "users 75 %, titles 24 %, fits 1 % of its square" in text
    assert call("compare", "sasrec", "bigrec", "--rows", rows, "--one-way") == 0
    text = capsys.readouterr().out
    assert "these targets" in text and "titles 24 %" not in text


def test_compare_by_key_and_stratum(rows, capsys):
    key = json.loads(next(rows.rglob("popularity*.json")).read_text())["key"]
    assert call("compare", key, "bigrec", "--rows", rows, "--stratum", "cold") == 0
    assert "3 test rows of stratum cold" in capsys.readouterr().out


def test_a_key_of_one_seed_means_the_configuration_with_all_of_them(rows, capsys):
    for path in rows.rglob("sasrec*.json"):
        key = json.loads(path.read_text())["key"]
        assert call("compare", key, "bigrec", "--rows", rows) == 0
        assert "A  0.2515 [" in (said := capsys.readouterr().out) and "2 seed(s)" in said


def test_a_label_alone_means_the_corrected_profile(rows, capsys):
    write(rows, *done([0, M, M, M, M, M], cell("bigrec", profile="paper_faithful")))
    assert call("compare", "sasrec", "bigrec", "--rows", rows) == 0
    assert "1 seed(s), small corrected" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="no finished configuration"):
        call("compare", "sasrec", "bigrec", "--rows", rows, "--profile", "paper_faithful")


def test_what_no_table_holds_together_is_said_or_refused(rows, capsys):
    ranks = [0, M, M, M, M, M]
    other = cell("popularity", profile="paper_faithful", protocol="1+known")
    write(rows, *done(ranks, other))
    assert call("compare", other.key, "bigrec", "--rows", rows) == 0
    said = capsys.readouterr().out
    assert "A has profile paper_faithful, B has profile corrected; no table holds both" in said
    assert "A has protocol 1+known, B has protocol 1; no table holds both" in said
    for change in ({"dataset": "toy"}, {"data_version": "fedcba9876543210"}):
        path = write(rows, *done(ranks, cell("llara", **change)))
        with pytest.raises(DataError, match="nothing is paired"):
            call("compare", "llara", "bigrec", "--rows", rows)
        path.unlink()


def test_a_stratum_that_training_rows_made_different_is_refused(rows):
    row, packed = done([0, M, M, M, M, M], cell("llara"))
    masks = {**packed.masks, "cold": ~packed.masks["cold"]}
    write(rows, row, replace(packed, masks=masks))
    with pytest.raises(DataError, match="stratum cold holds other queries"):
        call("compare", "llara", "bigrec", "--rows", rows, "--stratum", "cold")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", "bigrec"), "no finished configuration"),
        (("office", "bigrec"), "several configurations"),
        (("sasrec", "bigrec", "--metric", "mrr"), "Did you mean mrr@10"),
        (("sasrec", "bigrec", "--metric", "ndcg@11"), "k is 1 to 10"),
        (("sasrec", "bigrec", "--metric", "gini@10"), "no value by query; with one: hit@10, mrr"),
        (("sasrec", "bigrec", "--stratum", "lukewarm"), "known: cold, warm"),
    ],
)
def test_compare_says_what_is_there(rows, words, said):
    with pytest.raises(UnknownName, match=said):
        call("compare", *words, "--rows", rows)


def test_claims(rows, capsys):
    write(rows, *done([0, 0, 0, 0, M, M], cell("sasrec", loss="ce")))
    assert call("claims", "--rows", rows, "--dataset", "office", "--metric", "ndcg@10") == 0
    text = capsys.readouterr().out
    assert "office llara s_dpo hit@10 = 0.0524" in text
    assert "office dllm2rec: no ranks of 1925 rows give its NDCG and Hit" in text
    assert "office: 27 of 28 Hit values fit n = 1925, 3850" in text
    named = (
        "office, small-corrected-protocol1 [scratch, beam]: Kendall -1.00 [-1.00, 1.00] over 2 rows"
    )
    assert named in text
    assert "depends on the loss, 0.6667 to 0.6667 (ce: higher)" in text
    assert "0 of 1 agree" in text, "the line without a loss is no fork of the paper's"
    with pytest.raises(DataError, match="datasets: toy"):
        call("claims", "--rows", rows, "--dataset", "tay")


def test_a_search_that_chose_the_defaults_is_the_same_fit(tmp_path):
    ranks = [0, 0, 0, M, M, M]
    for tune, found in ((0, ranks), (4, ranks), (5, [*ranks[:5], 0])):
        write(tmp_path, *done(found, cell("sasrec", loss="ce", tune=tune)))
    [(_, entries)] = tables_of(read_folder(tmp_path)).items()
    fits = {
        entry.cell.tune: ours["ndcg@10"].fit
        for entry, ours in zip(entries, ours_of(entries), strict=True)
    }
    assert fits[0] == fits[4] != fits[5]


def test_claims_without_rows_lists_what_was_published(tmp_path, capsys):
    assert call("claims", "--rows", tmp_path / "none", "--all", "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 268


def test_verify_accepts_what_was_written(rows, capsys):
    assert call("verify", "--rows", rows) == 0
    assert "5 rows, 4 with numbers; 0 do not agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update({"n": 7}),
        lambda row: row["cell"].update({"seed": 5}),
        lambda row: row.update({"status": "failed"}),
    ],
)
def test_verify_finds_one_changed_number(rows, capsys, change):
    path = next(rows.rglob("bigrec*.json"))
    row = json.loads(path.read_text())
    change(row)
    path.write_text(json.dumps(row))
    assert call("verify", "--rows", rows) == 1
    assert path.name in capsys.readouterr().out


def test_verify_finds_a_copied_row(rows, capsys):
    path = next(rows.rglob("bigrec*.json"))
    for suffix in (".json", ".npz"):
        whole = path.with_suffix(suffix).read_bytes()
        path.with_name("copy" + suffix).write_bytes(whole)
    assert call("verify", "--rows", rows) == 1
    said = capsys.readouterr()
    assert re.search(r"bigrec.*json and .*copy\.json both hold office/bigrec", said.err)
    assert (
        "5 rows, 4 with numbers; 0 do not agree with their positions; 1 files left out" in said.out
    )


def test_verify_finds_a_flipped_byte(rows, capsys):
    path = next(rows.rglob("bigrec*.npz"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    assert call("verify", "--rows", rows) == 1
    assert path.name in capsys.readouterr().out


def packed_with_lists():
    lists = lists_of([[3, 1], [1, 3], [2], [2], [2, 4], []])
    title = Positions(np.array([0, 1, M, 0, M, M], np.uint8))
    target_Q = np.array([3, 3, 9, 2, 9, 9], np.int32)
    row, packed = done(title.position_Q, cell("bigrec"))
    return row, replace(packed, lists=lists, target_Q=target_Q)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        (
            {"target_Q": np.array([3, 1, 9, 2, 9, 9], np.int32)},
            "of 1 queries .* query 1: .* is 1, .* gives 0",
        ),
        ({"user_Q": USER[:5]}, "users of 5 queries"),
        ({"item": Positions(np.array([0, 1, M, 12, M, M], np.uint8))}, "item hold the rank 12"),
        ({"masks": {"warm": ~COLD, "cold": ~COLD}}, "strata warm, cold"),
        ({"lists": lists_of([[1]] * 5)}, "lists of 5 queries"),
    ],
)
def test_verify_holds_positions_against_lists_and_shapes(tmp_path, capsys, change, said):
    row, packed = packed_with_lists()
    write(tmp_path, row, replace(packed, **change))
    assert call("verify", "--rows", tmp_path) == int(said is not None)
    assert said is None or re.search(said, capsys.readouterr().out)
