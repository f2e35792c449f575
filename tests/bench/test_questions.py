"""What people ask after a run: answers are those of the exam, in the names that the data came with."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from bench import api
from bench.api import default_store, execute, order, prepare
from bench.cell import Cell, Row
from bench.cli import main
from bench.data.formats.trec import read_qrels, read_run
from bench.data.load import load_dataset
from bench.errors import ArtefactError, DataError, UnknownName
from bench.evaluation.metrics.scores import means
from bench.questions.exam import answered, chosen
from bench.questions.find import find
from bench.questions.recommend import Asked, Names, as_queries, read_histories, recommend
from bench.questions.wins import wins
from bench.saved import restore


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A store with three finished cells on MovieLens-100K, and one that failed."""
    folder = tmp_path_factory.mktemp("questions")
    store = default_store(folder / "out", folder / "run")
    store = replace(store, published=None)
    asked = order(
        "smoke", scale="embedded", gpus=[], methods=["popularity", "markov", "random_new"], limit=60
    )
    rows = execute(prepare(asked, store))
    cells = {row.cell.method: row.cell for row in rows}
    broken = replace(cells["popularity"], config={"broken": 1})
    store.write(Row(cell=broken, status="failed", reason="the disk of Babel ran out of words"))
    return store, cells


def test_a_printed_name_means_one_cell(ran):
    store, cells = ran
    markov = cells["markov"]
    for text in (
        markov.name,
        markov.key,
        markov.key[:6],
        "@" + markov.key[:6],
        markov.label,
        "kov#0",
    ):
        assert find(text, store).cell == markov, text
    assert find(str(store.row_path(markov)), store).cell == markov


def test_two_cells_with_one_label_have_names_of_their_own(ran):
    store, cells = ran
    with pytest.raises(UnknownName, match="names 2 rows") as fault:
        find("ml_100k/popularity#0", store)
    assert cells["popularity"].name in str(fault.value)
    assert find(cells["popularity"].name, store).row.status == "done"
    with pytest.raises(UnknownName, match="names no row"):
        find("ml_100k/nothing", store)


def test_the_usual_protocol_is_meant_where_a_label_fits_two_profiles():
    cell = Cell(dataset="d", data_version="v", method="m")
    other = replace(cell, profile="paper_faithful", uncut=True)
    assert (cell.label, cell.name) == (other.label, other.label + "@" + cell.key[:6])
    assert cell.name != other.name


def test_lists_have_the_targets_where_the_metrics_have_them(ran):
    store, cells = ran
    exam = answered(find(cells["markov"].name, store), store, None)
    data = load_dataset("ml_100k", None)
    test = data.split.test.sample(60)
    titles = data.catalogue.titles
    for row in range(60):
        record = exam.record(row)
        assert record["target"]["title"] == titles[test.target_Q[row]]
        assert [one["title"] for one in record["history"]] == [
            titles[item] for item in test.queries.history[row]
        ]
        seen = list(dict.fromkeys(entry["title"] for entry in record["list"]))
        rank = record["target_rank"]
        assert (seen.index(record["target"]["title"]) + 1 if rank else None) == rank
    assert any(exam.rank(row) for row in range(60)), "some target is hit"


def test_packed_lists_serve_where_the_run_store_is_not(ran, tmp_path):
    store, cells = ran
    here = find(cells["markov"].name, store)
    elsewhere = replace(store, root=tmp_path)
    own, packed = (answered(here, place, None) for place in (store, elsewhere))
    assert (own.by_title, packed.by_title) == (False, True)
    class_N = own.catalogue.title_class
    for row in range(60):
        distinct = list(dict.fromkeys(class_N[own.item_QK[row]].tolist()))
        kept = packed.item_QK[row]
        assert kept[kept > 0].tolist() == [title for title in distinct if title][:10]


def test_a_damaged_file_of_lists_is_not_used(ran, tmp_path):
    store, cells = ran
    folder = replace(store, root=tmp_path).folder(cells["markov"].key)
    folder.mkdir(parents=True)
    (folder / "lists.npz").write_bytes(b"PK\x03\x04 cut")
    exam = answered(find(cells["markov"].name, store), replace(store, root=tmp_path), None)
    assert exam.by_title


def test_a_cell_without_a_result_says_so(ran):
    store, cells = ran
    name = next(
        one for one in store.namesakes(cells["popularity"]) if one.status == "failed"
    ).cell.name
    with pytest.raises(ArtefactError, match="Babel"):
        answered(find(name, store), store, None)


