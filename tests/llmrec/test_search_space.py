"""What a tuning of a language model tries: values that are in force, and nothing else."""

import pytest

from bench.experiment.choice import Choice
from bench.experiment.grid import expand
from bench.experiment.suite import read
from bench.method import assign, configure
from bench.registry import losses, methods


def _space(loss, backbone=None):
    kind = methods.get("bigrec")
    config = kind.complete(configure(kind, {}), loss=loss, decoder="beam")
    return config, kind.search_space(config, loss=loss, backbone=backbone)


@pytest.mark.parametrize(
    ("loss", "backbone", "rate", "default"),
    [
        ("lml", None, "lr", 1e-4),
        ("msl_tau", "scratch", "scratch_lr", 1e-3),
        ("msl_ats", "tiny", "scratch_lr", 1e-3),
        ("s_dpo", None, "loss_options.lr", 1e-5),
        ("s_dpo", "scratch", "loss_options.scratch_lr", 1e-4),
    ],
)
def test_the_rate_in_force_and_the_options_of_the_loss_are_tried(loss, backbone, rate, default):
    config, space = _space(loss, backbone)
    assert default in space[rate]
    own = {f"loss_options.{name}" for name in losses.get(loss).search}
    assert space.keys() == own | {rate}
    tried = configure(
        methods.get("bigrec"), assign(config.as_dict(), {k: v[0] for k, v in space.items()})
    )
    for name, values in space.items():
        field, _, entry = name.partition(".")
        found = getattr(tried, field)
        assert (found[entry] if entry else found) == values[0]


def test_zero_shot_has_nothing_to_tune(tmp_path):
    assert _space("zero_shot")[1] == {}
    row = "{method: bigrec, losses: [zero_shot, msl_tau]}"
    path = tmp_path / "mine.yaml"
    path.write_text(f"title: t\ndatasets: [ml_100k]\nrows: [{row}]\n")
    grid = expand(read(str(path)), Choice(tune=2))
    assert {cell.loss: cell.tune for cell in grid.cells} == {"zero_shot": 0, "msl_tau": 2}
    (tuning,) = (cell for cell in grid.support.values() if cell.method == "tune")
    assert set(tuning.config["space"]) == {"lr", "loss_options.tau"}
