"""``bench data`` from the outside: what is printed, written and returned."""

import json

import numpy as np
import pytest

import bench.data.published  # noqa: F401 - registers what a test must not forget again
from bench.cli import main
from bench.registry import datasets


@pytest.fixture(autouse=True)
def no_trace_in_the_registry():
    before = dict(datasets._loaded), dict(datasets._owner)
    yield
    datasets._loaded, datasets._owner = before


@pytest.fixture
def ratings(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["who,what,when,called"]
    for user in range(60):
        for _ in range(8):
            item = rng.integers(1, 40)
            lines.append(f"{user},{item},{rng.integers(10**9, 2 * 10**9)},film {item}")
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines))
    return path


COLUMNS = [
    *("--user-column", "who", "--item-column", "what"),
    *("--time-column", "when", "--title-column", "called"),
]


def imported(ratings, root, name, *more):
    words = ["data", "import", str(ratings), "--name", name, "--data-root", str(root)]
    return main([*words, *COLUMNS, *more])


def test_a_table_becomes_a_dataset(ratings, tmp_path, capsys):
    root = tmp_path / "root"
    assert imported(ratings, root, "cli_shop", "--width", "5", "--domain", "movie") == 0
    assert "python -m bench run --plugin" in capsys.readouterr().out
    plugin = str(root / "cli_shop/cli_shop.py")
    assert main(["data", "audit", "cli_shop", "--plugin", plugin, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["size"]["users"] == 60
    assert sum(found["facts"]["rows"].values()) == 60 * 4  # windows of 5 over 8 items
    data = datasets.get("cli_shop")(None)
    assert data.catalogue.domain == "movie"
    assert data.catalogue.titles[1] == "film 1"
    assert main(["data", "describe", "cli_shop", "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert data.version in out and out.count("training row") == 1 and "film" in out
    assert imported(ratings, root, "cli_shop") == 2
    assert "already there" in capsys.readouterr().err


def test_export_and_import_again_keep_every_row(ratings, tmp_path, capsys):
    root = tmp_path / "root"
    assert imported(ratings, root, "cli_first") == 0
    plugin = ["--plugin", str(root / "cli_first/cli_first.py")]
    to = tmp_path / "atomic/cli_first"
    assert main(["data", "export", "cli_first", "--as", "atomic", "--to", str(to), *plugin]) == 0
    words = ["--name", "cli_second", "--as", "atomic", "--data-root", str(root)]
    assert main(["data", "import", str(to), *words]) == 0
    for part in ("train", "valid", "test"):
        first, second = (root / f"{n}/{part}.csv" for n in ("cli_first", "cli_second"))
        assert first.read_text() == second.read_text()


def test_export_as_published_and_qrels(ratings, tmp_path, capsys):
    root = tmp_path / "root"
    assert imported(ratings, root, "cli_third") == 0
    plugin = ["--plugin", str(root / "cli_third/cli_third.py")]
    for form, files in (
        ("published", {"train.csv", "test.csv"}),
        ("qrels", {"cli_third.test.qrels"}),
    ):
        to = tmp_path / form
        assert main(["data", "export", "cli_third", "--as", form, "--to", str(to), *plugin]) == 0
        assert files <= {p.name for p in to.iterdir()}
        assert main(["data", "export", "cli_third", "--as", form, "--to", str(to), *plugin]) == 2
        assert "already there" in capsys.readouterr().err


def test_split_compares_the_protocols(ratings, capsys):
    assert main(["data", "split", str(ratings), *COLUMNS]) == 0
    out = capsys.readouterr().out
    for name in ("global_time:", "leave_one_out:", "global_time_by_user:"):
        assert name in out
    assert "test targets before train's end" in out


def test_audit_writes_a_table_and_a_figure(tmp_path, capsys):
    pytest.importorskip("recbole")
    assert main(["data", "audit", "ml_100k", "--svg", str(tmp_path / "figures")]) == 0
    assert "Gini" in capsys.readouterr().out
    assert (tmp_path / "figures/ml_100k.svg").read_text().startswith("<svg")


def test_list_says_what_is_missing_and_how_to_get_it(tmp_path, capsys):
    assert main(["data", "list", "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "clothing     not here: " in out and "data get paper" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["get", "papers"], "known: paper, book"),
        (["get", "book", "--workers", "0"], "--workers must be 1 or more, got 0"),
        (["audit", "bok"], "Did you mean book"),
        (["import", "x.csv", "--name", "my shop"], "letters, digits and _"),
        (["import", "x.csv", "--name", "a", "--protocol", "random"], "no split protocol is called"),
        (["import", "x.csv", "--name", "a", "--as", "amazon"], "--category"),
        (["import", "absent.csv", "--name", "a"], "absent.csv"),
        (["split", "absent", "--min-length", "1"], "min_length=1"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert main(["data", *words]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["list", "get", "describe", "audit", "import", "export", "split"])
def test_help_is_there_for_each(verb, capsys):
    with pytest.raises(SystemExit) as left:
        main(["data", verb, "--help"])
    assert left.value.code == 0
    assert "usage: bench data" in capsys.readouterr().out
