"""What others write does nothing by itself: in tables, on a terminal, in rows, to the data."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from _board_rows import M, cell, done, write

from bench.board import write_board
from bench.cell import Cell, Row
from bench.cli import main
from bench.conformance import toy_data
from bench.data.load import forget, load_dataset
from bench.errors import BenchError, ContractError
from bench.evaluation.checks import check_ranking
from bench.execution.faults import sentence
from bench.execution.runner import run_cell
from bench.execution.untouched import Untouched
from bench.execution.work import Surroundings
from bench.registry import load_plugin
from bench.results.identity import declared
from bench.results.row_files import read_row
from bench.results.storable import check_readable, plain_facts
from bench.results.store import Store
from bench.text.plain import neutral, one_line, printable
from bench.text.secrets import without_secrets
from bench.types import RandomTail, Ranking

TOKEN = "hf_" + "aB3dE6gH9jK2"
KEY = "sk-" + "proj-0123456789abcdef"


@pytest.mark.parametrize(
    ("form", "text", "shown"),
    [
        ("csv", "=cmd()", "'=cmd()"),
        ("csv", "+1+1", "'+1+1"),
        ("csv", "-2+3", "'-2+3"),
        ("csv", "@SUM(A1)", "'@SUM(A1)"),
        ("csv", "\t=1", "'=1"),
        ("csv", "\r=1", "'=1"),
        ("csv", "＝1+1", "'＝1+1"),
        ("csv", "-0.5", "-0.5"),
        ("csv", "+.0083", "+.0083"),
        ("csv", "a\x1b[31mb", "a\\x1b[31mb"),
        ("csv", "2 x cpu", "2 x cpu"),
        ("md", "see evil.example", "see evil&#46;example"),
        ("md", "www.evil.com", "www&#46;evil&#46;com"),
        ("md", "https://evil.com/x", "https:&#47;/evil&#46;com/x"),
        ("md", "mail me@evil.com", "mail me<!-- -->@evil&#46;com"),
        ("md", "[a](javascript:x)", r"\[a\](javascript:x)"),
        ("md", "<img src=x>", "&lt;img src=x&gt;"),
        ("md", "NDCG@10 of 0.25, 2.13.0", "NDCG@10 of 0.25, 2.13.0"),
        ("md", "last eighth of train.csv", "last eighth of train.csv"),
        ("md", "a\u202eb\x07", r"a\\u202eb\\x07"),
        ("tex", "\\input{x} 50 %", r"\textbackslash{}input\{x\} 50 \%"),
        ("tex", "[x]", "{[}x]"),
        ("tex", "*", "{*}"),
        ("tex", "a\r\\b", r"a \textbackslash{}b"),
        ("html", "<script>\x1b\"'", "&lt;script&gt;\\x1b&quot;&#x27;"),
    ],
)
def test_text_in_tables_by_hand(form, text, shown):
    assert neutral(text, form) == shown


def test_text_on_a_terminal():
    assert printable("a\x1b]0;x\x07\u2066b\udcff\nc\u00a0d") == (
        r"a\x1b]0;x\x07\u2066b\udcff" + "\nc d"
    )
    assert one_line("a\n b " * 300, 10) == "a b a b a…"


def test_a_row_s_texts_have_no_effect_in_any_table(tmp_path):
    row, packed = done([0, 1, M, M, M, M], cell("sasrec", loss="bce"))
    facts = {**row.facts, "title": "=HYPERLINK(www.evil.com)", "variant": "<b>"}
    write(tmp_path / "rows", replace(row, facts=facts), packed)
    write_board(tmp_path / "rows", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in (".md", ".csv", ".tex", ".html"):
            text = path.read_text()
            assert "HYPERLINK" in text or path.name == "README.md", path
            assert "<b>" not in text.replace(",'=HYPERLINK(www.evil.com) (<b>)", "")
            assert ",=HYPERLINK" not in text
            assert path.suffix != ".md" or "www.evil.com" not in text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"401 for https://x/y?token={TOKEN}", "401 for https://x/y?token=[secret]"),
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: [secret]."),
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [secret]"),
        ("https://me:pass12word@host/x", "https://[secret]@host/x"),
        ("value my-own-value-42 here", "value $WANDB_API_KEY here"),
        ("short abc stays, hf_hub too", "short abc stays, hf_hub too"),
        ("token of the model, sk-learn", "token of the model, sk-learn"),
    ],
)
def test_tokens_are_taken_out(monkeypatch, text, left):
    monkeypatch.setenv("WANDB_API_KEY", "my-own-value-42")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    assert without_secrets(text) == left
    assert sentence(ValueError(text)) == f"ValueError: {left}"


def test_the_command_line_shows_no_token_and_no_escape(monkeypatch, capsys):
    monkeypatch.setenv("MY_SECRET", "very-secret-value")
    assert main(["show", f"very-secret-value {TOKEN}\x1b[31m"]) == 2
    said = capsys.readouterr().err
    assert "very-secret" not in said and TOKEN not in said and "\x1b" not in said


def test_facts_are_plain_json():
    facts = {
        "one": np.float32(1.5),
        "two": np.int64(2),
        "flag": np.bool_(True),
        "nan": float("nan"),
        "inf": np.float64("inf"),
        "array": np.arange(3),
        "nest": {"losses": [np.float32("nan"), 1.0], 3: (np.int8(1), None)},
        "path": Path("/x/../y"),
        "text": f"a\nb \x1b {TOKEN}",
        "big": 10**30,
        "set": {1},
    }
    found = plain_facts(facts)
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "one": 1.5,
        "two": 2,
        "flag": True,
        "nan": None,
        "inf": None,
        "array": [0, 1, 2],
        "nest": {"losses": [None, 1.0], "3": [1, None]},
        "path": "/x/…/y",
        "text": "a b \\x1b [secret]",
        "big": "1.000e+30",
        "set": [1],
    }
    check_readable(Row(cell=cell("bigrec"), status="done", facts=facts))
    with pytest.raises(ContractError, match=r"facts\.epochs is 'many'; allowed: a number"):
        check_readable(Row(cell=cell("bigrec"), status="done", facts={"epochs": "many"}))


PLUGIN = f'''
"""Methods that a runner should not trust."""
import numpy as np
from bench.config import Config
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

class WhatConfig(Config):
    what: str = "good"

@methods.register("strange")
class Strange(Method):
    family, Config = "floor", WhatConfig

    def fit(self, train, valid, run):
        what = self.config.what
        if what == "writes":
            train.history.values[:3] += 1
        if what == "writes count":
            train.target_count[1] += 5
        if what == "quotes":
            raise RuntimeError("GET https://x failed: Bearer {TOKEN} ../y \\x1b[31m")
        run.facts.update(loss=np.float32("nan"), steps=np.int64(3), note="a\\x1bb")

    def recommend(self, queries, k):
        item_QK = np.tile(np.arange(1, k + 1), (len(queries), 1))
        if self.config.what == "writes queries":
            queries.history.values[0] += 1
        short = len(queries) - 1 if self.config.what == "short proof" else len(queries)
        return Ranking(item_QK, certified_Q=np.ones(short, bool), facts={{"beam": np.float64("nan")}})

    def save(self, folder):
        pass

    def load(self, folder, *, device):
        pass
'''


@pytest.fixture
def ran(tmp_path):
    """Run the strange method; its row, read back, and its log."""
    plugin = tmp_path / "strange.py"
    plugin.write_text(PLUGIN)
    load_plugin(plugin)
    data = load_dataset("ml_100k", None)

    def run(what):
        config = {"what": what}
        known = declared("strange", config=config)
        of = Cell(
            dataset="ml_100k",
            data_version=data.version,
            method="strange",
            test_rows=20,
            valid_rows=20,
            config=config,
            versions=known.versions,
            contents=known.contents,
        )
        store = Store(tmp_path / "rows", tmp_path / "run")
        run_cell(of, Surroundings(store=store, plugins=(str(plugin),)))
        log = store.folder(of.key) / "log.txt"
        return read_row(store.row_path(of)), log.read_text() if log.exists() else ""

    yield run
    forget()  # what the methods wrote to


def test_numbers_of_any_kind_become_facts_of_a_readable_row(ran):
    row, _ = ran("good")
    assert row.status == "done", row.reason
    kept = {name: row.facts[name] for name in ("loss", "steps", "note", "beam")}
    assert kept == {"loss": None, "steps": 3, "note": "a\\x1bb", "beam": None}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("writes", "fit wrote to its inputs (train.history.values)"),
        ("writes count", "fit wrote to its inputs (train.target_count)"),
        ("writes queries", "recommend wrote to its inputs (queries.history.values)"),
        ("short proof", "certified_Q is bool of shape (19,), expected 20 truth values"),
    ],
)
def test_a_method_that_breaks_its_contract_gets_no_numbers(ran, what, said):
    row, _ = ran(what)
    assert row.status == "failed" and said in row.reason
    again, _ = ran(what)
    assert again.status == "failed", "nothing that it fitted is taken up"


def test_no_token_reaches_row_or_log(ran):
    row, log = ran("quotes")
    assert row.status == "failed" and "RuntimeError: GET https://x failed" in row.reason
    assert TOKEN not in row.reason + log and "\x1b" not in row.reason and "../" not in row.reason
    assert "RuntimeError" in log and "Bearer [secret]" in log


@pytest.mark.parametrize(
    "beside",
    [
        {"certified_Q": np.ones(3, bool)},
        {"certified_Q": np.ones(4)},
        {"failed_Q": np.zeros((4, 1), bool)},
        {"tail": RandomTail(np.zeros(3, int), np.ones(41, bool))},
        {"tail": RandomTail(np.zeros(4, int), np.ones(40, bool))},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_what_comes_beside_the_lists_is_one_a_query(beside):
    queries = toy_data().queries.take(np.arange(4))
    item_QK = np.tile(np.arange(1, 6), (4, 1))
    check = partial(check_ranking, queries=queries, k=5, n_items=40)
    check(Ranking(item_QK, certified_Q=np.ones(4, bool), failed_Q=np.zeros(4, bool)))
    with pytest.raises(ContractError, match="expected"):
        check(Ranking(item_QK, **beside))


def test_inputs_are_compared_to_the_last_bit():
    toy = toy_data()
    inputs = Untouched(train=toy.train, valid=toy.valid)
    inputs.check("fit")
    toy.valid.target_Q[-1] ^= 1
    with pytest.raises(BenchError, match=r"fit wrote to its inputs \(valid\.target_Q\)"):
        inputs.check("fit")
