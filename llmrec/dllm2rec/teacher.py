"""Teacher: what an LLM row of the suite would recommend for training rows, as files for a student.

For each row either the title it writes is compared with all titles by the distance of their embeddings
(``l2``, BIGRec's grounding, as in DLLM2Rec), or its constrained beam list is kept (``beam``). Files and
their meaning: ``_teacher_files``. Rows are appended as they are made; an interrupted export goes on.

Axes: T exported rows, K items, N items of the catalogue.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from bench import ranks
from bench.cell import Need, Run, Size, digest
from bench.config import Config
from bench.errors import ConfigError
from bench.method import Method
from bench.registry import methods
from bench.types import Catalogue, Exam, FloatArray, IntArray, Queries, Ranking, Windows
from llmrec.dllm2rec import _teacher_files as files
from llmrec.llm_cf import _jsonl
from llmrec.lm.names import BACKBONES

# SmolLM2-135M on two cores, and what a model without pretraining takes of that
SECONDS_PER_ROW, SECONDS_PER_NEW_TOKEN, SECONDS_PER_TITLE = 0.35, 0.02, 0.02
SCRATCH_SHARE = 0.03


class TeacherConfig(Config):
    """Which model teaches, how many rows, and how its ranking is made."""

    method: str = "bigrec"
    """Any method of family llm."""
    loss: str = "lml"
    """The loss it was tuned with; the paper's line-up has LML."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Config values of that method."""
    rank: Literal["l2", "beam"] = "l2"
    """Distance of the written title to all titles (paper), or the constrained beam list."""
    rows: PositiveInt | None = None
    """How many training rows are exported (a fixed random sample); null for all."""
    k: PositiveInt = 20
    """Items kept a row; a beam list has at most as many as beams."""
    beams: PositiveInt = 4
    """Beams of the free generation; 1 is greedy."""
    max_new_tokens: PositiveInt = 32
    """Longest written title in tokens (the authors: 128)."""
    temperature: PositiveFloat = 1.0
    """Of the softmax over beam scores whose negative logarithm is the distance."""
    chunk: PositiveInt = 32
    """Rows made between two appends to the file."""


