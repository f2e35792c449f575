"""The verbs run and plan: what they say of cells without a result, and what does not stop them."""

import math
import re

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.cell import Row
from bench.cli import main
from bench.cli._options import _gpus, _limit, _names
from bench.cli.run import _Board
from bench.errors import ConfigError
from bench.execution.runner import run_cell
from bench.execution.work import Surroundings
from bench.experiment.choice import Choice


@pytest.fixture
def failed(tmp_path):
    """Words for a verb over two cells, of which one failed and the other is done."""
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    what = ["--suite", "smoke", "--scale", "embedded", "--methods", "markov,popularity"]
    store = default_store(tmp_path / "out", tmp_path / "run")
    choice = Choice(scale="embedded", methods=["markov", "popularity"])
    for job in prepare(Order(suite="smoke", choice=choice), store).plan.jobs:
        status = "failed" if job.cell.method == "markov" else "left out"
        store.write(Row(cell=job.cell, status=status, reason=f"a planted {status}"))
    return [*what, *where]


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_kept_failures_are_shown_with_their_reason_and_the_way_out(verb, failed, capsys):
    assert main([verb, *failed]) == 0
    said = capsys.readouterr().out
    assert re.search("failed before: ml_100k/markov#0@[0-9a-f]{6}: a planted failed", said)
    assert re.search("left out before: ml_100k/popularity#0@[0-9a-f]{6}: a planted left out", said)
    assert "2 cell(s) without a result are kept as they are; --retry runs them again" in said


def test_a_broken_row_delays_the_tables_and_stops_no_cell(tmp_path, capsys, monkeypatch):
    board = _Board(default_store(tmp_path / "out", tmp_path / "run"), str(tmp_path / "out"))
    monkeypatch.setattr(board, "EVERY_SECONDS", -1.0)

    def broken(*words, **more):
        raise ValueError("row.json: not\na row")

    monkeypatch.setattr("bench.board.write_board", broken)
    board([None])
    assert capsys.readouterr().out == "the tables wait: row.json: not a row\n"
    with pytest.raises(ValueError, match="not"):
        board.write()


