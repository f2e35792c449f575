"""Configurations: what is refused and how it is said, fields that came later, and every registered one."""

import pickle
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from bench.config import Config, Empty, configure, later, options
from bench.errors import ConfigError
from bench.experiment.suite import read
from bench.method import Method
from bench.registry import decoders, load_plugin, losses, methods


class Inner(Config):
    age: NonNegativeInt = later(default=0)
    """Years."""


class Toy(Config):
    epochs: PositiveInt = 10
    """Passes over the rows."""
    lr: PositiveFloat = 1e-3
    """Step size."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share that is left out."""
    loss: Literal["ce", "bce"] = "ce"
    """What is minimised."""
    rows: PositiveInt | None = None
    """At most so many rows."""
    tau: PositiveFloat | Literal["train"] = 1.0
    """Temperature."""
    clamp: tuple[PositiveFloat, PositiveFloat] = (1.0, 2.0)
    """Low and high."""
    shuffle: bool = True
    """Whether rows change places."""
    more: Mapping[str, Any] = Field(default_factory=dict)
    """Anything else."""

    @model_validator(mode="after")
    def _rises(self) -> "Toy":
        if self.clamp[0] > self.clamp[1]:
            raise ConfigError("clamp falls")
        return self


REFUSED = [
    ({"epochs": 2.5}, "epochs is 2.5; allowed: a whole number, above 0; default 10"),
    ({"epochs": True}, "epochs is true; allowed: a whole number, above 0; default 10"),
    ({"epochs": None}, "epochs is null; allowed: a whole number, above 0; default 10"),
    ({"epochs": "3"}, "epochs is '3'; allowed: a whole number, above 0; default 10"),
    ({"epochs": 0}, "epochs is 0; allowed: a whole number, above 0; default 10"),
    ({"lr": float("nan")}, "lr is .nan; allowed: a number, above 0; default 0.001"),
    ({"lr": float("inf")}, "lr is .inf; allowed: a number, above 0; default 0.001"),
    ({"lr": "1e-4"}, "lr is '1e-4'; allowed: a number, above 0; default 0.001"),
    ({"dropout": 1}, "dropout is 1; allowed: a number, at least 0 and below 1; default 0.1"),
    ({"loss": "bpr"}, "loss is 'bpr'; allowed: one of ce, bce; default 'ce'"),
    ({"rows": 0}, "rows is 0; allowed: a whole number, above 0 or null; default null"),
    ({"tau": "hot"}, "tau is 'hot'; allowed: a number, above 0 or train; default 1.0"),
    ({"clamp": [1, -2]}, "clamp is [1, -2]; allowed: a list of 2, each a number, above 0; default"),
    ({"clamp": [3, 2]}, "toy: clamp falls"),
    ({"shuffle": 1}, "shuffle is 1; allowed: true or false; default true"),
    ({"more": 3}, "more is 3; allowed: a mapping; default {}"),
    ({"epoch": 3}, "there is no key 'epoch'. Did you mean epochs? Known: clamp, dropout"),
    ([1], "its configuration is [1]; it must be a mapping of keys to values"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(given, said):
    with pytest.raises(ConfigError) as fault:
        configure(Toy, given, owner="toy")
    assert said in str(fault.value)
    assert str(fault.value).startswith("toy: ")
    assert "\n" not in str(fault.value)


def test_all_faults_are_in_one_line():
    with pytest.raises(ConfigError, match=r"epochs is 0;.*; lr is -1;.*; there is no key 'x'"):
        configure(Toy, {"epochs": 0, "lr": -1, "x": 1}, owner="toy")


def test_whole_numbers_and_lists_are_taken_for_numbers_and_tuples():
    made = configure(Toy, {"lr": 1, "clamp": [1, 3], "tau": "train"}, owner="toy")
    assert (made.lr, made.clamp, made.tau) == (1.0, (1.0, 3.0), "train")
    assert isinstance(made.lr, float)
    assert made.as_dict()["clamp"] == [1.0, 3.0]


def test_replace_is_checked_and_leaves_the_original():
    made = Toy()
    assert made.replace(epochs=3).epochs == 3
    assert made.epochs == 10
    with pytest.raises(ConfigError, match="Toy: epochs is 0"):
        made.replace(epochs=0)


def test_a_configuration_can_be_a_key_and_a_pickle():
    assert {Inner(): 1}[Inner()] == 1
    assert pickle.loads(pickle.dumps(Inner(age=3))) == Inner(age=3)


class Younger(Config):
    width: PositiveInt = 4
    """Old field."""
    norm: Literal["pre", "post"] = later(default="post")
    """Where it normalises; results on record did the default."""
    gate: bool = later(default=True, absent=False)
    """A gate that results on record did not have."""
    inner: Inner = Inner()
    """More."""


def test_a_later_field_is_declared_only_where_it_differs_from_what_was_before():
    assert Younger(gate=False).declared() == {"width": 4, "inner": {}}
    assert Younger(gate=False).as_dict() == {
        "width": 4, "norm": "post", "gate": False, "inner": {"age": 0},
    }  # fmt: skip
    assert Younger(norm="pre").declared() == {
        "width": 4, "norm": "pre", "gate": True, "inner": {},
    }  # fmt: skip


def test_what_was_stored_before_a_field_existed_means_what_it_meant_then():
    old = {"width": 4}
    assert configure(Younger, old, owner="y", stored=True).gate is False
    assert configure(Younger, old, owner="y").gate is True
    for config in (Younger(), Younger(gate=False, norm="pre", inner=Inner(age=2))):
        assert configure(Younger, config.declared(), owner="y", stored=True) == config


def test_options_tell_type_default_range_and_sentence():
    by_key = {option.key: option for option in options(Toy)}
    assert by_key["dropout"][1:] == (
        "a number", 0.1, "at least 0 and below 1", "Share that is left out.",
    )  # fmt: skip
    assert by_key["loss"][1:4] == ("one of", "ce", "ce, bce")
    assert by_key["rows"][1:4] == ("a whole number or null", None, "above 0")


EVERY = [(registry, name) for registry in (methods, losses, decoders) for name in registry.names()]


@pytest.mark.parametrize(("registry", "name"), EVERY, ids=[name for _, name in EVERY])
def test_every_registered_configuration_speaks(registry, name):
    kind = registry.get(name).Config
    config = configure(kind, None, owner=name)
    assert configure(kind, config.as_dict(), owner=name) == config
    assert configure(kind, config.declared(), owner=name, stored=True) == config
    for option in options(kind):
        assert option.sentence.endswith((".", ")")), f"{name}.{option.key} has no sentence"
        assert option.type != "a value", f"{name}.{option.key} has a type without words"


def test_a_method_whose_config_is_something_else_is_refused_with_what_to_write(tmp_path):
    plugin = tmp_path / "old_style.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom bench.method import Method\n\n"
        "@dataclass\nclass Old:\n    width: int = 3\n\n"
        "class OldStyle(Method):\n    Config = Old\n"
    )
    with pytest.raises(
        ConfigError, match=r"OldStyle: its Config is Old, .*OldStyleConfig.Config.:"
    ):
        load_plugin(plugin)
    assert issubclass(Method.Config, Empty)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.5e3", 1500.0), (".5e1", 5.0), ("3", 3), ("1e", "1e")],
)
def test_numbers_in_a_suite_are_numbers(text, value, tmp_path):
    row = f"  - {{method: sasrec, config: {{learning_rate: {text}}}}}\n"
    path = tmp_path / "mine.yaml"
    path.write_text(f"title: t\ndatasets: [ml_100k]\nrows:\n{row}")
    assert read(str(path)).rows[0].config["learning_rate"] == value
