"""Which files a method rests on: those of the house, and a stranger's own."""

import pytest

from bench.registry import HOUSE, load_plugin
from bench.results import source_hash
from bench.results.identity import declared
from bench.results.source_files import closure
from bench.results.source_hash import code_of, libraries

METHOD = '''
"""A stranger's method."""
import numpy, torch_like
from bench.method import Method
from bench.registry import methods
{imports}

@methods.register("stranger")
class Stranger(Method):
    """Nothing."""
    family = "floor"
    def fit(self, train, valid, run):
        import late
    def recommend(self, queries, k):
        pass
'''


def _fill(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _names(start, folder):
    return {path.relative_to(folder).as_posix() for path in closure(start)}


def test_a_plugin_rests_on_what_lies_beside_it(tmp_path):
    files = {
        "plug.py": "import helper, numpy, bench.cell\nfrom lib.deep import thing\nimport llmrec.trie",
        "helper.py": "import further",
        "further.py": "import helper",
        "lib/deep.py": "",
        "unused.py": "",
    }
    _fill(tmp_path, files)
    found = closure(tmp_path / "plug.py")
    own = {path.relative_to(tmp_path).as_posix() for path in found if tmp_path in path.parents}
    assert own == {"plug.py", "helper.py", "further.py", "lib/deep.py"}
    assert HOUSE / "llmrec/trie.py" in found
    assert HOUSE / "bench/cell.py" not in found


def test_a_package_rests_on_its_own_files_and_on_no_neighbour(tmp_path):
    home = tmp_path / "site-packages"
    files = {
        "mine/__init__.py": "",
        "mine/methods/__init__.py": "from .shared import x",
        "mine/methods/one.py": "from . import two\nfrom ..tools import f\nimport mine.deep.er, numpy",
        "mine/methods/two.py": "",
        "mine/methods/shared.py": "",
        "mine/tools.py": "",
        "mine/deep/__init__.py": "",
        "mine/deep/er.py": "",
        "numpy/__init__.py": "",
        "lonely.py": "import numpy",
    }
    _fill(home, files)
    assert _names(home / "lonely.py", home) == {"lonely.py"}
    assert _names(home / "mine/methods/one.py", home) == {
        "mine/__init__.py",
        "mine/methods/one.py",
        "mine/methods/two.py",
        "mine/tools.py",
        "mine/deep/__init__.py",
        "mine/deep/er.py",
        "mine/methods/__init__.py",
        "mine/methods/shared.py",
    }


@pytest.mark.parametrize("moved", ["helper.py", "late.py"])
def test_the_key_moves_with_a_helper(tmp_path, moved, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "helper.py": "import torch_too\nSHIFT = 1",
        "late.py": "SHIFT = 1",
        "torch_like.py": "",
        "torch_too.py": "",
        "stranger.py": METHOD.format(imports="import helper"),
    }
    _fill(tmp_path, files)
    load_plugin(tmp_path / "stranger.py")
    before = code_of("stranger"), declared("stranger").contents["method"]
    assert libraries("stranger") >= {"numpy", "torch_too"}
    (tmp_path / moved).write_text("SHIFT = 2")
    source_hash.forget()
    assert code_of("stranger") != before[0]
    assert declared("stranger").contents["method"] != before[1]
