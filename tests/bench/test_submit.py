"""Rows of others: checked, laid out for a pull request, and run again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from _board_rows import M, cell, done, tiny_board, write

from bench.cell import Cell
from bench.cli import main
from bench.data.load import load_dataset
from bench.evaluation.positions import Positions
from bench.execution.again import NEAR, cheapest, compare, near_ties
from bench.execution.runner import run_cell
from bench.execution.work import Surroundings
from bench.results.identity import declared
from bench.results.packed import Packed
from bench.results.row_files import read_row
from bench.results.store import Store

WORKFLOW = Path(__file__).resolve().parent.parent.parent / ".github/workflows/rows.yml"


@pytest.fixture
def received(tmp_path, monkeypatch):
    """A folder of rows that somebody sent, below an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "no data"))
    return tiny_board(tmp_path / "received")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_sound_rows_are_laid_out_as_a_clone_has_them(received, tmp_path, capsys):
    before = files(received)
    assert main(["submit", "received"]) == 0
    said = capsys.readouterr().out
    assert "4 rows not compared with office 0123456789abcdef, which is not here" in said
    assert "4 rows pass, 0 refused, 1 without numbers; commit submission/leaderboards" in said
    made = files(tmp_path / "submission")
    assert len(made) == 1 + 2 * 4 and made[0] == "SUBMISSION.md"
    assert all(name.startswith("leaderboards/rows/office/small/") for name in made[1:])
    note = (tmp_path / "submission/SUBMISSION.md").read_text()
    assert r"office/bigrec+lml/beam\[scratch\]#0" in note and "Amazon reviews" in note
    assert files(received) == before
    assert main(["verify", "--rows", "submission/leaderboards/rows"]) == 0
    assert main(["submit", "received"]) == 2
    assert "it is there and not empty" in capsys.readouterr().err


def change(received, **parts):
    """Change parts of the row of popularity, and keep its key right."""
    (path,) = received.glob("office/small/popularity-*.json")
    row = json.loads(path.read_text())
    for part, values in parts.items():
        row[part] = {**row[part], **values} if isinstance(values, dict) else values
    fresh = Cell(**row["cell"])
    row |= {"key": fresh.key, "label": fresh.label}
    path.write_text(json.dumps(row))
    return path


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cell": {"dataset": "../../x"}}, "not a row: cell.dataset is '../../x'"),
        ({"cell": {"method": "mine"}}, "method 'mine' is not defined in this repository"),
        ({"cell": {"dataset": "mine"}}, "no terms are on record for dataset 'mine'"),
        ({"provenance": {"dirty": True}}, "made by uncommitted code"),
        ({"provenance": {"date": "2199-01-01T00:00:00Z"}}, "and not in the future"),
        ({"facts": {"certified_share": 1.5}}, "facts.certified_share is 1.5; a share"),
        ({"facts": {"failed_queries": 9}}, "facts.failed_queries is 9 of 6 queries"),
        ({"cost": {"recommend": {}}}, "an exam takes time"),
        ({"valid": {"ndcg@5": 0.9}}, "valid.ndcg@5 is 0.900000, its positions give 0.125000"),
        ({"n": 7}, "n is 7, the positions are of 6"),
        ({"facts": {"title": "\x1b[31m"}}, "not a row: facts.title is"),
    ],
    ids=lambda thing: str(thing)[:40] if isinstance(thing, str) else None,
)
def test_what_cannot_be_true_or_not_be_taken_is_refused_in_a_line(
    received, tmp_path, capsys, parts, said
):
    path = change(received, **parts)
    assert main(["submit", "received", "--out", "checked"]) == 1
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    named = [line for line in lines if path.name in line]
    assert len(named) == 1 and said in named[0]
    assert "3 rows pass, 1 refused" in printed.out
    made = files(tmp_path / "checked")
    assert len(made) == 1 + 2 * 3 and not any("popularity" in name for name in made)
    assert {p.name for p in tmp_path.iterdir()} == {"received", "checked"}


def test_links_and_twice_sent_rows_are_refused(received, capsys):
    (path,) = received.glob("office/small/popularity-*.npz")
    path.rename(path.with_name("elsewhere.npz"))
    path.symlink_to("elsewhere.npz")
    (other,) = received.glob("office/small/bigrec-*.json")
    other.with_name("z-again.json").write_bytes(other.read_bytes())
    assert main(["submit", "received"]) == 1
    printed = capsys.readouterr()
    assert "a link and no file" in printed.out and "z-again.json both hold" in printed.err
    assert "3 rows pass, 2 refused" in printed.out


def test_other_numbers_for_a_published_cell_are_refused(received, tmp_path, capsys):
    tiny_board(tmp_path / "leaderboards" / "rows")
    for path in (tmp_path / "leaderboards/rows").rglob("*.json"):
        row = read_row(path)
        home = Store(rows=tmp_path / "leaderboards/rows", root=tmp_path).row_path(row.cell)
        for end in (".json", ".npz"):
            if path.with_suffix(end).exists():
                path.with_suffix(end).rename(home.with_suffix(end))
    write(received, *done([0, M, M, M, M, M], cell("popularity")))
    assert main(["submit", "received"]) == 1
    said = capsys.readouterr().out
    assert f"{cell('popularity').key} is published with other positions" in said


