"""Names: found without importing, suggested when misspelt, brought by a plugin."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import registry
from bench.cli import main
from bench.errors import BenchError, UnknownName
from bench.registry import Registry, load_plugin, load_plugins, methods

PLUGIN = '''
"""A method of a stranger."""
import numpy as np
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

@methods.register("always_first")
class AlwaysFirst(Method):
    """Items 1, 2, 3 ... for everybody."""
    family = "floor"
    def fit(self, train, valid, run):
        pass
    def recommend(self, queries, k):
        return Ranking(np.tile(np.arange(1, k + 1), (len(queries), 1)))
'''


def test_a_typo_gets_a_near_match_and_the_known_names():
    with pytest.raises(UnknownName, match=r"no method is called 'popularty'. Did you mean pop"):
        methods.get("popularty")


def test_listing_imports_no_heavy_library():
    code = (
        "import sys; from bench.cli import main; main(['list']);"
        "assert not {'torch', 'transformers', 'recbole', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "popularity" in done.stdout


@pytest.mark.parametrize("written", ['family, toy = "floor", {}', 'family: str = "floor"'])
def test_a_family_is_listed_however_it_is_assigned(tmp_path, capsys, written):
    path = tmp_path / "beside.py"
    path.write_text(PLUGIN.replace('family = "floor"', written).replace("always_first", "beside"))
    assert main(["list", "methods", "--plugin", str(path)]) == 0
    assert "beside                  floor        Items 1, 2, 3" in capsys.readouterr().out


def test_listing_names_the_family_of_every_method_inherited_or_not(capsys):
    assert main(["list", "methods"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:] if line]
    assert {name: family for name, family, *_ in lines} == {
        n: methods.get(n).family for n in methods
    }


def test_two_owners_of_one_name_are_refused():
    registry = Registry("thing", "things", ())

    def one():
        pass

    def two():
        pass

    two.__module__ = "elsewhere"
    registry.register("x")(one)
    with pytest.raises(BenchError, match="already defined by"):
        registry.register("x")(two)


UNREADABLE = {
    "indented": "if True:\n    @things.register('x')\n    def x(): ...\n",
    "called": "def x(): ...\n\nthings.register('x')(x)\n",
    "computed": "NAME = 'x'\n@things.register(NAME)\ndef x(): ...\n",
    "by another path": "@registry.things.register('x')\ndef x(): ...\n",
}


def _house(folder, monkeypatch, **files):
    """A registry over a house of these files, in a room within a room."""
    room = folder / "rooms" / "inner"
    room.mkdir(parents=True)
    for name, text in files.items():
        (room / f"{name}.py").write_text(text)
    monkeypatch.setattr(registry, "HOUSE", folder)
    registry.look_again()
    return Registry("thing", "things", ("rooms",))


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_registration_that_the_index_cannot_read_is_named(text, tmp_path, monkeypatch):
    sound = '"""Written as ``@things.register("a")``."""\n@things.register("a")\ndef a(): ...\n'
    things = _house(tmp_path, monkeypatch, sound=sound, odd=f"import things\n\n{text}")
    line = 3 + [*("register" in line for line in text.splitlines())].index(True)
    with pytest.raises(BenchError, match=rf"inner/odd.py:{line} registers a thing unreadably; wri"):
        things.names()


def test_names_lie_in_subfolders_and_texts_may_mention_a_registration(tmp_path, monkeypatch):
    sound = (
        '"""Written as ``@things.register("a")``."""\n@things.register(\n    "b"\n)\ndef b(): ...\n'
    )
    things = _house(tmp_path, monkeypatch, sound=sound)
    assert things.names() == ["b"] and things.index["b"].module == "rooms.inner.sound"


def test_a_name_that_its_source_does_not_show_is_refused_at_import(tmp_path, monkeypatch):
    things = _house(tmp_path, monkeypatch, empty="")

    def hidden():
        pass

    hidden.__module__ = "rooms.inner.empty"
    with pytest.raises(BenchError, match=r"rooms.inner.empty registers the thing 'x', but reading"):
        things.register("x")(hidden)
    late = tmp_path / "rooms/inner/empty.py"
    late.write_text("@things.register('x')\ndef hidden(): ...\n")
    assert things.register("x")(hidden) is hidden  # a file that was written meanwhile is read


def test_all_registries_read_each_file_once(monkeypatch):
    registry.look_again()
    read = []
    text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: read.append(path) or text(path, **how)
    )
    for known in (methods, registry.losses, registry.decoders, registry.datasets):
        assert known.names()
    assert len(read) == len(set(read)) > 100


def test_a_plugin_brings_a_method_that_passes_the_contract(tmp_path):
    path = tmp_path / "always_first.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    assert "always_first" in methods
    from bench.conformance import examine

    findings = list(examine("always_first"))
    assert all(finding.ok for finding in findings), findings
    assert len(findings) >= 6


def test_a_plugin_cannot_replace_what_the_house_defines(tmp_path):
    path = tmp_path / "usurper.py"
    path.write_text(PLUGIN.replace("always_first", "item_knn"))
    with pytest.raises(BenchError, match="'item_knn' of plugin_usurper is already defined by base"):
        load_plugin(path)
    assert methods.get("item_knn").__module__ == "baselines.item_knn"


def test_a_missing_plugin_is_one_line():
    with pytest.raises(BenchError, match="no such file"):
        load_plugin("nowhere.py")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("plug.txt", "x = 1", "plug.txt: not a Python file; its name must end in .py"),
        ("boom.py", "raise ValueError('boo')", r"boom.py cannot be imported \(ValueError: boo\)"),
        ("half.py", "def f(:", r"half.py cannot be imported \(SyntaxError"),
        ("goes.py", "raise SystemExit(2)", r"goes.py cannot be imported \(SystemExit: 2\)"),
        ("lacks.py", "import nothing_like_it", "No module named 'nothing_like_it'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line_and_leaves_nothing(
    name, text, said, tmp_path
):
    path = tmp_path / name
    path.write_text(PLUGIN.replace("always_first", "never_there") + text)
    with pytest.raises(BenchError, match=said):
        load_plugin(path)
    assert "never_there" not in methods
    assert f"plugin_{path.stem}" not in sys.modules


def test_a_plugin_that_changed_is_read_again_and_its_names_go_with_it(tmp_path):
    path = tmp_path / "working.py"
    path.write_text(PLUGIN.replace("always_first", "working_one"))
    load_plugin(path)
    first = methods.get("working_one")
    load_plugin(path)
    assert methods.get("working_one") is first
    path.write_text(PLUGIN.replace("always_first", "working_two"))
    load_plugin(path)
    assert ("working_one" in methods, "working_two" in methods) == (False, True)
    moved = tmp_path / "elsewhere" / "working.py"
    moved.parent.mkdir()
    moved.write_text(path.read_text())
    load_plugin(moved)
    assert methods.path("working_two") == moved
    with pytest.raises(BenchError, match=r"working.py has the same name; rename one of them"):
        load_plugins([path, moved])
