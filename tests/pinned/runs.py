"""The tiny runs: every method, loss and decoder, fitted on the toy data of the conformance tests."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Run
from bench.conformance import toy_data
from bench.disk.sealed import read_note, write_note
from bench.evaluation.metrics import evaluate
from bench.method import Method, configure, keep, restore
from bench.registry import methods
from bench.results.identity import declared
from bench.types import Exam, Ranking
from tests.pinned.variants import losses_of

RESULTS = Path(__file__).parent / "results"
SEED, LENGTH = 7, 10
# a few steps on a few rows show a moved result as well as whole trainings do
SHORT = {"epochs": 3}
LLM_ROWS, LLM_SHORT, LLM_QUERIES = 64, {"epochs": 1}, 6


def names() -> list[str]:
    """The methods of the suite that rank."""
    house = [name for name, origin in methods.index.items() if origin.path is not None]
    return [name for name in sorted(house) if methods.get(name).family != "stage"]


def results_of(name: str) -> dict[str, dict[str, Any]]:
    """By variant (``bigrec+msl/beam``): versions, lists, scores and metrics of a tiny run."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for loss, by_decoder in losses_of(name).items():
            place = Path(folder) / (loss or "plain")
            keep(_fitted(name, loss, by_decoder[0], place), place / "kept")
            for decoder in by_decoder:
                label = "".join(
                    [name, f"+{loss}" if loss else "", f"/{decoder}" if decoder else ""]
                )
                found[label] = _record(_reread(place / "kept", decoder), loss)
    return found


def _fitted(
    name: str,
    loss: str | None,
    decoder: str | None,
    place: Path,
    given: Mapping[str, Any] | None = None,
) -> Method:
    """A method fitted on the toy data; what it needs is fitted once and kept beside ``place``."""
    kind: type[Method] = methods.get(name)
    toy = {k: v for k, v in SHORT.items() if k in kind.Config.model_fields} | dict(kind.toy)
    toy |= LLM_SHORT if kind.decodes else {}
    backbone = toy.pop("backbone", None)
    config = kind.complete(configure(kind, {**(given or {}), **toy}), loss=loss, decoder=decoder)
    method = kind(config, loss=loss, decoder=decoder, backbone=backbone)
    inputs = {}
    for role, need in method.needs(config, loss=loss, backbone=backbone).items():
        other = methods.get(need.method)
        usual = next(iter(losses_of(need.method)), None)
        given_to = hashlib.sha256(repr(need).encode()).hexdigest()[:8]
        beside = place.parent / f"{need.method}-{given_to}"
        inputs[role] = beside / "kept"
        if inputs[role].exists():
            continue
        made = _fitted(
            need.method,
            need.loss or usual,
            "beam" if other.decodes else None,
            beside,
            need.config,
        )
        keep(made, inputs[role])
    scratch = place / "scratch"
    scratch.mkdir(parents=True)
    data = toy_data()
    # through the protocol's own sampling, so that another draw of rows is seen as well
    run = Run(seed=SEED, device="cpu", folder=scratch, inputs=inputs)
    rows = LLM_ROWS if kind.decodes else len(data.train) - 10
    method.fit(data.train.sample(rows), data.valid, run)
    return method


def _reread(folder: Path, decoder: str | None) -> Method:
    """The kept method, read out by a decoder."""
    path = folder / "method.json"
    manifest = read_note(path)
    if decoder != manifest["decoder"]:
        manifest["decoder"], manifest["config"]["decoder_options"] = decoder, {}
        write_note(path, manifest)
    return restore(folder, device="cpu")


def _record(method: Method, loss: str | None) -> dict[str, Any]:
    exam = toy_data().valid
    if method.decodes:
        exam = exam.take(np.arange(LLM_QUERIES))
    ranking = method.recommend(exam.queries, LENGTH)
    identity = declared(method.name, loss=loss, decoder=method.decoder)
    item_QK = np.where(_listed(ranking), ranking.item_QK, 0)
    scores = [] if ranking.score_QK is None else _rounded(ranking.score_QK, item_QK)
    return {
        "versions": dict(identity.versions),
        "items": item_QK.tolist(),
        "scores": scores,
        "metrics": _metrics(method, ranking, exam),
    }


def _listed(ranking: Ranking) -> np.ndarray:
    """Entries that do not come by chance."""
    item_QK = np.asarray(ranking.item_QK)
    if ranking.tail is None:
        return item_QK > 0
    return (np.arange(item_QK.shape[1]) < ranking.tail.start_Q[:, None]) & (item_QK > 0)


def _rounded(score_QK: Any, item_QK: np.ndarray) -> list[list[float]]:
    kept = np.where(item_QK > 0, np.asarray(score_QK, np.float64), 0.0)
    return [[float(f"{value:.6g}") for value in row] for row in kept]


def _metrics(method: Method, ranking: Ranking, exam: Exam) -> dict[str, float]:
    count_N = toy_data().train.target_count
    found = evaluate(ranking, exam, train_count=count_N, names=method.identity)
    return {name: round(value, 9) for name, value in sorted(found.items())}


def write(which: list[str]) -> Iterator[str]:
    """Write the results of these methods anew; yields the name of each as it is done."""
    for name in which:
        text = json.dumps(results_of(name), separators=(",", ":"), sort_keys=True)
        RESULTS.mkdir(exist_ok=True)
        # one variant a line: a changed version shows as changed lines
        lines = ",\n".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in json.loads(text).items())
        (RESULTS / f"{name}.json").write_text(f"{{\n{lines}\n}}\n")
        yield name
