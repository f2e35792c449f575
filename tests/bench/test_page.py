"""The page without a browser: its data, its findings, its examples, and what strangers' text becomes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from _board_rows import NASTY, TARGET, USER, M, cell, done, tiny_board, write

from bench.board import write_board
from bench.board.entry import Entry
from bench.board.examples import Examples, keep_examples, make_examples, read_examples
from bench.board.findings import findings
from bench.board.leaderboard import rank_entries
from bench.board.page import page
from bench.board.rows import read_folder, tables_of
from bench.board.section import first_leaderboard, first_section
from bench.board.write import build
from bench.cli import main
from bench.errors import DataError
from bench.evaluation.lists import Lists, distinct
from bench.ragged import Ragged
from bench.types import Catalogue, Dataset, Exam, Queries, Split, Windows

TITLES = ("", *(f"Title {i}" for i in range(1, 14)), "</script><b>Nasty & Co", "Title 15")


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


def sections_of(rows):
    return build(tables_of(read_folder(rows)))


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def lines_of(text):
    return {line["name"]: line for line in data_of(text)["boards"][0]["datasets"][0]["lines"]}


def test_a_line_holds_what_it_opens_to(rows):
    text = page(sections_of(rows))
    line, dataset = lines_of(text)["bigrec"], data_of(text)["boards"][0]["datasets"][0]
    assert (line["family"], line["seeds"], line["axes"]) == ("llm", 1, ["lml", "beam", "scratch"])
    assert line["mean"] == pytest.approx((1 + 1 + 0.5) / 6, abs=1e-6)
    assert line["strata"] == [["warm", 3, 0.333333, 0.333333], ["cold", 3, 0.5, 0.666667]]
    ((seed, key, ndcg, hit, seconds, made),) = line["runs"]
    assert (seed, key, ndcg, hit, seconds) == (
        0,
        cell("bigrec").key,
        line["mean"],
        line["hit"],
        10.0,
    )
    assert dataset["made"][made] == "2025-11-20, commit abcdef, 2 x cpu"
    assert "scale small" in " ".join(line["paper"]["differs"])


def test_a_line_without_numbers_keeps_its_reason(rows):
    line = lines_of(page(sections_of(rows)))["LLaRA <b>*bold*</b>"]
    assert line["status"] == f"left out: {NASTY}"


def test_a_line_that_a_cheaper_one_certainly_beats_is_off_the_front(tmp_path):
    ranks, n = {"popularity": [0] * 60, "sasrec": [M] * 59 + [0]}, 60
    for method, found in ranks.items():
        row, packed = done(found[:6], cell(method))
        title = replace(packed.title, position_Q=np.array(found, np.uint8))
        exam = {"user_Q": np.arange(n), "target_Q": np.arange(1, n + 1, dtype=np.int32)}
        write(tmp_path, row, replace(packed, title=title, item=title, masks={}, **exam))
    beaten = {n: line["beaten"] for n, line in lines_of(page(sections_of(tmp_path))).items()}
    assert beaten == {"popularity": False, "sasrec": True}
    (head, *_) = [one.head for one in findings(sections_of(tmp_path)[0])]
    assert head == "On office a floor, without any training, beats every trained line"


def test_text_of_strangers_ends_no_element_and_only_our_script_may_run(rows):
    text = page(sections_of(rows))
    assert text.count("<script") == text.count("</script>") == 2
    assert "<b>*bold*" not in text
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_the_page_names_no_other_place(rows):
    text = (
        page(sections_of(rows)).replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    )
    assert not re.search(r"http|//\w|src=|url\(|@import", re.sub(r"// .*", "", text))


def test_equal_rows_give_an_equal_page(rows):
    assert page(sections_of(rows)) == page(sections_of(rows))


def test_findings_say_what_the_ranks_say(rows):
    found = findings(sections_of(rows)[0])
    heads = [one.head for one in found]
    assert heads[0] == "On office no trained line is shown to differ from the best floor"
    assert "popularity 0.0482, bigrec + lml / beam [scratch] 0.4167" in found[0].text
    assert (
        "The best language-model line against the best traditional one: undecided on office"
        in heads
    )
    assert "Up to 50 % of the test targets never occur in training" in heads
    keys = [cell(name).key for name in ("popularity", "bigrec")]
    assert found[0].command == f"python -m bench compare {keys[0]} {keys[1]}"


def test_losses_are_compared_where_nothing_else_differs(rows):
    write(rows, *done([M, M, M, 0, 2, M], cell("bigrec", loss="msl")))
    write(rows, *done([M, M, M, 0, 2, M], cell("bigrec", loss="msl_ats", config={"lr": 0.1})))
    found = {one.head: one.text for one in findings(sections_of(rows)[0])}
    assert "MSL over LML is undecided in the one pair" in found
    told = found["MSL over LML is undecided in the one pair"]
    assert "bigrec + msl / beam [scratch] 0.2500, bigrec + lml / beam [scratch] 0.4167" in told


def test_the_embedded_scale_is_never_first_beside_another(rows):
    for method in ("sasrec", "bigrec", "popularity"):
        for seed in range(3):
            write(rows, *done([0] * 6, cell(method, seed, scale="embedded")))
    write(rows, *done([0] * 6, cell("sasrec", scale="small", test_rows=6)))
    write(rows, *done([0] * 6, cell("sasrec", dataset="toy")))
    section = first_section(sections_of(rows))
    assert section.name == "small-corrected-protocol1"
    assert first_leaderboard(section.leaderboards).key.dataset == "office"


def test_no_rows_are_said_on_the_page():
    assert "No rows with numbers yet" in page([])


def with_lists(rows):
    """The tiny board's rows with lists, and the dataset they were examined on."""
    listed = [[11, 1], [1, 2], [], [13], [3, 4, 14], [5]]
    title_QK = np.array([row + [0] * (10 - len(row)) for row in listed], np.int32)
    title_D = distinct(title_QK)
    ones_D = np.ones(len(title_D), np.int32)
    lists = Lists(title_QK, title_D, ones_D, ones_D > 0, n_titles=15, n_train=10)
    for path, row in read_folder(rows):
        if row.cell.method == "bigrec":
            _, packed = done([0, M, M, 0, 2, M], row.cell)
            write(rows, row, replace(packed, lists=lists), name=path.stem)
    catalogue = Catalogue(TITLES)
    history = Ragged.of([[i + 1, 2] for i in range(6)])
    exam = Exam(Queries(catalogue, USER, history, np.zeros(6, np.int64)), TARGET)
    train = Windows(catalogue, USER, history, TARGET, np.zeros(6, np.int64))
    return Dataset("office", "0123456789abcdef", catalogue, Split(train, exam, exam))


