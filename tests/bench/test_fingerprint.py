"""What a method's key and its start-up time are made from: its source, read and never imported."""

import hashlib
import subprocess
import sys

import pytest

from bench.errors import ConfigError
from bench.execution.local import HEAVY
from bench.method import Method
from bench.registry import _unload, load_plugin, methods
from bench.results.identity import declared
from bench.results.model_files import model_content
from bench.results.source_hash import code_of, libraries, normal_form

SOURCE = """
import numpy as np

@mark("x")
def f(a, *rest, b: int = 1, **more) -> str | None:
    \'\'\'A docstring.\'\'\'
    # a comment
    width = 3
    match a:
        case None:
            return None
        case [1, *_]:
            return f"{a!r:>{width}}" "tail" f"{{braces}} {b=}"
    return f"{a:{width}}é" + "" + f"plain" + str([*rest, {**more, "k": ...}])
"""
GOLDEN = "50604307be951504"


def test_the_hash_is_the_same_under_every_python():
    assert hashlib.sha256(normal_form(SOURCE).encode()).hexdigest()[:16] == GOLDEN


def test_explaining_moves_no_hash_and_changing_does():
    explained = SOURCE.replace("A docstring", "Another").replace("# a comment", "# more of it")
    assert normal_form(explained) == normal_form(SOURCE)
    for old, new in (("b: int = 1", "b: int = 2"), (">{width}", "<{width}"), ("None:", "True:")):
        assert normal_form(SOURCE.replace(old, new)) != normal_form(SOURCE)


def test_a_tuning_declares_what_it_tunes():
    asked = {"method": "sasrec", "loss": "ce", "decoder": None}
    assert code_of("tune", config=asked) != code_of("tune", config={"method": "dros"})
    assert {"tuned method", "method"} <= set(declared("tune", config=asked).versions)
    assert libraries("tune", config=asked) >= libraries("sasrec", loss="ce")


def test_a_model_on_this_machine_counts_with_its_content(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    plain = declared("bigrec", backbone=str(folder))
    assert plain.contents == {}, "a folder without a model is only a name"
    (folder / "config.json").write_text("{}")
    weights = folder / "model.safetensors"
    found = set()
    for end in (b"a", b"b"):
        for size in (10, 5 << 20):
            weights.write_bytes(b"0" * size + end)
            model_content.cache_clear()
            found.add(declared("bigrec", backbone=str(folder)).contents["backbone"])
            tuned = declared("tune", config={"method": "bigrec", "backbone": str(folder)})
            assert tuned.contents.keys() == {"backbone"}
    assert len(found) == 4


@pytest.mark.parametrize("name", [n for n in methods.index if methods.index[n].path is not None])
def test_floors_need_no_heavy_library(name):
    method: type[Method] = methods.get(name)
    heavy = HEAVY.keys() & libraries(name)
    if method.family == "floor":
        assert not heavy
    elif name != "tune":
        assert "torch" in heavy


def test_libraries_are_read_and_not_imported():
    code = (
        "import sys; from bench.results.source_hash import libraries;"
        "assert {'torch', 'recbole'} <= libraries('sasrec', loss='ce');"
        "assert not {'torch', 'recbole', 'baselines'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_data_file_that_a_plugin_declares_counts_by_content(tmp_path):
    plugin, data = tmp_path / "reads_a_file.py", tmp_path / "words.txt"
    plugin.write_text(
        "from bench.method import Method\nfrom bench.registry import methods\n\n\n"
        '@methods.register("reads_a_file")\nclass Reads(Method):\n    """Reads."""\n\n'
        '    family, version, files = "floor", 1, ("words.txt",)\n\n'
        "    def fit(self, train, valid, run):\n        pass\n\n"
        "    def recommend(self, queries, k):\n        pass\n"
    )
    data.write_text("one")
    try:
        load_plugin(plugin)
        first = declared("reads_a_file").contents
        assert set(first) == {"method files"}, "the class states a version, its file has none"
        data.write_text("two")
        assert declared("reads_a_file").contents != first
        data.write_text("one")
        assert declared("reads_a_file").contents == first
        data.unlink()
        with pytest.raises(ConfigError, match=r"declared file .*words.txt cannot be read"):
            declared("reads_a_file")
    finally:
        _unload("plugin_reads_a_file")
