"""The notebooks of the documentation run from top to bottom."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient and ipykernel")
pytest.importorskip("ipykernel", reason="notebooks need ipykernel")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs/notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["first_run", "own_method"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_it_runs_and_shows_something(path, tmp_path):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), (
        "commit notebooks without outputs"
    )
    runner = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    runner.execute()
    shown = [
        out
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if out.output_type != "stream"
    ]
    assert any("ndcg@10" in str(out.get("data", {}).get("text/plain", "")) for out in shown)
    assert not any(out.output_type == "error" for out in shown)
