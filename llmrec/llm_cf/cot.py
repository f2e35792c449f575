"""CoT: the rationales that LLM-CF reads, as files. Why a user chose an item, or did not, in plain words.

Sources: ``local`` (this cell's backbone writes what the cache lacks), ``cache`` (only what is there),
``template`` (fixed sentences filled with titles) and ``none`` (no text at all). None stands in for another.

Axes: M entries, N items, D width of text vectors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from bench import ranks
from bench.cell import Run, Size, digest
from bench.config import Config
from bench.errors import ContractError, Unavailable
from bench.method import Method
from bench.registry import methods
from bench.types import Exam, Queries, Ranking, Windows
from llmrec.dllm2rec._teacher_files import titles_hash, train_hash
from llmrec.llm_cf import _cot
from llmrec.lm.names import BACKBONES, EMBEDDED, SCRATCH

Share = Annotated[float, Field(gt=0, le=1)]
SECONDS_PER_NEW_TOKEN, SECONDS_PER_PROMPT, SECONDS_PER_TEXT = 0.012, 0.4, 0.012


class CoTConfig(Config):
    """Which rows are explained, by whom and how."""

    source: Literal["local", "cache", "template", "none"] = "local"
    """Where the texts come from."""
    sample: Share = 0.1
    """Share of the training rows that is explained, each once as chosen and once as not."""
    rows: PositiveInt | None = None
    """At most this many rows; null for no limit."""
    negatives: Literal["random", "popularity"] = "random"
    """How the item that was not chosen is drawn."""
    candidates: PositiveInt = 1
    """Texts written for each entry: one is written greedily, of several that are sampled the best is kept."""
    new_tokens: PositiveInt = 160
    """Longest text in tokens."""
    batch: PositiveInt = 8
    """Prompts written at a time."""
    text_encoder: str = "minilm"
    """Encoder of texts and titles: minilm, backbone, hash or a folder (the authors: bge-base)."""
    cache_folder: str = ""
    """Where texts are cached; empty for the suite's cache."""


