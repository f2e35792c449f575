"""Suites as data: faults all at once, filters, what is left out and why."""

from dataclasses import replace

import pytest

from bench.errors import SuiteError, UnknownName
from bench.experiment.choice import Choice
from bench.experiment.grid import expand
from bench.experiment.suite import choose_scale, read, scales, suite_names, warning_of
from bench.registry import methods


def _suite(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read(str(path))


BASE = "title: t\ndatasets: [ml_100k]\nrows:\n"


def test_the_suites_of_the_house_are_valid():
    assert {"paper", "smoke"} <= set(suite_names())
    for name in suite_names():
        assert read(name).rows


def test_the_paper_suite_has_the_fourteen_rows_of_table_5():
    rows = {(r.method, loss) for r in read("paper").rows for loss in r.losses or [None]}
    llm = {(m, x) for m in ("bigrec", "llara", "a_llmrec") for x in ("lml", "s_dpo", "msl_ats")}
    assert llm <= rows
    assert {m for m, _ in rows} >= {"sasrec", "bert4rec", "dros", "llm_cf", "dllm2rec"}


@pytest.mark.parametrize("scale", ["small", "full"])
def test_id_models_get_the_rows_of_language_models(scale):
    suite, usual = read("same_rows"), scales()[scale]
    assert (suite.train_rows, suite.valid_rows) == (
        usual.train_rows["llm"],
        usual.valid_rows["llm"],
    )


def test_every_fault_of_a_file_is_listed_at_once(tmp_path):
    with pytest.raises(SuiteError) as fault:
        _suite(tmp_path, "title: t\ndatasets: 3\nseed: [0]\nrows:\n  - {metod: sasrec}\n")
    text = str(fault.value)
    assert "rows.0: there is no key 'metod'. Did you mean method? Known: backbones, config" in text
    assert "there is no key 'seed'. Did you mean seeds?" in text
    assert "datasets" in text


def test_every_wrong_name_of_a_grid_is_listed_at_once(tmp_path):
    suite = _suite(
        tmp_path,
        BASE + "  - {method: popularty}\n  - {method: markov, config: {depth: 2}}\n"
        "  - {method: markov, losses: [msl]}\n  - {method: markov, decoders: [beam]}\n",
    )
    with pytest.raises(SuiteError) as fault:
        expand(suite, Choice())
    text = str(fault.value)
    for part in ("4 fault", "Did you mean popularity", "depth", "does not take the loss 'msl'"):
        assert part in text


def test_a_dataset_that_is_not_here_leaves_its_cells_out_with_a_reason(tmp_path):
    suite = _suite(tmp_path, BASE.replace("ml_100k", "book") + "  - {method: markov}\n")
    grid = expand(suite, Choice(data_root=tmp_path))
    assert not grid.cells
    assert [cell.method for cell, _ in grid.left_out] == ["markov"]
    assert "data get" in grid.left_out[0][1]


def test_a_filter_that_matches_nothing_is_a_fault_with_a_hint():
    wrong = Choice(methods=["sasrek", "markov"], losses=["cee"], datasets=["ml_100k", "bok"])
    with pytest.raises(SuiteError) as fault:
        expand(read("smoke"), wrong)
    text = str(fault.value)
    for part in (
        "3 fault(s)",
        "--methods sasrek: the suite has no such row. Did you mean sasrec",
        "--losses cee: no row of the suite has it. Did you mean ce?",
        "no dataset is called 'bok'. Did you mean book?",
    ):
        assert part in text
    with pytest.raises(SuiteError, match="no row is left at scale embedded"):
        expand(read("smoke"), Choice(methods=["sasrec"], seeds=[]))


def test_filters_and_caps(tmp_path):
    suite = _suite(
        tmp_path, BASE + "  - {method: markov}\n  - {method: markov_then_new, config: {m: 3}}\n"
    )
    grid = expand(suite, Choice(methods=["markov_then_new"], seeds=[4], limit=50))
    (cell,) = grid.cells
    assert (cell.method, cell.seed, cell.test_rows, cell.config["m"]) == (
        "markov_then_new", 4, 50, 3,
    )  # fmt: skip


def test_the_key_moves_with_whatever_decides_the_result_and_the_slot_does_not_move_with_code():
    (cell,) = expand(read("smoke"), Choice(methods=["markov"])).cells
    for change in (
        {"seed": 1},
        {"versions": {"method": 2}},
        {"data_version": "y"},
        {"test_rows": 9},
    ):
        assert replace(cell, **change).key != cell.key
    assert replace(cell, versions={"method": 2}, data_version="y").slot == cell.slot
    assert replace(cell, config={"a": 1}).slot != cell.slot


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("rows:", "train_rows: 0\nrows:") + "  - {method: markov}\n",
        BASE.replace("rows:", "valid_rows: -1\nrows:") + "  - {method: markov}\n",
        BASE.replace("rows:", "test_rows: -3\nrows:") + "  - {method: markov}\n",
        BASE + "  - {method: markov, train_rows: -5}\n",
        BASE + "  - {method: sasrec, tune: -1}\n",
    ],
)
def test_numbers_of_rows_and_trials_are_checked(text, tmp_path):
    with pytest.raises(SuiteError, match=r"allowed: a whole number, (above|at least) 0"):
        _suite(tmp_path, text)


