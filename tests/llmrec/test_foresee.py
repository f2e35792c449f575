"""What a generative method says of a cell before it runs: how long it takes, and what its loss will do."""

import json

import numpy as np
import pytest

from bench.cell import Size
from bench.method import configure
from bench.registry import methods
from bench.types import Catalogue, Ragged, Windows
from llmrec.generative._estimate import estimate, layer_weights

SIZE = Size(train_rows=1000, test_rows=100, n_items=500, valid_rows=50, characters=200.0)
BIGREC = methods.get("bigrec")


def config(**values):
    return configure(BIGREC, values)


def seconds(size=SIZE, **values):
    return estimate(config(**values), size)


def sized(**values):
    return Size(**{**vars(SIZE), **values})


def test_time_grows_with_everything_that_is_more_work():
    usual = seconds()
    for more in ("train_rows", "test_rows", "valid_rows", "characters"):
        assert seconds(sized(**{more: 10 * getattr(SIZE, more)})) > usual, more
    assert seconds(epochs=20) > usual > seconds(sized(backbone="scratch"))
    assert seconds(loss_options={"negatives": 3}) > usual
    assert seconds(sized(loss="zero_shot")) == seconds(sized(loss="zero_shot"), epochs=1)
    assert seconds(sized(backbone="scratch"), layers=8) > seconds(sized(backbone="scratch"))


def test_the_size_of_a_model_is_read_from_its_folder_or_its_name(tmp_path):
    shape = {"num_hidden_layers": 3, "hidden_size": 10, "intermediate_size": 20}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    assert layer_weights(str(tmp_path), config()) == 3 * (4 * 10 * 10 + 3 * 10 * 20)
    assert layer_weights("meta-llama/Meta-Llama-3-8B", config()) == 8e9
    assert layer_weights("owner/model-360M", config()) == 360e6
    assert layer_weights("owner/somebody", config()) is None
    assert seconds(sized(backbone="owner/somebody")) is None
    ratio = seconds(sized(backbone="x/y-8B")) / seconds(sized(backbone="x/y-4B"))
    assert ratio == pytest.approx(2, rel=0.05)


def catalogue(titles):
    """Training rows over some titles, each a target once."""
    items = np.arange(1, len(titles) + 1)
    return Windows(
        catalogue=Catalogue(("", *titles)),
        user_W=items,
        history=Ragged.of([[1]] * len(items)),
        target_W=items,
        timestamp_W=items,
    )


def said(titles, loss="msl_ats", backbone="smollm2-135m", **options):
    full = BIGREC.complete(config(loss_options=options), loss=loss, decoder="beam")
    return list(BIGREC.foresee(full, catalogue(titles), loss=loss, backbone=backbone))


# Hat and Cup end alike: 2 choices at the first of few tokens, and one at the others
FEW, MANY = ("Hat", "Cup"), tuple(f"{letter}{end}" for letter in "abcdefghijklmno" for end in "xyz")


def test_a_catalogue_without_choices_is_said_beforehand():
    (line,) = said(FEW)
    assert "is at most 1" in line and "upper bound, 5" in line and "eta above" in line
    assert said(FEW, eta=0.99) == []
    assert said(MANY, eta=0.9) == []


def test_a_loss_that_would_be_refused_is_said_beforehand():
    (line,) = said(("Hat one", "Hat two"), form="released")
    assert line.startswith("it will fail: ") and "corrected" in line


@pytest.mark.parametrize("more", [{"loss": "lml"}, {"backbone": "owner/model-1B"}])
def test_nothing_is_said_of_what_is_not_known(more):
    assert said(FEW, **more) == []
