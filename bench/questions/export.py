"""A cell for other tools: its lists as a TREC run, its language model as a folder of peft or transformers."""

from __future__ import annotations

from pathlib import Path

from bench.data.formats.trec import write_qrels, write_run
from bench.data.whole import written_whole
from bench.errors import ArtefactError
from bench.questions.exam import Answered
from bench.questions.find import Found
from bench.results.store import Store
from bench.saved import restore
from bench.types import Ranking


def export_trec(found: Answered, cell_name: str, folder: Path) -> list[Path]:
    """Write ``run.trec`` and ``test.qrels`` for trec_eval, ranx or ir-measures; items by their own ids.

    Args:
        found: a cell's exam with its lists.
        cell_name: becomes the tag of the run.
        folder: made; must not exist.

    Raises:
        ConfigError: the lists go on by chance.
    """
    scores = found.score_QK
    ranking = Ranking(found.item_QK, None if scores is None else scores.astype(float))
    with written_whole(folder) as part:
        write_run(ranking, found.exam, part / "run.trec", tag="".join(cell_name.split()))
        write_qrels(found.exam, part / "test.qrels")
    return [folder / "run.trec", folder / "test.qrels"]


def export_model(found: Found, store: Store, folder: Path, *, form: str) -> list[Path]:
    """Write a cell's language model as ``peft`` (its adapters alone) or ``hf`` (whole, adapters merged).

    Args:
        found: a row of a method with a language model.
        store: where its model is.
        folder: made; must not exist.
        form: ``peft`` or ``hf``.

    Raises:
        ArtefactError: the model is not on this machine.
        ConfigError: the method has no language model, or this one has no adapters.
    """
    cell = found.cell
    model = store.artefact(cell)
    if model is None:
        raise ArtefactError(
            f"the model of {cell.name} is not in {store.root}; `bench why {cell.name}`"
        )
    method = restore(model, device="cpu")
    with written_whole(folder) as part:
        method.export(part, form=form)
    return sorted(path for path in folder.rglob("*") if path.is_file())