def entries_of(rows) -> list[Entry]:
    (entries,) = tables_of(read_folder(rows)).values()
    return entries


def test_examples_are_rows_spread_over_the_exam_and_over_hits(rows):
    dataset = with_lists(rows)
    found = make_examples(entries_of(rows), dataset)
    (bigrec,) = (entry for entry in entries_of(rows) if entry.name == "bigrec")
    # of six rows the middles of thirds are 1, 3 and 5; of the hits 0, 3 and 4 those of halves are 0 and 4
    assert dict(found.of(bigrec)) == {
        "0": [11, 1],
        "1": [1, 2],
        "3": [13],
        "4": [3, 4, 14],
        "5": [5],
    }
    assert found.shown["3"] == {"history": [4, 2], "target": 13}
    assert found.titles["14"] == TITLES[14]


def test_examples_are_kept_and_told_in_titles(rows, monkeypatch):
    dataset = with_lists(rows)
    monkeypatch.setattr("bench.board.examples.load_dataset", lambda *_, **__: dataset)
    tables = tables_of(read_folder(rows))
    told = list(keep_examples(rows.parent, tables))
    assert told == ["office-0123456789ab.json: 5 test rows, lists of 1 runs"]
    write_board(rows, rows.parent / "out")
    text = (rows.parent / "out/index.html").read_text()
    assert lines_of(text)["bigrec"]["examples"][0] == ["0", [11, 1]]
    assert data_of(text)["boards"][0]["datasets"][0]["titles"]["14"] == TITLES[14]
    assert text.count("</script>") == 2, "a title ends no script"


def test_a_dataset_of_another_version_gives_no_examples(rows, monkeypatch):
    other = replace(with_lists(rows), version="f" * 16)
    monkeypatch.setattr("bench.board.examples.load_dataset", lambda *_, **__: other)
    (told,) = keep_examples(rows.parent, tables_of(read_folder(rows)))
    assert "of another version here" in told
    assert not (rows.parent / "examples").exists()


def test_the_verb_says_why_there_are_no_examples(rows, capsys):
    out = rows.parent / "out"
    assert main(["board", "--rows", str(rows), "--out", str(out), "--examples"]) == 0
    assert "office-0123456789ab.json: no examples, " in capsys.readouterr().out


def test_a_damaged_file_of_examples_is_named(rows):
    (key,) = tables_of(read_folder(rows))
    path = rows.parent / "examples" / "office-0123456789ab.json"
    path.parent.mkdir()
    path.write_text("[]")
    with pytest.raises(DataError, match=r"office-0123456789ab\.json"):
        read_examples([rows.parent], [key])


def test_lists_of_replaced_files_are_not_shown(rows):
    (key, entries), *_ = tables_of(read_folder(rows)).items()
    stale = Examples({"0": {"history": [], "target": 1}}, {"1": "One"}, {"0" * 16: {"0": [1]}})
    assert all(stale.of(line.entry) == [] for line in rank_entries(key, entries).lines)
