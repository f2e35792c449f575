"""Boards rebuilt from rows made by hand; every number below can be worked out from RANKS."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _board_rows import NASTY, M, cell, done, tiny_board, write

from bench.board import as_frame, load_rows, write_board
from bench.board.all_datasets import overall
from bench.board.folder import MANIFEST
from bench.board.leaderboard import rank_entries
from bench.board.render import escape_latex, escape_markdown
from bench.board.rows import read_folder, tables_of
from bench.cell import Row
from bench.errors import ArtefactError, DataError
from bench.results.packed import Packed

GOLDEN = Path(__file__).parent / "golden_board"
BOARD = "small-corrected-protocol1"


def written(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and ".cache" not in path.parts
    }


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


def quality(out, dataset="office", board=BOARD, table="quality"):
    text = (out / "tables" / board / dataset / f"{table}.csv").read_text()
    return {line["method"]: line for line in csv.DictReader(io.StringIO(text))}


def markdown(out, table="quality"):
    return (out / "tables" / BOARD / "office" / f"{table}.md").read_text()


def test_the_tables_are_the_golden_ones(rows, tmp_path):
    """BENCH_GOLDEN=write makes them anew, for a change that is meant; of the page see test_page.py."""
    write_board(rows, tmp_path / "out")
    if os.environ.get("BENCH_GOLDEN") == "write":
        shutil.rmtree(GOLDEN)
        shutil.copytree(tmp_path / "out", GOLDEN, ignore=shutil.ignore_patterns(".*", "index.html"))
    now, golden = written(tmp_path / "out"), written(GOLDEN)
    assert now.pop("index.html")
    assert now.keys() == golden.keys()
    for name in golden:
        assert now[name].decode() == golden[name].decode(), name


def test_rebuilding_gives_equal_bytes_and_drops_what_has_no_rows(rows, tmp_path):
    out = tmp_path / "out"
    paths = write_board(rows, out)
    first, manifest = written(out), (out / MANIFEST).read_bytes()
    later = write(rows, *done([0] * 6, cell("sasrec", scale="full")))
    assert len(write_board(rows, out)) == len(paths) + 9
    later.unlink()
    assert write_board(rows, out) == paths
    assert (written(out), (out / MANIFEST).read_bytes()) == (first, manifest)
    assert [path.name for path in (out / "tables").iterdir()] == [BOARD]


def test_numbers_by_hand(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    lines = quality(tmp_path / "out")
    sasrec, bigrec, floor = (lines[name] for name in ("sasrec", "bigrec", "popularity"))
    second, fifth = 1 / math.log2(3), 1 / math.log2(6)
    assert float(sasrec["ndcg@10"]) == pytest.approx((1 + (second + fifth) / 2) / 6, abs=1e-6)
    assert (sasrec["seeds"], sasrec["n"], sasrec["family"]) == ("2", "6", "traditional")
    assert float(bigrec["warm"]) == pytest.approx(1 / 3, abs=1e-6)
    assert float(bigrec["cold"]) == pytest.approx((1 + 0.5) / 3, abs=1e-6)
    assert float(floor["hit@10"]) == pytest.approx(1 / 6, abs=1e-6)
    assert float(floor["hit@5"]) == 0.0
    assert (floor["group"], bigrec["group"]) == ("Floors", "Methods")
    assert sasrec["paper"] == "0.0183"
    # without a language model, small is the paper's own size
    assert "6 test rows, not 1925, epoch chosen on valid, not test" in sasrec["verdict"]
    assert "protocol differs: scale small, backbone scratch" in bigrec["verdict"]


def test_a_line_says_on_how_many_targets_it_stands(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    lines = quality(tmp_path / "out")
    # bigrec hits rows 0, 3 and 4, whose targets are 11, 13 and 14
    assert (lines["bigrec"]["hit"], float(lines["bigrec"]["top3"])) == ("3", 1.0)
    assert lines["sasrec"]["hit"] == "2"
    assert lines["bigrec"]["stands"].startswith("hangs on few titles")
    assert "other users, target titles and fits" in markdown(tmp_path / "out")


def test_rows_that_do_not_name_their_targets_say_so(rows, tmp_path):
    for path in rows.rglob("*.npz"):
        replace(Packed.load(path), target_Q=None).save(path)
    write_board(rows, tmp_path / "out")
    assert quality(tmp_path / "out")["bigrec"]["hit"] == ""
    assert "all is said of these targets only" in markdown(tmp_path / "out")


def test_a_line_from_before_an_option_existed_is_named_by_it(rows, tmp_path):
    write(rows, *done([0, 1, M, M, M, M], cell("sasrec", config={"similarity": "cosine"})))
    write_board(rows, tmp_path / "out")
    names = {name for name in quality(tmp_path / "out") if "sasrec" in name}
    assert names == {"sasrec (usual similarity)", "sasrec (similarity=cosine)"}


def test_what_did_not_run_stays_with_its_reason(rows, tmp_path):
    write(rows, Row(cell=cell("bigrec", 1), status="failed", reason="loss is nan"))
    write_board(rows, tmp_path / "out")
    lines = quality(tmp_path / "out")
    assert lines["LLaRA <b>*bold*</b>"]["status"] == f"left out: {NASTY}"
    assert lines["bigrec"]["status"] == "1 of 2 seeds failed: loss is nan"


def test_a_cell_without_its_dataset_joins_the_table_of_that_dataset(rows, tmp_path):
    absent = cell("llara", loss="s_dpo", data_version="")
    write(rows, Row(cell=absent, status="left out", reason="no file"))
    write_board(rows, tmp_path / "out")
    folders = [p.name for p in (tmp_path / "out/tables" / BOARD).iterdir() if p.is_dir()]
    assert folders == ["office"]
    assert "no file" in (tmp_path / "out/tables" / BOARD / "office/quality.md").read_text()


@pytest.mark.parametrize(
    ("change", "board", "dataset"),
    [
        ({"scale": "full"}, "full-corrected-protocol1", "office"),
        ({"profile": "paper_faithful"}, "small-paper_faithful-protocol1", "office"),
        ({"protocol": "2"}, "small-corrected-protocol2", "office"),
        ({"test_rows": 6}, "small-corrected-protocol1-6rows", "office"),
        ({"data_version": "fedcba9876"}, BOARD, "office@fedcba98"),
    ],
)
def test_nothing_is_ever_mixed(rows, tmp_path, change, board, dataset):
    write(rows, *done([0, 0, 0, 0, 0, 0], cell("sasrec", loss="bce", **change)))
    write_board(rows, tmp_path / "out")
    assert list(quality(tmp_path / "out", dataset, board)) == ["sasrec"]
    old = "office@01234567" if "@" in dataset else "office"
    assert quality(tmp_path / "out", old)["sasrec"]["seeds"] == "2"


def test_untrusted_text_is_escaped_everywhere(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    for name, text in written(tmp_path / "out").items():
        if name.endswith((".html", ".md")):
            assert b"<script>alert" not in text, name
            assert b"<b>" not in text, name
        if name.endswith(".md"):
            for table in re.findall(r"(?m)(?:^\|.*\n)+", text.decode()):
                bars = [line.replace("\\|", "").count("|") for line in table.splitlines()]
                assert len(set(bars)) == 1, table
    tex = (tmp_path / "out/tables" / BOARD / "office/quality.tex").read_text()
    assert r"8\_GiB, 50 \% \{of\} it" in tex


def test_six_columns_stand_before_the_details(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    first, _, second = markdown(tmp_path / "out").partition("## Details")
    heads = [line for line in first.splitlines() if line.startswith("| Rank")]
    six = "| Rank | Method | NDCG@10 \\[95 %\\] | Hit@10 | Cold NDCG@10 | Total s |"
    assert heads == [six] * 2, "methods and floors"
    assert "| bigrec + lml / beam \\[scratch\\] | 0.4167 " in first.replace("| 1-3 (tied) ", "")
    assert "| Method | Family | Train rows | Seeds |" in second
    assert "NDCG@10 \\[95 %\\]" not in second


def test_escapes_by_hand():
    assert escape_markdown("a|b\n`c` *d* [e](f) <i>") == r"a\|b \`c\` \*d\* \[e\](f) &lt;i&gt;"
    assert escape_latex("a\\b_c^d~e") == (
        r"a\textbackslash{}b\_c\textasciicircum{}d\textasciitilde{}e"
    )


def test_unmeasured_energy_is_never_zero(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    text = (tmp_path / "out/tables" / BOARD / "office/cost.md").read_text()
    assert "not measured" in text
    assert "| 0.00 |" not in text


def test_verdicts_by_id_are_told_from_numbers_by_title(tmp_path):
    write(tmp_path / "llm", *done([0, 0, 0, 0, 0, 0], cell("bigrec")))
    write_board(tmp_path / "llm", tmp_path / "out")
    note = "verdicts compare traditional and enhanced models by id"
    assert note not in markdown(tmp_path / "out")
    write(tmp_path / "llm", *done([0, 0, 0, 0, 0, 0], cell("sasrec")))
    write_board(tmp_path / "llm", tmp_path / "out")
    assert note in markdown(tmp_path / "out")


def test_what_the_beams_missed_is_a_share_of_some_users(rows, tmp_path):
    write_board(rows, tmp_path / "out")
    assert "missed" not in markdown(tmp_path / "out")
    row, packed = done([0, M, M, 0, 2, M], cell("bigrec"))
    for seed, audited in ((0, 4), (1, 8)):
        facts = {**row.facts, "audited": audited, "beam_regret": 0.125 * (1 + seed)}
        write(rows, replace(row, cell=cell("bigrec", seed), facts=facts), packed)
    write_board(rows, tmp_path / "out")
    text = markdown(tmp_path / "out")
    assert "| Exact list missed by beams |" in text
    assert "| 18.8 % |" in text
    assert "mean over 4 to 8 audited users a run" in text
    line = quality(tmp_path / "out")["bigrec"]
    assert (line["missed"], line["audited"]) == ("0.1875", "6.0")


def test_several_machines_are_all_named_and_memory_is_of_fit_and_recommend(tmp_path):
    for seed, machine in enumerate(("2 x cpu", "16 x cpu, GPU", "2 x cpu")):
        row, packed = done([0, 1, M, M, M, M], cell("sasrec", seed))
        bills = {**row.cost, "validate": {"peak_host_bytes": 9 * 2.0**30}}
        made = {**row.provenance, "machine": machine}
        write(tmp_path / "rows", replace(row, cost=bills, provenance=made), packed)
    write_board(tmp_path / "rows", tmp_path / "out")
    line = quality(tmp_path / "out", table="cost")["sasrec"]
    assert (line["machine"], float(line["host"])) == ("16 x cpu, GPU + 2 x cpu", 2.0**30)


def test_broken_rows_are_named(rows, tmp_path):
    bad = rows / "office" / "small" / "bad.json"
    for content in ('{"cell": ', "[]", json.dumps({"cell": {}, "status": "done"})):
        bad.write_text(content)
        with pytest.raises(DataError, match=r"bad\.json"):
            load_rows(rows)
    bad.unlink()
    assert len(load_rows(rows)) == 5
    next(rows.rglob("popularity*.npz")).unlink()
    with pytest.raises(ArtefactError, match="popularity"):
        write_board(rows, tmp_path / "out")


def test_a_row_that_answers_the_same_again_is_refused(rows):
    row, packed = done([0] * 6, cell("popularity"))
    other_data = replace(row, cell=cell("popularity", data_version="fedcba9876"))
    write(rows, other_data, packed, name="other-data")
    assert len(load_rows(rows)) == 6
    write(
        rows,
        replace(row, cell=cell("popularity", versions={"method": 2})),
        packed,
        name="a-newer-answer",
    )
    with pytest.raises(
        DataError, match=r"a-newer-answer\.json and .*popularity-.*\.json both hold"
    ):
        read_folder(rows)


def test_rows_of_other_queries_are_refused(rows, tmp_path):
    row, packed = done([0] * 6, cell("sasrec", loss="bce"))
    write(rows, row, replace(packed, user_Q=np.array([1, 1, 2, 3, 4, 9])))
    with pytest.raises(DataError, match="different queries"):
        write_board(rows, tmp_path / "out")


def test_frame_has_a_line_a_row(rows):
    frame = as_frame(rows)
    assert len(frame) == 5
    assert frame.set_index("label")["cold.n"].dropna().unique().tolist() == [3]
    assert set(frame["status"]) == {"done", "left out"}


def test_no_rows_no_tables(tmp_path):
    (tmp_path / "rows").mkdir()
    write_board(tmp_path / "rows", tmp_path / "out")
    assert "No rows yet" in (tmp_path / "out/README.md").read_text()


def many(folder, dataset, quality_by_method, n=400):
    rng = np.random.default_rng(len(dataset))
    hard = rng.random(n)
    for method, rate in quality_by_method.items():
        ranks = np.where(hard < rate, 0, 255)
        row, packed = done(ranks[:6], cell(method, dataset=dataset))
        title = replace(packed.title, position_Q=ranks.astype(np.uint8))
        other = {"user_Q": np.arange(n), "target_Q": None, "masks": {}}
        write(folder, row, replace(packed, title=title, item=title, **other))


def test_overall_ranks_and_missing_datasets(tmp_path):
    many(tmp_path, "toy", {"sasrec": 0.5, "bigrec": 0.2, "popularity": 0.05})
    many(tmp_path, "book", {"sasrec": 0.5, "bigrec": 0.5})
    tables = tables_of(read_folder(tmp_path))
    lines = overall([rank_entries(key, entries) for key, entries in tables.items()])
    assert [(line.entry.cell.method, line.rank, line.missing) for line in lines] == [
        ("sasrec", "1", ()),
        ("bigrec", "2", ()),
        ("popularity", "1 of 2", ("book",)),
    ]


def test_overall_keeps_two_versions_of_a_dataset_apart(tmp_path):
    write(tmp_path / "rows", *done([0, 0, 0, 0, 0, 0], cell("sasrec")))
    for version, ranks in (("fedcba9876", [0, 0, 0, 0, 0, 0]), ("0123456789", [M] * 6)):
        of = cell("popularity", data_version=version)
        write(tmp_path / "rows", *done(ranks, of), name=f"popularity-{version}")
    failed = Row(cell=cell("bigrec", data_version="fedcba9876"), status="failed", reason="oom")
    write(tmp_path / "rows", failed)
    write_board(tmp_path / "rows", tmp_path / "out")
    text = (tmp_path / "out/tables" / BOARD / "overall.csv").read_text()
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(text))}
    old, new = "office@01234567", "office@fedcba98"
    assert (lines["popularity"][old], lines["popularity"][new]) == ("0.0", "1.0")
    assert (lines["sasrec"][old], lines["sasrec"]["missing"]) == ("1.0", new)
    assert lines["bigrec"]["missing"] == new


def test_the_scoring_room_loads_no_deep_learning():
    code = (
        "import sys, bench.board, bench.significance.two_way, bench.claims, bench.results.packed\n"
        "import bench.evaluation.metrics, bench.evaluation.strata, bench.results.figure_table\n"
        "import bench.cli.board, bench.cli.claims, bench.cli.compare, bench.cli.verify\n"
        "import bench.board.write, bench.board.leaderboard\n"
        "print(sorted({'torch', 'transformers', 'recbole'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
