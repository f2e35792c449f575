"""Only what the suite wrote is replaced or removed; a folder of somebody else is refused in one line."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from _board_rows import M, cell, done, tiny_board, write

from bench.board import write_board
from bench.board.folder import MANIFEST, claim, replace_files
from bench.cli import main
from bench.errors import ConfigError

PAPER = {
    "README.md": "my paper",
    "tables/x.tex": "\\begin{table}",
    "tables/deep/y.csv": "1,2",
    "index.html": "<p>",
    "notes.md": "n",
}


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def rows(tmp_path):
    return tiny_board(tmp_path / "rows")


@pytest.fixture
def paper(tmp_path):
    home = tmp_path / "paper"
    for name, text in PAPER.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home


@pytest.mark.parametrize("verb", ["board", "run", "plan"])
@pytest.mark.parametrize("kept", [list(PAPER), ["notes.md"]])
def test_a_paper_stays_byte_for_byte(verb, kept, paper, rows, tmp_path, capsys):
    for name in PAPER.keys() - set(kept):
        (paper / name).unlink()
    before = files(paper)
    words = {
        "board": ["--rows", str(rows)],
        "run": ["--suite", "smoke", "--methods", "markov", "--store", str(tmp_path / "run")],
    }
    assert main([verb, "--out", str(paper), *words.get(verb, words["run"])]) == 2
    assert files(paper) == before
    said = capsys.readouterr().err.strip()
    assert f"--out {paper}: the suite did not make this folder" in said
    assert "\n" not in said and "give another --out" in said


def test_strangers_beside_our_tables_stay_and_are_named(rows, tmp_path, capsys):
    out = tmp_path / "out"
    late = write(rows, *done([0] * 6, cell("sasrec", scale="full")))
    assert main(["board", "--rows", str(rows), "--out", str(out)]) == 0
    (gone,) = out.glob("tables/full*")
    note = gone / "note.md"
    note.write_text("mine")
    (out / "notes.md").write_text("mine too")
    late.unlink()
    capsys.readouterr()
    assert main(["board", "--rows", str(rows), "--out", str(out)]) == 0
    assert f"not written by the suite, so left alone: {note}" in capsys.readouterr().out
    assert files(gone) == {"note.md": b"mine"}
    assert (out / "notes.md").read_text() == "mine too"


@pytest.mark.parametrize("name", ["overall.md", "README.md"])
@pytest.mark.parametrize("verb", ["board", "run"])
def test_a_file_of_ours_that_was_changed_is_refused(verb, name, rows, tmp_path, capsys):
    out = tmp_path / "out"
    write_board(rows, out)
    (changed,) = [path for path in out.rglob(name) if path.name == name]
    changed.write_text("edited by hand")
    before = files(out)
    smoke = ["--suite", "smoke", "--methods", "markov", "--store", str(tmp_path / "run")]
    assert (
        main([verb, "--out", str(out), *(["--rows", str(rows)] if verb == "board" else smoke)]) == 2
    )
    assert f"{changed}: not as the suite wrote it" in capsys.readouterr().err
    assert files(out) == before
    changed.unlink()
    write_board(rows, out)
    assert changed.read_text() != "edited by hand"


def test_a_stale_table_that_was_changed_is_refused(rows, tmp_path):
    out = tmp_path / "out"
    late = write(rows, *done([0] * 6, cell("sasrec", scale="full")))
    write_board(rows, out)
    late.unlink()
    (changed,) = out.glob("tables/full*/overall.tex")
    changed.write_text("edited by hand")
    with pytest.raises(ConfigError, match=r"overall\.tex: not as the suite wrote it"):
        write_board(rows, out)
    assert changed.read_text() == "edited by hand"


@pytest.mark.parametrize("there", ["file", "folder", "link", "tables"])
def test_what_stands_in_the_way_is_refused(there, rows, tmp_path):
    out = tmp_path / "out"
    claim(out)
    target = out / ("tables" if there == "tables" else "index.html")
    if there == "folder":
        target.mkdir()
    elif there == "link":
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("mine")
    with pytest.raises(ConfigError, match=f"{target.name}: not as the suite wrote it"):
        write_board(rows, out)
    assert not (out / "README.md").exists()


@pytest.mark.parametrize("cut", range(9))
def test_a_writer_that_is_cut_off_anywhere_leaves_what_the_next_one_handles(
    cut, tmp_path, monkeypatch
):
    """Every write is one step; the first ``cut`` of them are done, and one leaves its half file."""
    out = tmp_path / "out"
    old = {"README.md": "1", "index.html": "1", "tables/a.md": "1"}
    new = {"README.md": "2", "index.html": "2", "tables/b.md": "2"}
    steps = []

    def dies(partial, goal):
        steps.append(goal)
        if len(steps) > cut:
            raise KeyboardInterrupt
        shutil.move(partial, goal)

    for texts in (old, new):
        with monkeypatch.context() as patch:
            patch.setattr("bench.board.folder.Path.replace", dies)
            try:
                replace_files(out, texts)
            except KeyboardInterrupt:
                break
    claim(out)
    replace_files(out, new)
    shutil.rmtree(out / ".cache")
    found = files(out)
    known = json.loads(found.pop(MANIFEST))["files"]
    assert found == {name: text.encode() for name, text in new.items()}
    assert known.keys() == new.keys()


def test_writers_of_one_folder_do_not_cross(tmp_path):
    texts = [{"README.md": str(n), f"tables/{n}.md": "x"} for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: replace_files(tmp_path / "out", one), texts * 4))
    claim(tmp_path / "out")
    found = {name: text.decode() for name, text in files(tmp_path / "out").items()}
    assert {name: found[name] for name in found if not name.startswith(".")} in texts


def test_a_manifest_that_names_files_outside_is_refused(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("1")
    out = tmp_path / "out"
    replace_files(out, {"README.md": "1"})
    known = json.loads((out / MANIFEST).read_text())
    known["files"]["../precious"] = known["files"]["README.md"]
    (out / MANIFEST).write_text(json.dumps(known))
    with pytest.raises(ConfigError, match="not a list of the suite's files"):
        replace_files(out, {"README.md": "1"})
    assert precious.exists()


def test_published_rows_stand_beside_own_ones_and_are_marked(rows, tmp_path):
    board = tmp_path / "leaderboards" / "rows"
    write(board, *done([0, 0, 0, M, M, M], cell("sasrec")))  # answered by own rows
    write(board, *done([0, 0, 0, 0, M, M], cell("sasrec", loss="bce")))
    write(board, *done([0] * 6, cell("sasrec", scale="full")))  # of a table without own rows
    before = files(board)
    write_board(rows, tmp_path / "out", board)
    (text,) = [path.read_text() for path in (tmp_path / "out").rglob("office/quality.md")]
    first = text.partition("## Details")[0].splitlines()
    lines = [line for line in first if line.startswith("|") and "sasrec" in line]
    assert ["sasrec (published)" in line for line in lines] == [True, False]
    assert "0.2515" in lines[1], "own numbers where there are own ones"
    assert "lines marked published are of rows that came with the repository" in text
    assert [path.name for path in (tmp_path / "out" / "tables").iterdir()] == [
        "small-corrected-protocol1"
    ]
    assert files(board) == before
    assert files(rows).keys() == files(tiny_board(tmp_path / "again")).keys()
