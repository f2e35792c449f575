"""The verb publish, and the verbs that read own and published rows, in a project of their own."""

import json
import shutil
from dataclasses import replace

import pytest
from _board_rows import RANKS, cell, done, tiny_board, write

from bench.api import default_store, rows
from bench.board.readme import BEGIN, END
from bench.cell import Row
from bench.cli import main
from bench.results.store import Store


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a README, in which four finished rows and one left-out cell are one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text(f"# P\n{BEGIN}\nOUTDATED\n{END}\nrest\n")
    tiny_board(tmp_path / "results" / "rows")
    return tmp_path


def published(project):
    return sorted(path.name for path in project.glob("leaderboards/rows/office/small/*.json"))


def test_finished_rows_are_copied_and_the_board_and_the_readme_made(project, capsys):
    assert main(["publish"]) == 0
    assert "4 rows published, 0 were there, 0 refused, 1 without numbers" in capsys.readouterr().out
    assert len(published(project)) == len(RANKS)
    text = (project / "README.md").read_text()
    assert "OUTDATED" not in text and "| bigrec" in text and text.endswith(f"{END}\nrest\n")
    assert (project / "leaderboards/README.md").exists()
    assert main(["publish"]) == 0
    assert "0 rows published, 4 were there" in capsys.readouterr().out
    assert main(["verify"]) == 0


def test_the_tables_of_a_user_leave_the_project_s_readme_alone(project):
    assert main(["board"]) == 0
    assert (project / "results/index.html").exists()
    assert "OUTDATED" in (project / "README.md").read_text()
    assert not (project / "leaderboards").exists()


def change(path, **parts):
    row = json.loads(path.read_text())
    for part, values in parts.items():
        row[part] |= values
    cell = {k: v for k, v in row["cell"].items()}
    row["key"] = Row.from_dict({"cell": cell, "status": "done"}).cell.key
    path.write_text(json.dumps(row))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"provenance": {"dirty": True}}, "made by uncommitted code"),
        ({"provenance": {"commit": "unknown"}}, "made by uncommitted code"),
        ({"cell": {"method": "habit"}}, "method 'habit' is not defined in this repository"),
        ({"cell": {"dataset": "of_mine"}}, "dataset 'of_mine' is not defined in this repository"),
        ({"cell": {"scale": "huge"}}, "scale 'huge' is unknown"),
        ({"cell": {"contents": {"method": "0123"}}}, "its method is a plugin's"),
    ],
)
def test_rows_that_are_not_the_project_s_are_refused_and_named(project, parts, said, capsys):
    (path,) = project.glob("results/rows/office/small/popularity-*.json")
    change(path, **parts)
    assert main(["publish"]) == 1
    out = capsys.readouterr().out
    assert f"refused: {path.relative_to(project)}: {said}" in out
    assert "3 rows published, 0 were there, 1 refused" in out
    assert not any("popularity" in name for name in published(project))
    assert sorted(path.name for path in project.iterdir()) == [
        "README.md",
        "leaderboards",
        "results",
    ]


@pytest.mark.parametrize("parts", [{"dataset": "../../x"}, {"scale": "../x"}])
def test_rows_that_would_leave_the_folder_are_left_out(project, parts, capsys):
    (path,) = project.glob("results/rows/office/small/popularity-*.json")
    change(path, cell=parts)
    assert main(["publish"]) == 1
    said = capsys.readouterr()
    assert f"left out: {path.relative_to(project)}: not a row: cell." in said.err
    assert "3 rows published, 0 were there, 0 refused" in said.out
    assert sorted(path.name for path in project.iterdir()) == [
        "README.md",
        "leaderboards",
        "results",
    ]


def test_a_row_that_verify_faults_is_refused(project, capsys):
    (path,) = project.glob("results/rows/office/small/popularity-*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert main(["publish"]) == 1
    assert f"refused: {path.relative_to(project).with_suffix('.json')}" in capsys.readouterr().out
    assert len(published(project)) == 3


def test_rows_of_another_folder_are_published_by_name(project, capsys):
    shutil.move(project / "results", project / "received")
    assert main(["publish", "--from", "nowhere"]) == 2
    assert main(["publish", "--from", "received/rows"]) == 0
    assert len(published(project)) == 4
    assert main(["publish"]) == 0, "without rows of one's own the tables are rebuilt"
    assert "0 rows published" in capsys.readouterr().out


def test_a_published_row_counts_as_one_made_elsewhere(project, tmp_path):
    main(["publish"])
    shutil.rmtree(project / "results")
    store, of = default_store(store=tmp_path / "run"), cell("popularity")
    assert store.look(of, foreign=False) == "foreign"
    assert store.look(of) == "done"
    assert store.look(replace(of, versions={"method": 2})) == "stale"
    own = replace(of, versions={"method": 0})
    store.write(Row(cell=own, status="failed", reason="x"))
    assert store.look(own, foreign=False) == "failed"
    assert store.look(of) == "done", "the published row answers this very cell, one's own does not"
    assert Store(store.rows, store.root).look(of) == "stale"


def test_verbs_read_own_rows_first_and_published_ones_too(project, capsys):
    main(["publish"])
    shutil.rmtree(project / "results")
    write(project / "results/rows", *done([0] * 6, cell("popularity")))
    write(project / "results/rows", *done([0] * 6, cell("sasrec", loss="bce")))
    frame = rows().set_index("label")
    assert frame.loc["office/popularity#0", "hit@1"] == 1.0, "one's own"
    assert frame["published"].to_dict() == {
        "office/popularity#0": False,
        "office/sasrec+bce#0": False,
        "office/bigrec+lml/beam[scratch]#0": True,
        "office/sasrec#0": True,
        "office/sasrec#1": True,
    }
    capsys.readouterr()
    assert main(["compare", "office/popularity", "office/bigrec+lml"]) == 0
    assert "A  1.0000" in capsys.readouterr().out
    assert main(["verify"]) == 0
    assert "6 rows, 6 with numbers; 0 do not agree" in capsys.readouterr().out
    assert main(["claims", "--dataset", "office", "--metric", "ndcg@10"]) == 0
    said = capsys.readouterr().out
    assert "office/bigrec+lml" in said and "office/sasrec+bce" in said
    assert main(["show", "office/popularity"]) == 0
    said = capsys.readouterr().out
    assert said.index("results/rows/office") < said.index("leaderboards/rows/office")
    assert main(["verify", "--rows", "leaderboards/rows"]) == 0
    assert "4 rows, 4 with numbers" in capsys.readouterr().out
    assert main(["board"]) == 0
    (text,) = [path.read_text() for path in (project / "results").rglob("office/quality.md")]
    assert "| sasrec (published) |" in text and "| popularity |" in text
