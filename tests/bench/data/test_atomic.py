"""Atomic files: what is written is read back, by us and by RecBole itself."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.exams import exam, rows_of
from bench.data.formats.atomic import read_atomic, write_atomic
from bench.data.missing import is_missing
from bench.errors import DataError
from bench.types import Catalogue, Dataset, Ragged, Split, Windows

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\n"
NO_RECBOLE = importlib.util.find_spec("recbole") is None


def windows(catalogue, rows):
    user, items, time = zip(*rows, strict=True)
    return Windows(
        catalogue,
        np.array(user, np.int64),
        Ragged.of([row[:-1] for row in items]),
        np.array([row[-1] for row in items], np.int32),
        np.array(time, np.int64),
    )


def dataset(titles=("a", "b", "c", "d", "e"), domain="toy"):
    catalogue = Catalogue(("", *titles), domain)
    train = windows(catalogue, [(7, [1, 2], 10), (7, [1, 2, 3], 20), (9, [3, 1], 25)])
    valid = windows(catalogue, [(9, [3, 1, 4], 30)])
    test = windows(catalogue, [(7, [1, 2, 3, 1], 40)])
    return Dataset("tiny", "v", catalogue, Split(train, exam(valid), exam(test)))


def assert_same(ours, theirs):
    assert theirs.catalogue.titles == ours.catalogue.titles
    assert theirs.catalogue.domain == ours.catalogue.domain
    for part in ("train", "valid", "test"):
        one, other = getattr(ours.split, part), getattr(theirs.split, part)
        if part != "train":
            one, other = rows_of(one), rows_of(other)
        assert [row.tolist() for row in one.sequences] == [r.tolist() for r in other.sequences]
        for field in ("user_W", "target_W", "timestamp_W"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
            assert getattr(one, field).dtype == getattr(other, field).dtype


def folder_of(tmp_path, files):
    folder = tmp_path / "ds"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def test_written_and_read_back(tmp_path):
    ours = dataset()
    write_atomic(ours, tmp_path / "tiny")
    assert_same(ours, read_atomic(tmp_path / "tiny"))
    again = read_atomic(tmp_path / "tiny")
    assert again.name == "tiny"
    text = (tmp_path / "tiny" / "tiny.train.inter").read_text().splitlines()
    assert text[1] == "7\t1\t2\t10"
    assert text[2] == "7\t1 2\t3\t20"


def test_a_dataset_is_not_written_over(tmp_path):
    write_atomic(dataset(), tmp_path / "tiny")
    with pytest.raises(DataError, match="already there"):
        write_atomic(dataset(), tmp_path / "tiny")


PRINTED = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40).filter(
    lambda title: not title.strip() or not is_missing(title)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(titles=st.lists(PRINTED, min_size=5, max_size=8))
def test_any_printed_title_survives(tmp_path_factory, titles):
    ours = dataset(titles=[title.replace("### Response", "") for title in titles])
    folder = tmp_path_factory.mktemp("x") / "tiny"
    write_atomic(ours, folder)
    assert_same(ours, read_atomic(folder))


def test_titles_that_need_quotes(tmp_path):
    titles = ('say "hi"', '"', "a,b", " leading", "\u202eright to left")
    ours = dataset(titles=titles)
    write_atomic(ours, tmp_path / "tiny")
    assert_same(ours, read_atomic(tmp_path / "tiny"))


@pytest.mark.parametrize("title", ["nul \0 inside", "half \ud800"])
def test_titles_no_file_can_hold(tmp_path, title):
    with pytest.raises(DataError, match="item 2"):
        write_atomic(dataset(titles=("a", title, "c", "d", "e")), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_without_validation_some_of_train_is_held_out(tmp_path):
    rows = "".join(f"u{i % 3}\t{i % 5 + 1} {i % 4 + 1}\t{i % 3 + 1}\t{i}\n" for i in range(32))
    files = {"ds.train.inter": HEADER + rows, "ds.test.inter": HEADER + "u1\t1\t2\t99\n"}
    found = read_atomic(folder_of(tmp_path, files))
    assert (len(found.split.train), len(found.split.valid), len(found.split.test)) == (28, 4, 1)
    assert found.catalogue.n_items == 5
    assert any("ds.item is missing" in note for note in found.notes)
    assert any("numbered by first appearance" in note for note in found.notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\t\t2\t5\n", "history without items"),
        ("1\t1 9\t2\t5\n", "item '9' is not in the .item file"),
        ("1\t1\t2\tsoon\n", "'soon' is no time"),
        ("", "no rows"),
    ],
)
def test_rows_that_cannot_be_windows(tmp_path, row, message):
    items = "item_id:token\ttitle:token_seq\n1\ta\n2\tb\n"
    files = {"ds.train.inter": HEADER + row, "ds.test.inter": HEADER + "1\t1\t2\t9\n"}
    folder = folder_of(tmp_path, files | {"ds.item": items})
    with pytest.raises(DataError, match=message):
        read_atomic(folder)


def test_folders_that_hold_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_atomic(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither a .train.inter nor an .inter"):
        read_atomic(folder_of(tmp_path, {"x.txt": ""}))


def test_single_interactions_are_cut_into_windows(tmp_path):
    rows = "".join(f"{u}\t{i}\t5\t{u * 100 + i}\n" for u in range(1, 6) for i in range(1, 15))
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows
    items = "item_id:token\tmovie_title:token_seq\n" + "".join(
        f"{i}\tfilm {i}\n" for i in range(1, 15)
    )
    found = read_atomic(folder_of(tmp_path, {"ds.inter": inter, "ds.item": items}))
    assert found.catalogue.titles[:3] == ("", "film 1", "film 2")
    assert len(found.split.train) + len(found.split.valid) + len(found.split.test) == 5 * 4
    assert found.split.train.sequences[0].tolist() == list(range(1, 12))


@pytest.mark.skipif(NO_RECBOLE, reason="recbole is not installed")
def test_the_interactions_in_the_recbole_wheel():
    where = Path(importlib.util.find_spec("recbole").origin).parent
    found = read_atomic(where / "dataset_example" / "ml-100k")
    assert found.catalogue.n_items == 1682
    assert found.catalogue.titles[1] == "Toy Story"
    assert any("943 users, 1,682 items, 100,000 interactions" in note for note in found.notes)


@pytest.mark.skipif(NO_RECBOLE, reason="recbole is not installed")
def test_recbole_reads_the_same_rows(tmp_path):
    recbole = pytest.importorskip("baselines._recbole")
    ours = replace(dataset(titles=('say "hi"', "b", "", "tab\there", "e")), name="tiny")
    write_atomic(ours, tmp_path / "tiny")
    assert recbole_rows(recbole, tmp_path, "tiny") == expected_rows(ours)


@pytest.mark.skipif(NO_RECBOLE, reason="recbole is not installed")
def test_recbole_counts_a_published_dataset_the_same(tmp_path, published):
    recbole = pytest.importorskip("baselines._recbole")
    from bench.data.formats.titles import read_titles
    from bench.data.formats.windows import read_windows

    folder = published("office")
    titles = read_titles(folder / "id2name4Rec.json", "office")
    parts = [read_windows(folder / f"{p}.csv", titles)[0] for p in ("train", "valid", "test")]
    split = Split(parts[0], exam(parts[1]), exam(parts[2]))
    ours = Dataset("office", "v", titles.catalogue, split)
    write_atomic(ours, tmp_path / "office")
    assert_same(ours, read_atomic(tmp_path / "office"))
    assert recbole_rows(recbole, tmp_path, "office") == expected_rows(ours)


def expected_rows(dataset):
    split = dataset.split
    parts = (split.train, rows_of(split.valid), rows_of(split.test))
    columns = ((p.user_W, p.history, p.target_W, p.timestamp_W) for p in parts)
    rows = [
        [(int(u), h.tolist(), int(t), float(s)) for u, h, t, s in zip(*c, strict=True)]
        for c in columns
    ]
    return dataset.catalogue.n_items, rows


def recbole_rows(recbole, data_path, name):
    """RecBole's own loading of the files, in the suite's ids."""
    with recbole.bounded():
        config = recbole.Config(
            model="SASRec",
            dataset=name,
            config_file_list=[str(data_path / name / f"{name}.yaml")],
            config_dict={"data_path": str(data_path), "gpu_id": "", "state": "ERROR"},
        )
        built = recbole.SequentialDataset(config).build()
    user_token, item_token = (built[0].field2id_token[f] for f in ("user_id", "item_id"))
    assert built[0].field2id_token["item_id_list"].tolist() == item_token.tolist()
    parts = []
    for part in built:
        inter = part.inter_feat
        columns = (
            inter[f].tolist()
            for f in ("user_id", "item_id_list", "item_length", "item_id", "timestamp")
        )
        parts.append(
            [
                (int(user_token[u]), [int(item_token[i]) for i in h[:n]], int(item_token[t]), s)
                for u, h, n, t, s in zip(*columns, strict=True)
            ]
        )
    return built[0].item_num - 1, parts