def test_wins_are_the_rows_with_a_larger_gain(ran):
    store, cells = ran
    a, b = (answered(find(cells[m].name, store), store, None) for m in ("markov", "popularity"))
    found = wins(a, b, "ndcg@10")
    gap_Q = [
        (1 / np.log2(1 + (a.rank(row) or np.inf))) - (1 / np.log2(1 + (b.rank(row) or np.inf)))
        for row in range(60)
    ]
    np.testing.assert_allclose(found.gap_Q, gap_Q, atol=1e-6)
    assert found.ahead + found.behind + found.level == 60
    assert found.row_W.tolist() == sorted(
        (row for row in range(60) if gap_Q[row] > 1e-9), key=lambda row: (-gap_Q[row], row)
    )
    turned = wins(b, a, "ndcg@10")
    assert (turned.ahead, turned.behind) == (found.behind, found.ahead)


def test_a_history_of_the_exam_gets_the_list_of_the_exam(ran):
    store, cells = ran
    exam = answered(find(cells["markov"].name, store), store, None)
    record = exam.record(7)
    by_title = Asked("x", tuple(one["title"] for one in record["history"]))
    by_id = Asked("y", tuple(one["item"] for one in record["history"]))
    for one in recommend(cells["markov"], [by_title, by_id], store, None):
        assert [e["title"] for e in one["list"]] == [e["title"] for e in record["list"]]


def test_what_is_drawn_by_chance_is_not_recommended(ran):
    store, cells = ran
    [found] = recommend(cells["random_new"], [Asked("x", ("Toy Story",))], store, None)
    assert found["list"] == []


def test_a_model_that_is_not_here_is_said_with_the_way_to_it(ran, tmp_path):
    store, cells = ran
    with pytest.raises(ArtefactError, match="bench why ml_100k/markov#0@"):
        recommend(
            cells["markov"], [Asked("x", ("Toy Story",))], replace(store, root=tmp_path), None
        )


def test_items_are_found_by_own_id_then_by_title():
    data = load_dataset("ml_100k", None)
    names = ("", *(f"B{item:04d}" for item in range(1, data.catalogue.n_items + 1)))
    catalogue = replace(data.catalogue, item_names=names)
    found = Names(catalogue)
    assert found.item(" B0003 ") == 3
    assert catalogue.titles[found.item(catalogue.titles[4].upper())] == catalogue.titles[4]
    with pytest.raises(DataError, match=r"no item has the id or the title 'B00003'"):
        found.item("B00003")


def test_new_users_ask_after_all_that_is_known():
    data = load_dataset("ml_100k", None)
    queries = as_queries([Asked("a", ("1", "2")), Asked("b", ())], data)
    train, test = data.split.train, data.split.test.queries
    assert queries.user_Q.min() > max(train.user_W.max(), test.user_Q.max())
    assert queries.timestamp_Q.min() > max(train.timestamp_W.max(), test.timestamp_Q.max())
    assert [row.tolist() for row in queries.history] == [[1, 2], []]


def test_histories_are_read_from_lines_and_tables(tmp_path):
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_text('{"user": "u1", "history": ["B1", 2]}\n\n{"history": []}\n')
    assert read_histories(lines) == [Asked("u1", ("B1", "2")), Asked("3", ())]
    table.write_text('user,item\nu1,"A, B"\nu2,C\nu1,D\n')
    assert read_histories(table) == [Asked("u1", ("A, B", "D")), Asked("u2", ("C",))]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"user": 1}', "a.jsonl, line 1: not"),
        ("a.jsonl", "[1, 2]", "a.jsonl, line 1: not"),
        ("a.jsonl", '{"history": "B1"}', "history is no list"),
        ("a.csv", "who,what\n1,2\n", "a.csv, line 2: no user or no item"),
        ("a.csv", 'user,item\n1,"2\n', "not a CSV table"),
    ],
)
def test_a_file_of_histories_that_cannot_be_read_is_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as fault:
        read_histories(tmp_path / name)
    assert said in str(fault.value) and "\n" not in str(fault.value)


def places(store):
    return ["--out", str(store.rows.parent), "--store", str(store.root)]