def test_a_file_that_is_no_text_is_one_fault(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("title: café".encode("latin-1"))
    with pytest.raises(SuiteError, match=r"latin.yaml cannot be read as UTF-8 text"):
        read(str(path))


def test_seeds_are_those_that_numpy_takes(tmp_path):
    text = BASE.replace("rows:", "seeds: [-1]\nrows:") + "  - {method: markov}\n"
    with pytest.raises(SuiteError, match="seed -1: it must be from 0 to 4294967295"):
        expand(_suite(tmp_path, text), Choice())
    with pytest.raises(SuiteError, match="seed 4294967296: it must be"):
        expand(read("smoke"), Choice(seeds=[0, 2**32]))
    assert expand(read("smoke"), Choice(methods=["markov"], seeds=[2**32 - 1])).cells


def test_a_value_of_the_wrong_kind_is_a_fault_of_its_row(tmp_path):
    text = (
        BASE
        + "  - {method: bigrec, config: {loss_options: 3}}\n  - {method: markov, decoders: [x]}\n"
    )
    with pytest.raises(
        SuiteError, match=r"2 fault(?s:.*)bigrec: loss_options is 3; allowed: a mapping"
    ):
        expand(_suite(tmp_path, text), Choice())


def test_two_cells_with_room_for_one_row_are_a_fault(tmp_path):
    """The searches differ, as the second row fixes a value; what is asked of the fit does not."""
    fixed = methods.get("sasrec").Config().dropout
    rows = "  - {method: sasrec, tune: 2}\n  - {method: sasrec, tune: 2, config: {dropout: %s}}\n"
    with pytest.raises(SuiteError, match=r"1 fault.*\n.*/sasrec.*~2#0@\w+: asked for twice"):
        expand(_suite(tmp_path, BASE + rows % fixed), Choice())
    assert len(expand(_suite(tmp_path, BASE + rows % (fixed + 0.1)), Choice()).cells) == 2


def _tuned(tmp_path, row, **choice):
    grid = expand(_suite(tmp_path, BASE + row), Choice(**choice))
    (cell,) = grid.cells
    return cell, grid.support.get(cell.needs.get("tuning"))


def test_a_tuning_sees_the_rows_and_the_versions_of_what_it_tunes(tmp_path):
    row = "  - {method: sasrec, losses: [ce], train_rows: 700, tune: 2}\n"
    cell, tuning = _tuned(tmp_path, row)
    assert (cell.tune, tuning.config["trials"], tuning.train_rows) == (2, 2, 700)
    assert set(tuning.versions) >= {"method", "tuned method"}
    assert tuning.config["space"].keys() == methods.get("sasrec").search.keys()
    cell, tuning = _tuned(tmp_path, "  - {method: bigrec, losses: [lml], tune: 2}\n")
    assert tuning.train_rows == cell.train_rows == 128, "the cap of a language model"


def test_a_fixed_value_is_not_searched_and_an_empty_search_is_refused(tmp_path):
    _, tuning = _tuned(tmp_path, "  - {method: sasrec, config: {dropout: 0.1}, tune: 2}\n")
    assert "dropout" not in tuning.config["space"]
    assert _tuned(tmp_path, "  - {method: popularity}\n", tune=3)[1] is None
    with pytest.raises(SuiteError, match="tune is 2, but there is nothing to tune"):
        _tuned(tmp_path, "  - {method: popularity, tune: 2}\n")


def test_scales():
    assert list(scales()) == ["embedded", "laptop", "small", "full"]
    assert choose_scale("small")[0] == "small"
    assert choose_scale("auto")[0] in scales()
    with pytest.raises(UnknownName, match="no scale is called 'huge'"):
        choose_scale("huge")


def test_without_a_gpu_a_suite_is_run_at_the_scale_that_two_cores_can_fill():
    assert choose_scale("auto", [], read("paper"))[0] == "laptop"
    assert choose_scale("auto", [], read("decoders"))[0] == "embedded"
    assert choose_scale("auto", [], read("smoke"))[0] == "embedded"
    assert warning_of("embedded").startswith("a demonstration") and not warning_of("laptop")


def test_a_scales_recipe_is_of_its_backbone_alone_and_a_lines_own_values_go_before_it(tmp_path):
    rows = (
        "  - {method: bigrec, losses: [lml, msl_ats], backbones: [smollm2-135m, scratch]}\n"
        "  - {method: bigrec, losses: [s_dpo], config: {lr: 0.5}}\n"
    )
    cells = expand(_suite(tmp_path, BASE + rows), Choice(scale="small")).cells
    found = {(c.loss, c.backbone): (c.config["lora_r"], c.config["lr"]) for c in cells}
    recipe = scales()["small"].recipes["smollm2-135m"]
    chosen, usual = (recipe["lora_r"], recipe["lr"]), (8, 1e-4)
    assert found == {
        ("lml", "smollm2-135m"): chosen,
        ("msl_ats", "smollm2-135m"): chosen,
        ("lml", "scratch"): usual,
        ("msl_ats", "scratch"): usual,
        ("s_dpo", "smollm2-135m"): (recipe["lora_r"], 0.5),
    }


def test_a_line_of_some_scales_is_at_no_other_and_asking_for_it_says_where_it_is():
    paper = read("paper")
    laptop = expand(paper, Choice(scale="laptop"))
    asked = {(cell.method, cell.loss, cell.backbone) for cell in laptop.cells}
    assert {m for m, _, model in asked if model} == {"bigrec"}
    assert ("bigrec", "msl_ats", "scratch") in asked
    assert ("bigrec", "zero_shot", "scratch") not in asked
    assert {cell.method for cell in expand(paper, Choice(scale="embedded")).cells} >= {
        "llara",
        "llm_cf",
    }
    said = "--methods llara: not at scale laptop; the suite has it at --scale embedded, small, full"
    with pytest.raises(SuiteError, match=said):
        expand(paper, Choice(scale="laptop", methods=["llara"]))
