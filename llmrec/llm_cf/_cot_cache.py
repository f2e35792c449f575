"""Rationales on disk: one append-only file for each set of entries, model and prompt.

The first line says what the file is for; each further line is one entry: ``cot_id, row, user, hist, item,
label, prompt_sha, texts, scores, text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.cell import digest
from bench.disk.digests import cache_folder
from bench.errors import ArtefactError
from bench.types import Windows
from llmrec.dllm2rec._teacher_files import files_hash
from llmrec.llm_cf import _jsonl
from llmrec.llm_cf._cot import Entries
from llmrec.lm.names import EMBEDDED
from llmrec.lm.smollm2 import GGUF_SHA256

COMMAND = "python -m bench run --methods llm_cf --datasets <this dataset>"
TOKENS_PER_PROMPT = 400  # titles only; what the message estimates with


class CoTCacheMissing(ArtefactError):
    """Rationales that were asked for from the cache and are not there."""


class Cache:
    """The file of one question set.

    Args:
        folder: where the files are; None for the cache of the suite.
        train_sha: hash of the training rows.
        identity: all else that decides a text: seed, prompt version, model and its weights, decoding,
            encoder.
    """

    def __init__(self, folder: Path | None, train_sha: str, identity: Mapping[str, Any]) -> None:
        root = folder or cache_folder() / "cot"
        self.identity = {"train": train_sha, **identity}
        self.path = root / train_sha[:12] / f"{digest(self.identity)[:16]}.jsonl"

    @classmethod
    def find(cls, folder: Path | None, train_sha: str, asked: Mapping[str, Any]) -> Cache:
        """The file whose header answers a question, whatever weights of the named model wrote it.

        Args:
            folder: as for the class.
            train_sha: as for the class.
            asked: the identity without ``weights``, so that no model has to be loaded to know them.

        Raises:
            ArtefactError: different weights under the model's name answered it.
        """
        empty = cls(folder, train_sha, {**asked, "weights": "any"})
        headers = [_header(_jsonl.read(path)) for path in sorted(empty.path.parent.glob("*.jsonl"))]
        found = [header for header in headers if header]
        wanted = {"train": train_sha, **asked}
        found = [f for f in found if {k: v for k, v in f.items() if k != "weights"} == wanted]
        if len(found) > 1:
            raise ArtefactError(
                f"{len(found)} files in {empty.path.parent} hold rationales by models called "
                f"{asked['model']!r} with different weights; move all but one away"
            )
        return cls(folder, train_sha, {**asked, "weights": found[0]["weights"]}) if found else empty

    def lines(self) -> dict[str, dict[str, Any]]:
        """What is there, by ``cot_id``; the last line of an entry counts.

        Raises:
            ArtefactError: the file was made for something else.
        """
        found = _jsonl.read(self.path)
        if found and _header(found) not in ({}, self.identity):
            raise ArtefactError(f"{self.path} was made for other questions; move it away")
        return {line["cot_id"]: line for line in found if "for" not in line}

    def add(self, lines: Iterable[Mapping[str, Any]], planned: int) -> None:
        """Append lines; the first append also writes the header.

        Args:
            lines: one for each entry.
            planned: entries of the whole set, for the header.
        """
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            if not _header(_jsonl.read(self.path)):
                _jsonl.append(self.path, [{"for": self.identity, "planned": planned}])
            _jsonl.append(self.path, lines)

    def require(self, entries: Entries, new_tokens: int, candidates: int) -> dict[str, Any]:
        """All lines of these entries.

        Args:
            entries: those wanted.
            new_tokens: longest text, for the message.
            candidates: texts per entry, for the message.

        Raises:
            CoTCacheMissing: some are not there; says where they were sought and how to get them.
        """
        lines = self.lines()
        there = sum(cot_id in lines for cot_id in entries.ids)
        if there == len(entries):
            return lines
        left = len(entries) - there
        read, write = left * TOKENS_PER_PROMPT * candidates, left * new_tokens * candidates
        raise CoTCacheMissing(
            f"{self.path} holds {there} of {len(entries)} rationales; write the rest with cot_source "
            f"'local' (`{COMMAND}`, about {read / 1e6:.1f} M tokens read and at most "
            f"{write / 1e6:.1f} M written), or ask for cot_source 'template' or 'none'"
        )


def _header(lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the lines of a file are for; empty where the line that says it is damaged or not there."""
    return next((line["for"] for line in lines if "for" in line), {})


def weights_of(lm: Any, seed: int) -> str:
    """A hash that distinguishes weights under one name, the same on every device and in every precision.

    Args:
        lm: a loaded backbone.
        seed: of random weights.
    """
    if lm.name == EMBEDDED:
        return GGUF_SHA256[:12]
    place = Path(lm.name)
    if place.exists():
        paths = place.glob("*.safetensors") if place.is_dir() else [place]
        return files_hash(paths)[:12]
    commit = getattr(lm.causal.config, "_commit_hash", None)  # of a hub's repository
    return commit[:12] if commit else f"seed {seed}"


def line_for(
    train: Windows,
    entries: Entries,
    at: int,
    prompt_sha: str,
    texts: list[str],
    scores: list[float],
) -> dict[str, Any]:
    """The cache's line for one entry; ``text`` is the best candidate, empty if none is usable.

    Args:
        train: training rows.
        entries: all entries.
        at: number of the entry.
        prompt_sha: hash of its prompt.
        texts: candidates.
        scores: worth of each candidate.
    """
    row = int(entries.row_M[at])
    best = max(range(len(texts)), key=lambda i: scores[i]) if texts else -1
    return {
        "cot_id": entries.ids[at],
        "row": row,
        "user": int(train.user_W[row]),
        "hist": train.history[row].tolist(),
        "item": int(entries.item_M[at]),
        "label": int(entries.label_M[at]),
        "prompt_sha": prompt_sha,
        "texts": texts,
        "scores": [round(score, 6) for score in scores],
        "text": texts[best] if texts and scores[best] > 0 else "",
    }
