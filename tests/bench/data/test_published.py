"""The datasets by name: the paper's files, and MovieLens-100K out of recbole."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.claims.paper import VERSIONS
from bench.data.exams import rows_of
from bench.data.formats.titles import write_titles
from bench.data.formats.windows import write_windows
from bench.data.load import load_dataset
from bench.data.ml_100k import natural_title
from bench.data.published import read_published
from bench.errors import DataError, Unavailable
from bench.registry import datasets
from bench.types import Catalogue, Ragged, Windows

ROWS = {"toy": (38344, 4793, 4794), "book": (30678, 4382, 4383), "office": (15400, 1925, 1925)}


def write_dataset(folder, parts=("train", "valid", "test"), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(("", "a", "b", "c"))
    write_titles(folder / "id2name4Rec.json", catalogue)
    for start, part in enumerate(parts, start=first):
        n = 16
        windows = Windows(
            catalogue,
            np.arange(n) + start,
            Ragged.of([[1, 2]] * n),
            np.full(n, 3, np.int32),
            100 * start + np.arange(n),
        )
        write_windows(folder / f"{part}.csv", windows)
    return folder


PINNED = {  # what every stored row says of its data; a reader that changes one makes them other data
    "toy": "9c740a5ae109b68f",
    "book": "8dc1d64442149f75",
    "clothing": "25fb7bbb02934988",
    "office": "0a844de688602e9b",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_version_of_the_papers_data_is_the_one_in_the_rows(published, name):
    data = load_dataset(name, published(name).parent)
    assert data.version == PINNED[name]
    uncut = load_dataset(name, published(name).parent, uncut=True)
    assert {data.version, uncut.version} == VERSIONS[name]


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_data_by_name(published, name):
    dataset = datasets.get(name)(published(name).parent)
    split = dataset.split
    assert (len(split.train), len(split.valid), len(split.test)) == ROWS[name]
    assert dataset.catalogue.domain == dataset.name == name
    assert split.train.timestamp_W.max() <= split.valid.queries.timestamp_Q.min()
    assert split.valid.queries.timestamp_Q.max() <= split.test.queries.timestamp_Q.min()
    carved = [note for note in dataset.notes if "no validation file" in note]
    assert bool(carved) == (name == "book")


def test_validation_is_carved_only_where_there_is_none(tmp_path):
    with_valid = read_published("toy", write_dataset(tmp_path / "a/toy").parent)
    without = read_published("toy", write_dataset(tmp_path / "b/toy", ("train", "test")).parent)
    sizes = [(len(d.split.train), len(d.split.valid)) for d in (with_valid, without)]
    assert sizes == [(16, 16), (14, 2)]
    assert "last 2 of 16 training rows" in without.notes[-1]


def test_the_version_follows_what_the_files_say(tmp_path):
    folder = write_dataset(tmp_path / "toy")
    before = read_published("toy", tmp_path).version
    plain = (folder / "train.csv").read_text()
    (folder / "train.csv").unlink()
    (folder / "train.csv.gz").write_bytes(gzip.compress(plain.encode()))
    assert read_published("toy", tmp_path).version == before
    lines = plain.splitlines()
    wider = "\n".join([lines[0] + ",mask", *(line + ",[0]" for line in lines[1:])])
    (folder / "train.csv").write_text(wider)
    assert read_published("toy", tmp_path).version == before
    (folder / "train.csv").write_text(plain.replace("[1, 2, 3]", "[2, 2, 3]", 1))
    assert read_published("toy", tmp_path).version != before


def test_clothing_is_examined_on_the_papers_sample_where_it_is_there(tmp_path):
    folder = write_dataset(tmp_path / "clothing", ("train", "test", "test_5000"))
    clothing = datasets.get("clothing")
    assert rows_of(clothing(tmp_path).split.test).user_W[0] == 2
    (folder / "test_5000.csv").unlink()
    assert rows_of(clothing(tmp_path).split.test).user_W[0] == 1


@pytest.mark.parametrize("gone", ["train.csv", "test.csv", "id2name4Rec.json"])
def test_missing_files_say_how_to_get_them(tmp_path, gone, monkeypatch):
    (write_dataset(tmp_path / "book") / gone).unlink()
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        datasets.get("book")(None)
    for part in (gone, "python -m bench data get paper", "BENCH_DATA", "--data-root"):
        assert part in str(caught.value)


def test_a_bad_row_anywhere_leaves_nothing(tmp_path):
    folder = write_dataset(tmp_path / "book")
    with (folder / "test.csv").open("a") as file:
        file.write('1,"[1, 4]",7\n')
    with pytest.raises(DataError, match=r"test\.csv, line 18: target 4 has no title"):
        datasets.get("book")(tmp_path)


@pytest.fixture(scope="module")
def movies():
    pytest.importorskip("recbole")
    return datasets.get("ml_100k")(None)


def test_movielens_comes_with_recbole(movies):
    split = movies.split
    assert movies.catalogue.n_items == 1681
    assert movies.catalogue.domain == "movie"
    assert movies.version == "d23ab1aa2ab2b706", "as in the stored rows"
    # 943 users, 99,991 ratings with a title, each user twenty or more: ratings - 10 * users windows
    n = 99_991 - 10 * 943
    assert len(split.train) + len(split.valid) + len(split.test) == n
    assert len(split.train) == int(0.8 * n)
    assert (split.train.sequences.lengths == 11).all()
    assert split.train.timestamp_W.max() <= split.valid.queries.timestamp_Q.min()


def test_movielens_titles_read_as_people_write_them(movies):
    titles = movies.catalogue.titles
    assert titles[1] == "Toy Story"
    assert {
        "The Usual Suspects",
        "Sabrina (1954)",
        "Sabrina (1995)",
        "20,000 Leagues Under the Sea",
    } < {*titles}
    assert not {"unknown", "unkonwn"} & {*titles}
    assert not any(title.endswith((", The", ", A")) for title in titles)
    assert "The Land Before Time III: The Time of the Great Giving" not in titles
    assert "Land Before Time III: The Time of the Great Giving" in titles
    shared = np.bincount(movies.catalogue.title_class)
    assert (shared == 2).sum() == 18 and shared.max() == 2  # listed twice by the source


@pytest.mark.parametrize(
    ("raw", "natural"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Godfather: Part II, The", "The Godfather: Part II"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Die xue shuang xiong (Killer, The)", "Die xue shuang xiong (The Killer)"),
        ("Paris, Texas", "Paris, Texas"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Ice Storm", "Ice Storm"),
    ],
)
def test_articles_go_to_the_front(raw, natural):
    assert natural_title(raw) == natural


def test_movielens_is_read_without_importing_recbole_or_torch():
    code = (
        "import sys; from bench.registry import datasets; datasets.get('ml_100k')(None); "
        "print(sorted({'recbole', 'torch', 'pandas'} & set(sys.modules)))"
    )
    pytest.importorskip("recbole")
    home = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("inter", lambda t: t.replace("196\t242", "196\tx", 1), r"inter, line 2: .* does not fit"),
        ("inter", lambda t: t.replace("user_id", "user", 1), r"inter, line 1: the header must be"),
        ("item", lambda t: t.replace("\n2\t", "\n1\t", 1), r"item, line 3: item 1 occurs twice"),
        ("inter", lambda t: "", r"inter, line 1: the header must be .*, got ''"),
    ],
)
def test_damaged_movielens_files_are_refused_with_the_line(tmp_path, name, change, says):
    pytest.importorskip("recbole")
    from bench.data.ml_100k import _folder

    source, copy = _folder(None), tmp_path / "ml-100k"
    copy.mkdir()
    for kind in ("inter", "item"):
        text = (source / f"ml-100k.{kind}").read_text(encoding="utf-8")
        (copy / f"ml-100k.{kind}").write_text(change(text) if kind == name else text, "utf-8")
    with pytest.raises(DataError, match=says):
        datasets.get("ml_100k")(tmp_path)