def test_lists_are_written_as_lines_and_as_a_table(ran, capsys):
    store, cells = ran
    asked = ["lists", cells["markov"].name, *places(store)]
    assert main([*asked, "--format", "jsonl"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["row"] for one in records] == list(range(60))
    assert main([*asked, "--format", "csv", "--top", "3"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == sum(min(len(one["list"]), 3) for one in records)
    hits = {int(line["row"]) for line in table if line["target"] == "1"}
    assert hits == {one["row"] for one in records if (one["target_rank"] or 99) <= 3}


def test_lists_of_one_user_are_his(ran):
    store, cells = ran
    exam = answered(find(cells["markov"].name, store), store, None)
    user = exam.record(5)["user"]
    assert {exam.record(row)["user"] for row in chosen(exam, [user])} == {user}
    with pytest.raises(DataError, match="user 'nobody' has no test row"):
        list(chosen(exam, ["nobody"]))


def test_an_exported_run_has_the_numbers_of_the_board(ran, tmp_path):
    store, cells = ran
    assert (
        main(["export", cells["markov"].name, "--trec", str(tmp_path / "t"), *places(store)]) == 0
    )
    exam = answered(find(cells["markov"].name, store), store, None)
    run = read_run(tmp_path / "t/run.trec", 60, exam.catalogue)
    target_Q = read_qrels(tmp_path / "t/test.qrels", exam.catalogue)
    hit = np.mean([target in row[:10] for target, row in zip(target_Q, run.item_QK, strict=True)])
    assert hit == pytest.approx(means(exam.packed.title)["hit@10"])
    assert (
        main(["export", cells["markov"].name, "--trec", str(tmp_path / "t"), *places(store)]) == 2
    )


def test_a_method_without_a_language_model_is_not_exported_as_one(ran, tmp_path, capsys):
    store, cells = ran
    assert (
        main(["export", cells["markov"].name, "--peft", str(tmp_path / "p"), *places(store)]) == 2
    )
    assert "markov has no language model to export; --trec" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_every_verb_prints_something_to_read(ran, capsys):
    store, cells = ran
    markov, popular = cells["markov"].name, cells["popularity"].name
    for words, said in (
        (["lists", markov], "5 of 60 test rows"),
        (["wins", markov, popular, "--rows", "2"], "A ahead on"),
        (
            ["recommend", markov, "--history", "Toy Story | GoldenEye"],
            "user 1: Toy Story |",
        ),
        (["why", markov], "the defaults of the method"),
        (["show", markov], "ndcg@10"),
    ):
        assert main([*words, *places(store)]) == 0, capsys.readouterr().err
        assert said in capsys.readouterr().out


def test_why_says_what_went_wrong_and_what_to_do(ran, capsys):
    store, cells = ran
    broken = next(one for one in store.namesakes(cells["popularity"]) if one.status == "failed")
    main(["why", broken.cell.name, *places(store)])
    said = capsys.readouterr().out
    assert "failed: the disk of Babel ran out of words" in said
    assert "--methods popularity --seeds 0 --set broken=1 --retry" in said


def test_show_as_json_is_the_row_with_its_metrics(ran, capsys):
    store, cells = ran
    main(["show", cells["markov"].name, "--json", *places(store)])
    row = json.loads(capsys.readouterr().out)
    assert row["key"] == cells["markov"].key
    exam = answered(find(cells["markov"].name, store), store, None)
    assert row["metrics"]["title"]["ndcg@10"] == pytest.approx(means(exam.packed.title)["ndcg@10"])


def test_the_stored_model_is_the_one_that_answered(ran):
    store, cells = ran
    folder = store.artefact(cells["markov"])
    assert restore(folder, device="cpu").name == "markov"


def test_the_verbs_are_functions(ran):
    store, cells = ran
    where = {"out": store.rows.parent, "store": store.root}
    markov, popular = cells["markov"].name, cells["popularity"].name
    records = api.lists(markov, **where)
    assert len(records) == 60
    won = api.wins(markov, popular, **where)
    assert won and all(one["gap"] > 0 for one in won)
    by_user = api.recommend(markov, {"me": ["Toy Story"]}, top=3, **where)
    in_a_row = api.recommend(markov, [["Toy Story"], "Toy Story"], top=3, **where)
    assert [one["list"] for one in in_a_row] == [by_user[0]["list"]] * 2
    assert (by_user[0]["user"], len(by_user[0]["list"])) == ("me", 3)
    assert api.why(markov, **where).startswith(f"{markov}: done")