@methods.register("teacher")
class TeacherStage(Method):
    """Exports rankings and title embeddings of a fitted LLM method."""

    family = "stage"
    Config = TeacherConfig
    config: TeacherConfig
    tags: ClassVar = frozenset({"text", "pretrained"})
    backbones = BACKBONES
    toy: ClassVar = {
        "backbone": "tiny",
        "rows": 12,
        "k": 8,
        "beams": 1,
        "max_new_tokens": 6,
        "options": {"epochs": 1, "scratch_lr": 3e-3, "valid_rows": 8},
    }

    @classmethod
    def spreads(cls, config: Any, *, loss: str | None) -> bool:
        """As the teacher's own decoding."""
        return True

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The fitted teacher."""
        if methods.get(config.method).family != "llm":
            raise ConfigError(f"teacher method is {config.method!r}; it must be of family llm")
        options = dict(config.options)
        need = Need(method=config.method, loss=config.loss, backbone=backbone, config=options)
        return {"teacher": need}

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Let the teacher answer each chosen row, and compute the nearest items or the distances.

        Raises:
            ContractError: an embedding is not finite.
        """
        started = time.perf_counter()
        row_T = self._rows(train, run)
        speaker: Any = run.load("teacher")
        meta = self._meta(train, row_T, speaker, run.inputs["teacher"])
        self._k = int(meta["k"])
        path = run.folder / f"gen-{digest(meta)[:16]}.jsonl"
        point_ND = self._points(speaker, train.catalogue)
        run.facts["seconds_titles"] = round(time.perf_counter() - started, 1)
        done = ranks.agreed({line["row"] for line in _jsonl.read(path)})
        todo = np.array([row for row in row_T if int(row) not in done], np.int64)
        before = time.perf_counter()
        self._speak(speaker, train, todo, path, run)
        run.facts["seconds_rows"] = round(time.perf_counter() - before, 1)
        ranks.wait()  # the first rank has written the last lines
        line_T = {line["row"]: line for line in _jsonl.read(path)}
        self.lines = [line_T[int(row)] for row in row_T]
        rank = self._nearest if self.config.rank == "l2" else self._listed
        item_TK, distance_TK, target_T = rank(speaker, train, row_T, point_ND)
        self.teacher = files.Teacher(row_T, item_TK, distance_TK, target_T, point_ND, meta)
        run.facts.update(self._facts(train, len(todo), time.perf_counter() - started))

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Not defined: a stage makes no lists."""
        raise NotImplementedError("the teacher stage makes artefacts for dllm2rec; it never ranks")

    def save(self, folder: Path) -> None:
        """Write the artefacts."""
        keys = ("row", "text", "logp")
        files.write(folder, self.teacher, ({k: line[k] for k in keys} for line in self.lines))

    def _rows(self, train: Windows, run: Run) -> IntArray:
        """Training rows to export, ascending.

        The draw is not the one that chooses the LLM's own training rows: on those its first item often is
        the label it was taught.
        """
        if self.config.rows is None or self.config.rows >= len(train):
            return np.arange(len(train))
        chance = np.random.default_rng(run.seed_for("teacher rows"))
        return np.sort(chance.choice(len(train), self.config.rows, replace=False))

    def _meta(self, train: Windows, row_T: IntArray, speaker: Any, folder: Path) -> dict[str, Any]:
        """All that decides the artefacts."""
        return {
            **{key: value for key, value in self.config.as_dict().items() if key != "chunk"},
            "k": min(self.config.k, train.n_items, self._list_length(speaker)),
            "method": speaker.name,
            "loss": speaker.loss,
            "backbone": speaker.lm.name,
            "weights": files.files_hash(folder.glob("*.safetensors")),
            "encoder": "base weights, last token, last layer",
            "train": files.train_hash(train),
            "items": files.titles_hash(train.catalogue),
            "n_items": train.n_items,
            "n_train": len(train),
            "rows": len(row_T),
            "row_checksums": files.row_checksums(train, row_T),
        }

    def _list_length(self, speaker: Any) -> int:
        if self.config.rank == "l2":
            return self.config.k
        return int(speaker.config.decoder_options.get("beams", 10))

    def _points(self, speaker: Any, catalogue: Catalogue) -> Any:
        """Embedding of each title by the base weights, float32 [N + 1, D]; an untitled item is ``Item j``."""
        from llmrec.decode.title_embeddings import embed_texts
        from llmrec.dllm2rec._speaking import bare_tokens
        from llmrec.trie import for_titles

        titles = [title.strip().strip('"').strip() for title in catalogue.titles[1:]]
        texts = [title or f"Item {j}" for j, title in enumerate(titles, 1)]
        lm = speaker.lm
        trie = for_titles(catalogue.titles, lm.tokenizer)
        answers = [trie.answer[leaf][:-1].tolist() for leaf in trie.leaf_of_item_N[1:]]
        answers = [bare_tokens(lm.tokenizer, ids) for ids in answers]
        point_ID = embed_texts(lm, texts, instead=answers).cpu().numpy()
        return np.concatenate([np.zeros((1, point_ID.shape[1]), np.float32), point_ID])

    def _speak(self, speaker: Any, train: Windows, row_T: IntArray, path: Path, run: Run) -> None:
        """Append a line for each row; the method shares the rows of a chunk among the ranks."""
        from llmrec.dllm2rec._speaking import beamed, written

        c = self.config
        chunk = c.chunk * ranks.size()
        for done in range(0, len(row_T), chunk):
            rows = row_T[done : done + chunk]
            history = train.history.take(rows)
            queries = Queries(train.catalogue, train.user_W[rows], history, train.timestamp_W[rows])
            if c.rank == "l2":
                new = {"beams": c.beams, "max_new_tokens": c.max_new_tokens}
                lines = list(written(speaker, queries, **new))
            else:
                lines = list(beamed(speaker, queries, self._k))
            if ranks.rank() == 0:
                _jsonl.append(
                    path, ({"row": int(r), **x} for r, x in zip(rows, lines, strict=True))
                )
            run.progress(done + len(rows), len(row_T), tokens=sum(x["tokens"] for x in lines))

    def _nearest(
        self, speaker: Any, train: Windows, row_T: IntArray, point_ND: Any
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """The items nearest to each text; ties go to the more frequent item, then to the smaller id."""
        import torch

        from llmrec.decode.title_embeddings import distances, embed_texts

        item_TK, distance_TK, target_T = blank(len(row_T), self._k)
        texts = [line["text"] for line in self.lines]
        said = [at for at, text in enumerate(texts) if text]
        if not said:
            return item_TK, distance_TK, target_T
        ids = [self.lines[at]["ids"] for at in said]
        said_SD = embed_texts(speaker.lm, [texts[at] for at in said], instead=ids)
        point_ID = torch.from_numpy(point_ND[1:]).to(said_SD.device)
        rare_I = -train.target_count[1:]
        for at, distance_I in zip(said, distances(said_SD, point_ID), strict=True):
            order = np.lexsort((rare_I, distance_I))[: self._k]
            item_TK[at], distance_TK[at] = order + 1, distance_I[order]
            target_T[at] = distance_I[train.target_W[row_T[at]] - 1]
        return item_TK, distance_TK, target_T

    def _listed(
        self, speaker: Any, train: Windows, row_T: IntArray, point_ND: Any
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """The beam lists, with -log softmax(score / temperature) as distance."""
        item_TK, distance_TK, target_T = blank(len(row_T), self._k)
        for at, line in enumerate(self.lines):
            n = len(line["items"])
            item_TK[at, :n] = line["items"]
            distance_TK[at, :n] = beam_distance(line["scores"], self.config.temperature)
        return item_TK, distance_TK, target_T

    def _facts(self, train: Windows, made: int, seconds: float) -> dict[str, Any]:
        size = Size(
            train_rows=made, test_rows=0, n_items=train.n_items, backbone=self.backbone
        )  # rows of an interrupted export cost nothing now
        predicted = self.estimate_seconds(self.config, size)
        return {
            "rows": len(self.lines),
            "rows_made_now": made,
            "rows_without_text": sum(not line["text"] for line in self.lines),
            "tokens": sum(line["tokens"] for line in self.lines),
            "seconds": round(seconds, 1),
            "predicted_seconds": round(predicted, 1),
        }

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds on two cores: a prompt and an answer a row, and all titles."""
        rows = min(config.rows or size.train_rows, size.train_rows)
        answer = 0.0  # a constrained list costs little more than its prompt
        if config.rank == "l2":
            answer = config.max_new_tokens * SECONDS_PER_NEW_TOKEN * config.beams
        work = rows * (SECONDS_PER_ROW + answer) + size.n_items * SECONDS_PER_TITLE
        return 10 + work * (SCRATCH_SHARE if size.backbone == "scratch" else 1)


def blank(rows: int, k: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Rankings without entries: item 0 at an infinite distance, target unknown.

    Args:
        rows: T.
        k: K.
    """
    return (
        np.zeros((rows, k), np.int64),
        np.full((rows, k), np.inf, np.float32),
        np.full(rows, np.nan, np.float32),
    )


def beam_distance(score_K: Sequence[float], temperature: float) -> FloatArray:
    """Distances of a beam list, such that exp(-d) is a probability over it: -log softmax(score /
    temperature).

    Args:
        score_K: scores of the list.
        temperature: above 0.
    """
    scaled_K = np.asarray(score_K, np.float64) / temperature
    return np.logaddexp.reduce(scaled_K) - scaled_K if len(scaled_K) else scaled_K