@pytest.fixture(scope="module")
def floor(tmp_path_factory):
    """A real row of a floor on the embedded data, in a folder of its own."""
    home = tmp_path_factory.mktemp("floor")
    known = declared("popularity", config={})
    of = Cell(
        dataset="ml_100k",
        data_version=load_dataset("ml_100k", None).version,
        method="popularity",
        test_rows=50,
        versions=known.versions,
    )
    store = Store(home / "rows", home / "run")
    run_cell(of, Surroundings(store=store))
    return store, of


def test_rows_are_compared_with_the_data_at_hand(floor, tmp_path, monkeypatch, capsys):
    store, of = floor
    monkeypatch.chdir(tmp_path)
    path = store.row_path(of)
    row, packed = read_row(path), Packed.load(path.with_suffix(".npz"))
    made = {**row.provenance, "dirty": False, "commit": "abc"}
    made.pop("positions")  # as a forger would: it names the very file beside the row
    row = replace(row, provenance=made)
    write(tmp_path / "sound", row, packed)
    assert main(["submit", "sound", "--out", "a"]) == 0
    assert "not compared" not in capsys.readouterr().out
    changes = {
        "users": ({"user_Q": packed.user_Q[::-1].copy()}, "users are not those of the test rows"),
        "targets": (
            {"target_Q": np.roll(packed.target_Q, 1), "lists": None},
            "its targets are not",
        ),
        "strata": (
            {"masks": {**packed.masks, "warm": packed.masks["cold"], "cold": packed.masks["warm"]}},
            "its stratum warm holds",
        ),
    }
    for name, (change, said) in changes.items():
        write(tmp_path / name, row, replace(packed, **change))
        assert main(["submit", name, "--out", f"out-{name}"]) == 1
        assert said in capsys.readouterr().out


def test_a_row_that_holds_is_run_again(floor, capsys):
    store, _ = floor
    assert main(["verify", "--rows", str(store.rows), "--rerun", "2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"holds: ml_100k/popularity#0 \(\w{16}\): the same 50 positions", said)
    assert "1 run again: 1 holds, 0 differs, 0 not run" in said


def test_a_row_of_invented_positions_differs(floor, tmp_path, capsys):
    store, of = floor
    path = store.row_path(of)
    row, packed = read_row(path), Packed.load(path.with_suffix(".npz"))
    row = replace(row, provenance={k: v for k, v in row.provenance.items() if k != "positions"})
    first = Positions(np.zeros(50, np.uint8))
    write(tmp_path / "rows", row, replace(packed, title=first, lists=None))
    other = replace(of, data_version="0" * 16)
    write(tmp_path / "rows", replace(row, cell=other), packed, name="other")
    assert main(["verify", "--rows", str(tmp_path / "rows"), "--rerun", "2"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"differs: .* positions differ, ndcg@10 by -0\.\d+, more than the tol", said)
    assert "not run: ml_100k/popularity#0" in said and "changed on disk" in said


def test_near_ties_and_small_moves_hold(floor, tmp_path):
    """Positions that moved in lists with near ties hold, others within the tolerance."""
    store, of = floor
    row, packed = read_row(store.row_path(of)), Packed.load(store.row_path(of).with_suffix(".npz"))
    again = Store(tmp_path / "rows", tmp_path / "run")
    moved = packed.title.position_Q.copy()
    q = int(np.argmax(moved < 9))
    moved[q] += 1
    write(tmp_path, row, packed)
    again.row_path(of).parent.mkdir(parents=True)
    for end in (".json", ".npz"):
        again.row_path(of).with_suffix(end).write_bytes(
            store.row_path(of).with_suffix(end).read_bytes()
        )
    claimed = replace(packed, title=Positions(moved))
    score_QK = np.tile(np.arange(10.0, 0.0, -1.0), (50, 1))
    lists = {"item_QK": np.ones((50, 10), int), "score_QK": score_QK}
    for near, tolerance, holds, why in (
        (False, 0.0, False, "more than the tolerance of 0"),
        (False, 0.5, True, "within the tolerance of 0.5"),
        (True, 0.0, True, "near ties (scores within 0.0001)"),
    ):
        if near:
            score_QK[q, 1] = score_QK[q, 0] * (1 - NEAR / 2)
        again.write_lists(of.key, lists)
        verdict = compare(row, claimed, tmp_path, tolerance)
        assert verdict.holds is holds and why in verdict.why
    assert near_ties(again.read_lists(of.key)).nonzero()[0].tolist() == [q]


def test_the_cheapest_cells_without_needs_are_chosen():
    def found(seconds, **rest):
        row, _ = done([0] * 6, cell("popularity", **rest))
        return Path("x"), replace(row, cost={"fit": {"seconds": seconds}})

    needy = found(0.1, needs={"sasrec": "ab"})
    rows = [found(3.0, seed=3), needy, found(1.0, seed=1), found(2.0, seed=2)]
    assert [row.cell.seed for _, row in cheapest(rows, 2)] == [1, 2]


def test_the_workflow_runs_the_same_with_no_rights_and_no_code_of_the_request():
    flow = yaml.safe_load(WORKFLOW.read_text())
    assert flow["permissions"] == {"contents": "read"}
    assert set(flow[True]) == {"pull_request"}, "never with the rights of the repository"
    steps = flow["jobs"]["submit"]["steps"]
    refs = [step["with"]["ref"] for step in steps if "checkout" in step.get("uses", "")]
    assert "base.sha" in refs[0] and "head.sha" in refs[1]
    scripts = "\n".join(step.get("run", "") for step in steps)
    assert "bench submit rows/leaderboards/rows" in scripts
    assert "${{" not in scripts, "what others named is passed in variables"
