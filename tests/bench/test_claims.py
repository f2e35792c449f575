"""Published numbers: sealed, consistent with themselves, and compared without flattery."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.cell import Cell, Row
from bench.claims import (
    Ours,
    agreement,
    claims,
    effects,
    feasible,
    impossible,
    infeasible,
    interval,
    judge,
    ledger,
    line_verdicts,
    published,
    settle,
    sizes,
)
from bench.claims.grim import possible
from bench.claims.matching import matches
from bench.claims.named import margin_of, naming
from bench.claims.paper import FOLDER, SEALS, VERSIONS, read, standard_error
from bench.claims.seed_spread import seed_spread
from bench.claims.verdict import gap_se
from bench.errors import ArtefactError
from bench.results.badges import badges, voiding
from bench.significance.intervals import Difference
from bench.significance.seeds import pool
from bench.significance.spread import Spread

CELL = Cell(
    dataset="book",
    data_version="v",
    method="bigrec",
    loss="lml",
    scale="full",
    profile="paper_faithful",
    select_on="test",
    uncut=True,
    backbone="meta-llama/Meta-Llama-3-8B",
    decoder="beam",
    train_rows=10_000,
)


def claim(dataset="book", method="bigrec", loss="lml", metric="ndcg@10", table="table5"):
    wanted = (table, dataset, method, loss, metric)
    [found] = [c for c in claims() if (c.table, *c.where, c.metric) == wanted]
    return found


def ours(mean, cv=0.0, cell=CELL, n=4383, **more):
    """A mean of one seed whose fits vary by ``cv`` of it."""
    return Ours(cell, n, mean, mean, mean, cv, by_seed=(mean,), **more)


def test_every_cell_of_the_tables_is_there():
    count = {}
    for c in claims():
        count[c.table] = count.get(c.table, 0) + 1
    assert count == {"table5": 14 * 4 * 4, "table3": 4, "table6": 28, "upstream_readme": 12}
    assert published("book", "sasrec", "ce")["hit@10"] == 0.0285
    assert published("book", "bigrec", "msl_ats")["ndcg@10"] == 0.0172
    assert published("book", "bigrec", "no_such_loss") == {}
    assert published("ml_100k", "sasrec", None) == {}


def test_a_changed_digit_breaks_the_seal(tmp_path, monkeypatch):
    for name in SEALS:
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    changed = (tmp_path / "table5.csv").read_text().replace("0.0137", "0.0138", 1)
    (tmp_path / "table5.csv").write_text(changed)
    monkeypatch.setattr("bench.claims.paper.FOLDER", tmp_path)
    assert len(read("table3.csv")) == 4
    with pytest.raises(ArtefactError, match=r"table5\.csv"):
        read("table5.csv")


def test_grim_flags_exactly_one_number():
    assert [(*c.where, c.metric, c.value) for c in impossible()] == [
        ("office", "llara", "s_dpo", "hit@10", 0.0524)
    ]


def test_grim_by_hand():
    assert possible(0.33, 2, 3)  # 1/3
    assert not possible(0.35, 2, 3)
    assert possible(0.0, 4, 7)


@pytest.mark.parametrize(
    ("dataset", "half"),
    [("toy", 0.0030), ("book", 0.0028), ("clothing", 0.0016), ("office", 0.0045)],
)
def test_half_widths_of_the_published_means(dataset, half):
    low, high = interval(claim(dataset))
    assert (high - low) / 2 == pytest.approx(half, abs=5e-5)


def test_hit_is_binomial():
    assert standard_error(claim(metric="hit@10")) == pytest.approx(
        math.sqrt(0.0258 * (1 - 0.0258) / 4383)
    )


def test_every_claim_has_an_interval_inside_the_bound():
    for c in claims():
        assert 0 < standard_error(c) <= math.sqrt(c.value * (1 - c.value) / c.n) + 1e-12


OFFICE = replace(
    CELL, dataset="office"
)  # no validation windows have to be cut out of its train file
EXACT = 0.02200  # published for BIGRec + LML on Office, printed with four digits


def ratio_ours(ratio, cv=0.0, **more):
    return judge(claim("office"), ours(EXACT * ratio, cv, OFFICE, 1925, **more))


def test_words_at_their_boundaries():
    """Without variance the words hang on the margin 1.2 and on half a printed unit alone."""
    unit = 0.00005 / EXACT
    inside, outside = 1.2 * (1 - unit), 1.2 * (1 + unit)
    said = [ratio_ours(r).word for r in (1.0, inside - 1e-6, inside + 1e-6, outside)]
    assert said == ["reproduced", "reproduced", "higher", "higher"]
    said = [ratio_ours(1 / r).word for r in (inside - 1e-4, outside + 1e-4)]
    assert said == ["reproduced", "lower"]


def test_the_words_of_wide_intervals():
    """se = .1 √2: the 95 % interval of log ratio is ± .277, the 90 % one ± .233, beyond log 1.2 = .182."""
    unit = 0.00005 / EXACT
    edge = math.exp(1.959964 * 0.1 * math.sqrt(2)) * (1 + unit)
    said = [ratio_ours(r, 0.1).word for r in (1.0, edge - 1e-4, edge + 1e-4, 1 / (edge + 1e-4))]
    assert said == ["inconclusive", "inconclusive", "higher", "lower"]
    # 90 % inside: 1.645 se <= log 1.2 less half a unit
    cv = math.log(1.2 * (1 - unit)) / 1.644854 / math.sqrt(2)
    assert [ratio_ours(1, c).word for c in (cv - 1e-4, cv + 1e-4)] == ["reproduced", "inconclusive"]
    assert judge(claim(), None).word == "not run"


def test_with_a_departure_or_a_voiding_badge_the_same_number_is_not_reproduced():
    other = "same value under another protocol"
    small = replace(OFFICE, backbone="scratch")
    assert judge(claim("office"), ours(EXACT, 0, small, 1925)).word == other
    assert ratio_ours(1, badges=("truncated histories",)).word == other
    assert ratio_ours(1, badges=("other torch",)).word == "reproduced"
    assert ratio_ours(2, badges=("truncated histories",)).word == "higher"
    assert "badges: truncated histories" in ratio_ours(2, badges=("truncated histories",)).text


def test_margins_keep_two_reproduced_numbers_in_order():
    found = {
        (d, m, loss): round(margin_of(claim(d, m, loss)), 3)
        for d, m, loss in (
            ("book", "bigrec", "msl_ats"),
            ("book", "bigrec", "lml"),
            ("office", "bigrec", "lml"),
            ("book", "bert4rec", ""),
        )
    }
    assert list(found.values()) == [round(math.sqrt(172 / 137), 3)] * 2 + [1.2, 1.2]
    assert margin_of(claim(loss="msl_ats", table="table3")) == pytest.approx(math.sqrt(175 / 137))


def test_on_the_same_test_file_only_fits_differ():
    wide = ours(0.0137, 0.06, row_cv=0.1, widening=2.0)
    assert gap_se(claim(), wide) == pytest.approx(0.06 * math.sqrt(2))
    three = replace(wide, by_seed=(0.0137,) * 3)
    assert gap_se(claim(), three) == pytest.approx(0.06 * math.sqrt(1 / 3 + 1))
    printed = 0.0005 / 0.0175  # Table 3
    assert gap_se(claim(loss="msl_ats"), wide) == pytest.approx(math.hypot(0.06, printed))
    theirs = standard_error(claim()) / 0.0137
    rows = math.sqrt(2 * 0.06**2 + 0.1**2 + 2 * theirs**2)
    assert gap_se(claim(), replace(wide, n=500)) == pytest.approx(rows)


def test_every_claim_has_a_line_named_for_it_and_every_name_a_claim():
    wanted = {(c.method, c.loss) for c in claims()}
    assert set(naming()) == wanted
    assert all(one.reason for one in naming().values())
    assert {one.method for one in naming().values() if one.silent} == {"sasrec", "dros"}


def test_the_named_line_is_chosen_from_cells_alone():
    """Eight lines; every permutation of their results leaves the named one where it is."""
    cells = [
        replace(OFFICE, config={"epochs": epochs}, decoder=decoder)
        for epochs in (10, 5, 3, 2)
        for decoder in ("beam", "ground")
    ]
    rng = np.random.default_rng(0)
    for _ in range(20):
        means = EXACT * rng.permutation(np.linspace(0.3, 1.5, 8))
        lines = [ours(float(m), 0.06, c, 1925) for m, c in zip(means, cells, strict=True)]
        order = rng.permutation(8)
        found = settle(claim("office"), [lines[i] for i in order])
        [line] = found.lines
        assert line.ours.cell == cells[0]
        assert found.agree[1] == 7


def test_of_equal_departures_the_lowest_slot_is_named():
    cells = [replace(OFFICE, config={"report_to": name}) for name in ("a", "b", "c")]
    found = settle(claim("office"), [ours(EXACT, cell=c, n=1925) for c in cells])
    assert found.lines[0].ours.cell == min(cells, key=lambda c: c.slot)


def test_a_line_that_is_not_named_never_reproduces():
    named_one = ours(EXACT * 2, cell=OFFICE, n=1925)
    beside = ours(EXACT, cell=replace(OFFICE, decoder="generate"), n=1925)
    words = [v.word for v in line_verdicts([beside, named_one])]
    assert words == ["same value under another protocol", "higher"]
    found = settle(claim("office"), [beside, named_one])
    assert (found.word, found.agree) == ("higher", (1, 1))


def test_eight_lines_are_called_reproduced_no_more_often_than_one():
    """At a true ratio of 1 / 1.2, the edge of the margin, one test in twenty may say so; eight may too."""
    rng = np.random.default_rng(1)
    cells = [replace(OFFICE, config={"report_to": str(k)}) for k in range(8)]
    about, cv, said = claim("office"), 0.03, {1: 0, 8: 0, "best": 0}
    for _ in range(400):
        theirs = replace(about, value=round(EXACT * math.exp(cv * rng.normal()), 4))
        means = EXACT / 1.2 * np.exp(cv * rng.normal(size=8))
        lines = [ours(float(m), cv, c, 1925) for m, c in zip(means, cells, strict=True)]
        said[1] += settle(theirs, lines[:1]).word == "reproduced"
        said[8] += settle(theirs, lines).word == "reproduced"
        said["best"] += any(judge(theirs, line).word == "reproduced" for line in lines)
    assert said[1] / 400 <= 0.08
    assert said[8] / 400 <= 0.08
    assert said["best"] > said[8], "what fishing would have found"


def test_where_the_paper_is_silent_the_verdict_depends_on_the_fork():
    id_model = replace(OFFICE, method="sasrec", backbone=None, decoder=None, train_rows=None)
    lines = [
        ours(mean, 0.0, replace(id_model, loss=loss), 1925)
        for loss, mean in (("bce", 0.0100), ("ce", 0.0183), ("ce", 0.0182), ("mine", 0.0183))
    ]
    lines[2] = replace(lines[2], cell=replace(lines[2].cell, tune=4))
    found = settle(claim("office", "sasrec", ""), lines)
    assert found.word == "depends on"
    assert [(v.ours.cell.loss, v.word) for v in found.lines] == [
        ("ce", "same value under another protocol"),
        ("bce", "lower"),
    ]
    assert found.span == (0.0100, 0.0183)
    assert found.agree == (2, 2)
    assert "loss ce, the paper names none" in found.lines[0].differs


def test_two_lines_of_one_fit_are_one_line():
    found = [
        ours(EXACT, cell=replace(OFFICE, tune=tune, config={"report_to": name}), n=1925, fit=fit)
        for tune, name, fit in ((0, "a", "f"), (4, "a", "f"), (4, "b", "g"), (4, "c", "g"))
    ]
    assert settle(claim("office"), found).agree == (1, 1)


def test_the_spread_of_seeds_is_compared_where_table_3_prints_one():
    """Three seeds with a deviation of 10 %: chi-squared(2) gives 5.2 % to 62.8 %."""
    about, mean = claim(loss="msl_ats", table="table3"), 0.0175
    line = ours(mean, cell=replace(CELL, loss="msl_ats"))
    seeds = tuple(mean * (1 + step) for step in (-0.1, 0.0, 0.1))
    found = seed_spread(about, replace(line, by_seed=seeds))
    assert (found.ours, found.low, found.high) == pytest.approx((0.1, 0.0521, 0.6285), abs=1e-4)
    assert found.word == "higher"  # 2.9 % published
    assert "spread of 3 seeds 10.0 %" in found.text
    assert seed_spread(claim(loss="s_dpo", table="table3"), replace(line, by_seed=seeds)).word == (
        "inconclusive"  # 15.3 %
    )
    steady = tuple(mean * (1 + step) for step in (-0.0004, 0.0, 0.0004))
    assert seed_spread(about, replace(line, by_seed=steady)).word == "lower"
    assert seed_spread(about, replace(line, by_seed=seeds[:2])) is None
    assert seed_spread(claim(), replace(line, by_seed=seeds)) is None


def test_three_published_rows_cannot_be():
    assert sorted(infeasible()) == [
        ("clothing", "llm_cf", ""),
        ("office", "dllm2rec", ""),
        ("office", "llara", "s_dpo"),
    ]
    found = judge(claim("office", "dllm2rec", ""), None)
    assert found.badges == ("the published row cannot be",)
    assert judge(claim(), None).badges == ()


def test_feasible_by_hand():
    """Ten rows, one hit at rank 1 and one at rank 6: NDCG@5 .1, NDCG@10 .1 + .0356."""
    row = {"hit@5": 0.1, "hit@10": 0.2, "ndcg@5": 0.1, "ndcg@10": 0.1356}
    assert feasible(row, 10)
    assert feasible({**row, "ndcg@10": 0.1289}, 10)  # at rank 10: 1 / log2(11) = .289
    assert not feasible({**row, "ndcg@10": 0.1287}, 10)
    assert not feasible({**row, "ndcg@10": 0.1358}, 10)
    assert not feasible({**row, "hit@10": 0.25}, 10)  # no tenth
    assert not feasible({**row, "ndcg@5": 0.0385, "ndcg@10": 0.0741}, 10)  # rank 5 gains .387


def test_several_test_sizes_may_fit():
    assert sizes("toy") == ([4794], 28, 28)
    assert sizes("book") == ([4383, 4384, 4385], 28, 28)
    assert sizes("office") == ([1925, 3850], 27, 28)
    assert sizes("clothing")[0] == list(range(4991, 5001))


def test_a_departure_stands_beside_the_comparison():
    small = replace(CELL, scale="small", backbone="smollm2-135m")
    verdict = judge(claim(), ours(0.0137, 0.001, small, n=500))
    assert verdict.text == (
        "inconclusive; protocol differs: scale small, backbone smollm2-135m, 500 test rows, not 4383"
    )
    ours_all = replace(CELL, profile="corrected", select_on="valid", uncut=False)
    assert judge(claim(), ours(0.0137, 0.001, ours_all)).differs == (
        "validation cut out of train",
        "epoch chosen on valid, not test",
    )
    office = replace(CELL, dataset="office")
    assert judge(claim("office"), ours(0.022, 0.001, office, n=1925)).text == "reproduced"


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"protocol": "1+known"}, "protocol 1+known"),
        ({"train_rows": 500}, "500 training rows, not 10,000"),
        ({"train_rows": None}, "all training rows, not 10,000"),
        ({"decoder": "exact"}, "decoder exact"),
        ({"select_on": "valid"}, "epoch chosen on valid, not test"),
        ({"backbone": "scratch"}, "backbone scratch"),
        ({"config": {"epochs": 2}}, "epochs 2, not 10"),
        ({"config": {"decoder_options": {"space": "valid"}}}, "space valid, not full"),
        ({"config": {"batch": 64}}, "batch 64, not 128"),
        ({"config": {"lr": 1e-3, "scratch_lr": 3e-3}}, "lr 0.001, not 0.0001"),
    ],
)
def test_each_departure_is_named(change, phrase):
    cell = replace(CELL, dataset="office", **change)
    assert judge(claim("office"), ours(0.022, 0.001, cell, n=1925)).differs == (phrase,)


def test_the_recipe_is_the_one_that_was_used():
    """Models of ids have no recipe in the paper; another rate is not held against a claim of one."""
    recipe = {"epochs": 10, "batch": 128, "lr": 1e-4, "scratch_lr": 3e-3}
    cell = replace(CELL, dataset="office", config=recipe)
    assert judge(claim("office"), ours(0.022, cell=cell, n=1925)).text == "reproduced"
    faster = replace(cell, loss="msl", config=recipe | {"lr": 1e-3})
    tuned_rate = claim("office", loss="msl_tuned_lr", table="table6")
    assert judge(tuned_rate, ours(0.0177, cell=faster, n=1925)).differs == ("not tuned",)
    searched = replace(faster, tune=4)
    assert judge(tuned_rate, ours(0.0177, cell=searched, n=1925)).differs == ()
    ids = {"method": "sasrec", "loss": "ce", "backbone": None, "decoder": None}
    id_model = replace(CELL, **ids, train_rows=None, config={"epochs": 100})
    assert judge(claim(method="sasrec", loss=""), ours(0.0133, cell=id_model)).differs == (
        "loss ce, the paper names none",
    )


def test_a_tuned_temperature_is_tuned_and_a_tuned_rate_is_another_rate():
    tau = claim(loss="msl_tau", table="table6")
    cell = replace(CELL, loss="msl_tau")
    assert "not tuned" in judge(tau, ours(0.0176, cell=cell)).differs
    tuned = judge(tau, ours(0.0176, cell=replace(cell, tune=4))).differs
    assert "not tuned" not in tuned
    plain, faster = replace(CELL, loss="msl"), replace(CELL, loss="msl", config={"lr": 1e-3})
    has = [(c, {"ndcg@10": ours(0.015, cell=c)}) for c in (plain, faster)]
    matched = {f.claim.loss: f.lines[0].ours.cell for f in ledger(has) if f.span}
    assert matched == {"msl": plain, "msl_tuned_lr": faster}


def test_ledger_has_a_line_for_every_claim():
    findings = ledger([(CELL, {"ndcg@10": ours(0.0137, 0.001)})])
    assert len(findings) == len(claims())
    run = [f for f in findings if f.word != "not run"]
    assert [(f.claim.table, f.claim.metric) for f in run] == [
        ("table5", "ndcg@10"),
        ("table6", "ndcg@10"),
    ]


def test_the_update_is_matched_by_fixed_tau_under_the_corrected_scores():
    cell = replace(CELL, loss="msl_tau", profile="corrected")
    tables = {
        f.claim.table for f in ledger([(cell, {"ndcg@10": ours(0.0138, cell=cell)})]) if f.span
    }
    assert tables == {"table6", "upstream_readme"}


def test_agreement_of_ranks_and_effects():
    mine = {"lml": 0.01, "s_dpo": 0.02, "msl_ats": 0.03}
    have = [
        (c, {"ndcg@10": ours(mean, cell=c)})
        for loss, mean in mine.items()
        for c in [replace(CELL, loss=loss)]
    ]
    cells = {cell.loss: cell.key for cell, _ in have}
    ratios = {(cells[loss], cells["lml"]): log_ratio(mine[loss] / 0.01) for loss in mine}
    [book] = agreement(have, {}, ratios)
    assert (book.dataset, book.methods, book.tau) == ("book", 3, 1.0)
    assert (book.low, book.high) == (-1.0, 1.0), "no pair is separated"
    effect = {one.loss: one for one in book.effects}
    assert set(effect) == {"s_dpo", "msl_ats"}
    assert (effect["msl_ats"].ratio, effect["msl_ats"].theirs) == pytest.approx(
        (3, 0.0172 / 0.0137)
    )
    assert agreement([], {}, {}) == []


def log_ratio(ratio, se=0.05):
    """A difference of logarithms whose uncertainty is all from fits."""
    none, gap = np.float64(0), math.log(ratio)
    spread = Spread(none, none, none, np.float64(se**2), *[np.float64(np.inf)] * 2, none)
    reach = 1.96 * se
    return Difference(gap, gap - reach, gap + reach, 0.0, 0.0, spread, "targets like these")


@pytest.mark.parametrize(
    ("ratio", "se", "word"),
    [
        (1.25, 0.02, "reproduced"),
        (1.25, 0.2, "inconclusive"),
        (0.9, 0.02, "lower"),
        (1.9, 0.02, "higher"),
    ],
)
def test_an_effect_is_judged_on_the_ratio_not_on_two_single_numbers(ratio, se, word):
    """Both lines are far below the published ones; only what the loss adds is compared (published 1.26)."""
    lines = {
        ("bigrec", loss): ours(mean, cell=replace(CELL, loss=loss), cv=0.01)
        for loss, mean in (("lml", 0.002), ("msl_ats", 0.002 * ratio))
    }
    keys = [lines["bigrec", loss].cell.key for loss in ("msl_ats", "lml")]
    [found] = effects("book", lines, {tuple(keys): log_ratio(ratio, se)})
    same = word == "reproduced" and found.differs
    assert found.word == ("same value under another protocol" if same else word)
    assert found.outcome == {"reproduced": "same"}.get(word, word)


def test_an_effect_without_a_hit_has_no_ratio():
    lines = {
        ("bigrec", loss): ours(0.0, cell=replace(CELL, loss=loss)) for loss in ("lml", "msl_ats")
    }
    [found] = effects("book", lines, {})
    assert (found.ratio, found.word) == (None, "inconclusive")
    assert "has no ratio" in found.text


def test_tau_lies_between_what_separated_pairs_allow():
    """Published LML < S-DPO < MSL; ours S-DPO < LML < MSL. One pair agrees, one does not, one is open."""
    mine = {"lml": 0.02, "s_dpo": 0.01, "msl_ats": 0.03}
    cells = {loss: replace(CELL, loss=loss) for loss in mine}
    have = [(cells[loss], {"ndcg@10": ours(m, cell=cells[loss])}) for loss, m in mine.items()]
    pairs = {
        (cells["lml"].key, cells["s_dpo"].key): 0.01,
        (cells["s_dpo"].key, cells["msl_ats"].key): 0.04,
        (cells["lml"].key, cells["msl_ats"].key): 0.06,
    }
    [book] = agreement(have, pairs, {})
    assert (book.low, book.tau, book.high) == pytest.approx((-1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_losses_the_first_named_is_compared(order):
    sasrec = replace(CELL, method="sasrec", backbone=None, decoder=None)
    rivals = [
        (c, {"ndcg@10": ours(mean, cell=c)})
        for loss, mean in {"ce": 0.02, "bce": 0.05, "none": 0.07}.items()
        for c in [replace(sasrec, loss=loss)]
    ]
    lml = (CELL, {"ndcg@10": ours(0.03)})  # .0137 published, SASRec .0133
    board = f"full-paper_faithful-protocol1 [{CELL.backbone}, beam]"
    [tau] = [a.tau for a in agreement([lml, *rivals[::order]], {}, {}) if a.board == board]
    assert tau == 1.0, "0.03 against 0.02 agrees with the paper, against 0.05 it would not"


def test_the_papers_data_are_told_by_content_not_by_name():
    published_book = [replace(CELL, data_version=version) for version in VERSIONS["book"]]
    assert all(matches(claim(), cell) for cell in published_book)
    other = replace(CELL, data_version="0000000000000000")
    assert not matches(claim(), other)
    verdicts = ledger([(other, {"ndcg@10": ours(0.0137, cell=other)})])
    assert {verdict.word for verdict in verdicts} == {"not run"}


def test_agreement_never_mixes_boards():
    other = replace(CELL, scale="small")
    sasrec = replace(CELL, method="sasrec", loss="ce", backbone=None, decoder=None, scale="small")
    capped, known = replace(other, test_rows=500), replace(other, protocol="1+known")
    mine = ((CELL, 0.01), (other, 0.02), (sasrec, 0.03), (capped, 0.04), (known, 0.05))
    have = [(c, {"ndcg@10": ours(mean, cell=c)}) for c, mean in mine]
    found = {a.board: (a.methods, a.tau) for a in agreement(have, {}, {})}
    llama = "[meta-llama/Meta-Llama-3-8B, beam]"
    assert found[f"small-paper_faithful-protocol1 {llama}"] == (2, -1.0)  # published .0137, .0133
    assert found[f"full-paper_faithful-protocol1 {llama}"][0] == 1
    assert found[f"small-paper_faithful-protocol1-500rows {llama}"][0] == 1
    assert found[f"small-paper_faithful-protocol1+known {llama}"][0] == 1


def test_agreement_never_mixes_versions_of_a_dataset():
    sasrec = replace(CELL, method="sasrec", loss="ce", backbone=None, decoder=None)
    newer = replace(sasrec, data_version="newer_version")
    have = [(c, {"ndcg@10": ours(0.02, cell=c)}) for c in (CELL, sasrec, newer)]
    found = {(a.dataset, a.methods) for a in agreement(have, {}, {})}
    assert found == {("book@v", 1), ("book@v", 2), ("book@newer_ve", 1)}


@pytest.mark.parametrize(
    ("facts", "config", "badge"),
    [
        ({"ats_clamped": 1.0, "ats_updates": 9.0}, {}, "temperature at its clamp in all steps"),
        ({"ats_clamped": 0.86, "ats_updates": 9.0}, {}, None),
        ({"history_dropped": 640}, {}, "truncated histories"),
        ({"history_dropped": 0, "queries_history_dropped": 3}, {}, "truncated histories"),
        ({"history_dropped": 0, "prompts_too_long": 0}, {}, None),
        (
            {"teacher_rows": 96, "teacher_rows_share": 96 / 15400},
            {},
            "teacher on 96 rows, 0.6 % of them",
        ),
        ({"teacher_rows": 15400, "teacher_rows_share": 1.0}, {}, None),
        ({"entries": 32}, {"cot": {"rows": 16}}, "rationales on 16 rows"),
        ({"entries": 32}, {"cot": {"rows": None}}, None),
    ],
)
def test_facts_that_void_a_claim_are_badges(facts, config, badge):
    row = Row(
        cell=replace(CELL, method="no_such_method", config=config), status="done", facts=facts
    )
    assert badges(row) == ((badge,) if badge else ())
    assert voiding(badges(row)) == badges(row)


def test_libraries_void_nothing():
    assert voiding(("other torch", "code changed since")) == ("code changed since",)


def test_what_one_fit_varies_by_is_pooled_with_the_prior():
    """B / X² = .01 of three seeds without noise of rows has the weight of the prior, .06² = .0036."""
    one, none = np.array([0.0001, np.nan]), np.array([0.0, np.nan])
    fits = pool(one, none, np.array([0.1, 0.1]), np.array([3, 1]), prior=0.06)
    assert fits.one_fit == pytest.approx(math.sqrt((0.01 + 0.0036) / 2))
    alone = pool(none[1:], none[1:], np.array([0.1]), np.array([1]), prior=0.06)
    assert alone.one_fit == pytest.approx(0.06)