def test_tables_take_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    board = _Board(default_store(tmp_path / "out", tmp_path / "run"), str(tmp_path / "out"))
    now, written = [0.0], []

    def slow(*words, **options):
        written.append(now[0])
        now[0] += 60.0

    monkeypatch.setattr("bench.cli.run.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bench.board.write_board", slow)
    for rows in range(1, 40):
        board([None] * rows)
        now[0] += 30.0
    assert written[:2] == [0.0, 660.0], "the first at once, the next ten durations after its end"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "FILE"], "--out: {file} is a file; give a folder"),
        (["--out", "FILE/deep"], "--out: {file} is a file; give a folder"),
        (["--store", "FILE"], "--store: {file} is a file; give a folder"),
        (["--limit-minutes", "-1"], "--limit-minutes -1: it must be more than 0, or 0 for no"),
        (["--limit-minutes", "nan"], "--limit-minutes nan: it must be more than 0"),
        (["--plugin", "FILE"], "--plugin {file}: not a Python file; its name must end in .py"),
        (["--seeds", "-1"], "seed -1: it must be from 0 to 4294967295"),
        (["--slurm", "time=5"], "--slurm time=5 has no effect on --executor local; add --exec"),
        (["--executor", "slurm", "--slurm", "at_once=0"], "--slurm at_once=0: it must be a whole"),
    ],
)
def test_what_a_user_can_mend_is_told_before_anything_runs(words, said, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    words = [word.replace("FILE", str(file)) for word in words]
    assert main(["run", "--suite", "smoke", "--methods", "markov", *where, *words]) == 2
    err = capsys.readouterr().err
    assert said.format(file=file) in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.api.os.access", lambda path, how: False)
    order = Order(suite="smoke", choice=Choice(scale="embedded", methods=["markov"]))
    with pytest.raises(ConfigError, match="--out: nothing can be made in"):
        prepare(order, default_store(tmp_path / "out", tmp_path / "run"))
    for name in ("out/rows", "run"):
        (tmp_path / name).mkdir(parents=True)
    prepared = prepare(order, default_store(tmp_path / "out", tmp_path / "run"))
    with pytest.raises(ConfigError, match="--out: no right to write in"):
        execute(prepared)


@pytest.mark.parametrize(
    ("reuse", "said"), [("auto", "to go on"), ("never", "begin every cell anew")]
)
def test_an_interrupt_says_what_the_same_command_would_do(
    reuse, said, tmp_path, capsys, monkeypatch
):
    def interrupted(*words, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.cli.run.execute", interrupted)
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run"), "--gpus", "none"]
    assert main(["run", "--suite", "smoke", "--reuse", reuse, *where]) == 130
    assert said in capsys.readouterr().err


def test_show_passes_over_what_is_no_row(failed, tmp_path, capsys):
    folder = tmp_path / "out" / "rows" / "ml_100k"
    (folder / "broken.json").write_text("[1]")
    (folder / ".half.json").write_text("{")
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    assert main(["show", "markov", *where]) == 0
    assert "a planted failed" in capsys.readouterr().out


def test_words_for_no_gpu_and_no_limit():
    assert _names("popularity, markov,") == ["popularity", "markov"]
    assert (_gpus("none"), _gpus(""), _gpus("0,2")) == ([], [], [0, 2])
    assert (_limit(None), _limit(2.0), _limit(0.0)) == (None, 120.0, math.inf)


def test_the_doctor_looks_at_every_part_and_fails_for_what_every_run_needs(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for part in ("GPUs", "torch", "RecBole", "dataset ml_100k: 1681 items", "models on this CPU"):
        assert part in said
    monkeypatch.setattr("bench.results.provenance._versions", dict)
    assert main(["doctor"]) == 1
    assert "FAIL torch is not installed" in capsys.readouterr().out


def test_the_doctor_says_which_layouts_are_right_for_a_language_model(capsys, tmp_path):
    from transformers import MptConfig

    assert main(["doctor", "--backbone", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "ok   backbone tiny: tree search: off by" in said and "backbone tiny: exact" in said
    MptConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()  # only the configuration is read
    assert main(["doctor", "--backbone", str(tmp_path)]) == 0
    assert "decoder `generate` only" in capsys.readouterr().out
    assert main(["doctor", "--backbone", "no such model"]) == 2


@pytest.mark.parametrize(
    ("words", "looks"), [([], None), (["--microscope"], 0), (["--microscope", "7"], 7)]
)
def test_the_microscope_reaches_every_cell_and_no_key(words, looks, tmp_path, monkeypatch):
    seen = []

    def kept(prepared, **_):
        seen.append((prepared.order.microscope, [job.cell.key for job in prepared.plan.jobs]))
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.cli.run.execute", kept)
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run"), "--gpus", "none"]
    for more in ([], words):
        main(["run", "--suite", "smoke", "--methods", "markov", *more, *where])
    assert [order for order, _ in seen] == [None, looks]
    assert seen[0][1] == seen[1][1]


def test_a_row_without_a_token_loss_says_why_it_has_no_record(tmp_path):
    order = Order(suite="smoke", choice=Choice(scale="embedded", methods=["markov"], limit=20))
    prepared = prepare(order, default_store(tmp_path / "out", tmp_path / "run"))
    where = Surroundings(store=prepared.store, microscope=0)
    row = run_cell(prepared.plan.jobs[0].cell, where)
    assert "over answer tokens" in row.facts["microscope"]["left_out"]


def test_the_end_says_where_the_tables_are_and_what_they_say(tmp_path, capsys):
    words = ["--suite", "smoke", "--scale", "embedded", "--methods", "markov,popularity"]
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run"), "--gpus", "none"]
    assert main(["run", *words, *where, "--limit", "60"]) == 0
    *_, done, said = capsys.readouterr().out.strip().splitlines()
    assert done.startswith("done 2") and done.endswith("README.md")
    assert said.startswith("ml_100k: the largest NDCG@10 has markov, 0.0")