@methods.register("cot")
class CoTStage(Method):
    """Makes the chain-of-thought data set."""

    family = "stage"
    Config = CoTConfig
    config: CoTConfig
    tags: ClassVar = frozenset({"text", "pretrained"})
    backbones = BACKBONES
    toy: ClassVar = {"backbone": "tiny", "source": "template", "text_encoder": "hash"}

    @classmethod
    def spreads(cls, config: Any, *, loss: str | None) -> bool:
        """Whether a language model writes."""
        return bool(config.source == "local")

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Draw the entries, get their texts and embed texts and titles.

        Raises:
            CoTCacheMissing: the source is ``cache`` and texts are missing.
            Unavailable: the text encoder or the model is not on this machine.
        """
        from llmrec.lm.text_encoder import encode_text, load_encoder

        started, c = time.perf_counter(), self.config
        entries = _cot.sample_entries(
            train, share=c.sample, most=c.rows, negatives=c.negatives, seed=run.seed_for("cot")
        )
        run.facts.update({"entries": len(entries), "cot_source": c.source})
        lm = self._lm(run) if c.source == "local" or c.text_encoder == "backbone" else None
        encoder = load_encoder(c.text_encoder, device=run.device, lm=lm)

        def embed(texts: Sequence[str]) -> Any:
            return encode_text(texts, encoder=encoder, normalised=True)

        texts = self._texts(train, entries, lm, embed, run)
        kept = [at for at, text in enumerate(texts) if text or c.source == "none"]
        if not kept:
            raise ContractError(
                f"none of the {len(entries)} rationales is usable; try another model"
            )
        self.entries, self.texts = entries.take(kept), [texts[at] for at in kept]
        self.text_MD = embed(self.texts) if c.source != "none" else np.zeros((len(kept), 0), "f4")
        self.item_ND = embed(train.catalogue.titles)
        self.meta = {
            "source": c.source,
            "model": self._model if c.source in {"local", "cache"} else None,
            "encoder": encoder.identity,
            "train": train_hash(train),
            "items": titles_hash(train.catalogue),
            "entries": len(kept),
        }
        run.facts.update(self._facts(train, len(entries), run))
        run.facts["seconds"] = round(time.perf_counter() - started, 1)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Not defined: a stage makes no lists."""
        raise NotImplementedError("the cot stage makes texts for llm_cf; it never ranks")

    def save(self, folder: Path) -> None:
        """Write entries, vectors and what they were made from."""
        columns = zip(
            self.entries.ids,
            self.entries.row_M.tolist(),
            self.entries.item_M.tolist(),
            self.entries.label_M.tolist(),
            self.texts,
            strict=True,
        )
        keys = ("cot_id", "row", "item", "label", "text")
        lines = (json.dumps(dict(zip(keys, c, strict=True)), ensure_ascii=False) for c in columns)
        (folder / "entries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        np.save(folder / "cot_emb.npy", self.text_MD)
        np.save(folder / "item_emb.npy", self.item_ND)
        (folder / "meta.json").write_text(json.dumps(self.meta, indent=1), encoding="utf-8")

    @property
    def _model(self) -> str:

        return self.backbone or EMBEDDED

    def _lm(self, run: Run) -> Any:
        from llmrec.lm.backbone import load

        if self._model == SCRATCH:
            raise Unavailable(
                "rationales need a pretrained model, and 'scratch' has random weights; choose another "
                "backbone, or cot_source 'template' or 'none' with text_encoder 'minilm'"
            )
        return load(self._model, device=run.device, seed=run.seed_for("weights"))

    def _texts(
        self, train: Windows, entries: _cot.Entries, lm: Any, embed: Any, run: Run
    ) -> list[str]:
        """A text for each entry, empty where none is usable."""
        if self.config.source == "none":
            return [""] * len(entries)
        if self.config.source == "template":
            columns = zip(entries.row_M, entries.item_M, entries.label_M, strict=True)
            return [_cot.template(train, int(r), int(i), int(label)) for r, i, label in columns]
        rule = self._rule()
        cache = self._cache(train, lm, rule, run)
        if self.config.source == "local":
            self._write(train, entries, (lm, cache, embed), run)
        lines = cache.require(entries, rule.new_tokens, rule.candidates)
        return [lines[cot_id]["text"] for cot_id in entries.ids]

    def _rule(self) -> Any:
        from llmrec.llm_cf._cot_writer import Writing

        c = self.config
        return Writing(candidates=c.candidates, new_tokens=c.new_tokens, batch=c.batch)

    def _cache(self, train: Windows, lm: Any, rule: Any, run: Run) -> Any:
        from llmrec.llm_cf._cot_cache import Cache, weights_of

        asked = {
            "seed": run.seed_for("cot"),
            "negatives": self.config.negatives,
            "prompt": _cot.PROMPT_VERSION,
            "model": self._model,
            "decoding": {k: v for k, v in vars(rule).items() if k != "batch"},
            "scored_by": self.config.text_encoder,
        }
        folder = Path(self.config.cache_folder) if self.config.cache_folder else None
        if self.config.source == "cache":
            return Cache.find(folder, train_hash(train), asked)
        weights = weights_of(lm, run.seed_for("weights"))
        return Cache(folder, train_hash(train), {**asked, "weights": weights})

    def _write(
        self, train: Windows, entries: _cot.Entries, tools: tuple[Any, Any, Any], run: Run
    ) -> None:
        """Let the model write what the cache lacks; each batch is kept at once."""
        from llmrec.llm_cf._cot_writer import Writer

        (lm, cache, embed), rule = tools, self._rule()
        writer, there = Writer(lm, rule), ranks.agreed(cache.lines())
        todo = [at for at, cot_id in enumerate(entries.ids) if cot_id not in there]
        asked = {at: writer.prompt(train, entries, at) for at in todo}
        order = sorted(todo, key=lambda at: (len(asked[at][1]), at))
        # a batch stays whole on one rank, as what is sampled depends on who is in it
        for start in ranks.mine(range(0, len(order), rule.batch)):
            batch = order[start : start + rule.batch]
            lines = self._batch(train, entries, batch, asked, (writer, embed, run))
            cache.add(lines, planned=len(entries))
            run.progress(start + len(batch), len(order), tokens=writer.read + writer.written)
        # every rank has written its batches when all have said how much that was
        read, written = zip(*ranks.everyones((writer.read, writer.written)), strict=True)
        run.facts.update({"written_now": len(todo), "tokens_read": sum(read)})
        run.facts["tokens_written"] = sum(written)

    def _batch(
        self,
        train: Windows,
        entries: _cot.Entries,
        batch: list[int],
        asked: dict[int, tuple[str, list[int]]],
        tools: tuple[Any, Callable[..., Any], Run],
    ) -> list[dict[str, Any]]:
        """Write and score a batch; entries whose texts are all useless get one more try, sampled."""
        from llmrec.llm_cf._cot_cache import line_for

        writer, embed, run = tools
        found: dict[int, tuple[list[str], list[float]]] = {}
        for attempt in (0, 1):
            left = [at for at in batch if at not in found or not max(found[at][1])]
            if not left:
                break
            seed = run.seed_for(f"cot {digest([entries.ids[at] for at in left])} {attempt}")
            prompts = [asked[at][1] for at in left]
            for at, texts in zip(
                left, writer.write(prompts, seed=seed, sample=attempt > 0), strict=True
            ):
                said = _cot.outcome(
                    train.catalogue, int(entries.item_M[at]), int(entries.label_M[at])
                )
                n = len(texts)
                score = _cot.worth(texts, [asked[at][0]] * n, [said] * n, embed)
                found[at] = texts, score.tolist()
        return [
            line_for(train, entries, at, _cot.prompt_hash(asked[at][0]), *found[at]) for at in batch
        ]

    def _facts(self, train: Windows, drawn: int, run: Run) -> dict[str, Any]:
        written = run.facts.get("written_now", 0)  # texts of the cache cost nothing now
        predicted = self._seconds(self.config, drawn + train.n_items, written)
        return {
            "entries_dropped": drawn - len(self.entries),
            "score_parts": 4 if _cot.has_sentiment() else 3,
            "predicted_seconds": round(predicted, 1),
        }

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds with the embedded model on two cores, nothing cached."""
        rows = max(1, round(config.sample * size.train_rows))
        entries = 2 * min(config.rows or rows, rows)
        written = entries if config.source == "local" else 0
        return cls._seconds(config, entries + size.n_items, written)

    @staticmethod
    def _seconds(config: Any, texts: int, written: int) -> float:
        """Seconds to write some rationales and to encode all texts."""
        tokens = config.candidates * config.new_tokens
        start = 15 if config.source == "local" else 5
        writing = written * (SECONDS_PER_PROMPT + tokens * SECONDS_PER_NEW_TOKEN)
        return start + texts * SECONDS_PER_TEXT + writing
