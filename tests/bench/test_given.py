"""Values that a user sets for the rows of a suite, and the verb that lists what can be set."""

from __future__ import annotations

import json

import pytest

from bench.api import Order, order, prepare
from bench.cli import main
from bench.errors import ConfigError, SuiteError
from bench.experiment.choice import Choice
from bench.experiment.given import read_values, with_values
from bench.experiment.suite import SuiteRow, scales


def cells(suite="smoke", **options):
    plan = prepare(order(suite, scale="embedded", gpus=[], reuse="never", **options)).plan
    return {job.cell.method: job.cell for job in plan.jobs if job.asked}


def test_words_are_read_as_in_a_suite():
    found = read_values(
        ["lr=1e-3", "lora_targets=[q_proj, k_proj]", "loss_options.tau=2", "a=null"]
    )
    assert found == {
        "lr": 0.001,
        "lora_targets": ["q_proj", "k_proj"],
        "loss_options.tau": 2,
        "a": None,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr"], "--set 'lr' is not KEY=VALUE"),
        (["=3"], "--set '=3' is not KEY=VALUE"),
        (["a..b=3"], "--set 'a..b=3' is not KEY=VALUE"),
        (["lr=1", "lr=2"], "--set lr is given twice: 1 and 2"),
        (["lr=[1"], "--set 'lr=[1': its value cannot be read"),
    ],
)
def test_a_word_that_cannot_be_read_is_one_line(words, said):
    with pytest.raises(ConfigError) as fault:
        read_values(words)
    assert str(fault.value).startswith(said)


def test_a_value_is_set_for_every_asked_method_that_has_the_key():
    before, after = cells(), cells(config={"epochs": 2})
    assert (before["sasrec"].config["epochs"], after["sasrec"].config["epochs"]) == (3, 2)
    assert before["sasrec"].key != after["sasrec"].key
    assert before["popularity"] == after["popularity"]


def test_nested_values_stay_beside_the_one_that_is_set():
    scale = scales()["embedded"]
    row = with_values(SuiteRow(method="dllm2rec"), scale, {"teacher.beams": 3})
    assert row.config["teacher"] == {**scale.config["dllm2rec"]["teacher"], "beams": 3}


def test_a_key_that_no_asked_method_has_is_refused_with_the_nearest():
    with pytest.raises(
        SuiteError, match=r"--set epoch=3: no key 'epoch' in .*epochs.*bench options"
    ):
        cells(config={"epoch": 3})


def test_an_option_of_another_loss_is_refused_and_not_dropped():
    with pytest.raises(SuiteError, match="lml: there is no key 'tau'"):
        cells("paper", methods="bigrec", losses="lml", config={"loss_options.tau": 2})
    found = cells("ablation", losses="msl_tau", config={"loss_options.tau": 2})
    assert found["bigrec"].config["loss_options"]["tau"] == 2


def test_a_call_takes_what_the_command_takes():
    found = order("smoke", methods="sasrec", seeds=1, datasets=["ml_100k"], jobs=2, plugins="a.py")
    assert found == Order(
        suite="smoke",
        choice=Choice(
            scale="auto", methods=["sasrec"], seeds=[1], datasets=["ml_100k"], data_root=None
        ),
        jobs=2,
        plugins=["a.py"],
    )


def test_an_argument_that_does_not_exist_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"no option 'method'.* methods"):
        order("smoke", method="sasrec")


def test_every_key_of_a_method_and_of_its_losses_is_listed(capsys):
    assert main(["options", "bigrec", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"method bigrec", "loss msl_ats", "loss s_dpo", "decoder exact"} <= set(found)
    assert "loss ce" not in found
    [rate] = [one for one in found["method bigrec"] if one["key"] == "lr"]
    assert rate == {
        "key": "lr",
        "type": "a number",
        "default": 0.0001,
        "range": "above 0",
        "sentence": rate["sentence"],
    }
    assert all(one["sentence"] for part in found.values() for one in part), (
        "a key says what it does"
    )


def test_the_listing_is_a_table_in_text_and_in_markdown(capsys):
    main(["options", "msl_ats"])
    assert "clamp      [1.5, 5.0]" in capsys.readouterr().out
    main(["options", "msl_ats", "--format", "md"])
    assert "| clamp" in capsys.readouterr().out
    assert main(["options", "sasrek"]) == 2
    assert "Did you mean sasrec" in capsys.readouterr().err
