"""What the documentation shows must run."""

import re
from pathlib import Path

from bench.conformance import examine
from bench.registry import load_plugin

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_the_method_of_the_tutorial_passes_the_contract(tmp_path):
    code = re.search(r"```python\n(.*?)```", (DOCS / "own-method.md").read_text(), re.DOTALL)
    path = tmp_path / "last_item.py"
    path.write_text(code.group(1))
    load_plugin(path)
    findings = list(examine("last_item"))
    assert [f for f in findings if not f.ok] == []
    assert len(findings) == 10
