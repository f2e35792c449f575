"""LLM-CF: a recommender that reads a language model's reasoning about other users (Sun et al., CIKM 2024).

The backbone is the suite's SASRec; a small decoder reads four retrieved examples with their rationales, and
its output is added to the user vector. No language model runs when it recommends. Network: ``_in_context``;
retrieval and its guards: ``_bank``; rationales: ``cot``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from baselines.sequential import Sequential, SequentialConfig
from bench.cell import Need, Run, Size
from bench.config import Config
from bench.errors import ConfigError, DataError
from bench.method import configure
from bench.registry import methods
from bench.types import Exam, Queries, Ranking, Windows
from llmrec.llm_cf._bank import Asked, Bank
from llmrec.lm.names import BACKBONES

BANK = "bank.safetensors"
INSTRUCT = {"meta-llama/Meta-Llama-3-8B": "meta-llama/Meta-Llama-3-8B-Instruct"}
SOURCES = {"none": "no CoT", "template": "template"}


class LLMCFConfig(SequentialConfig):
    """SASRec's configuration and what is read beside the history."""

    cot_source: Literal["local", "cache", "template", "none"] = "local"
    """Who wrote the rationales; see the stage ``cot``."""
    sample: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the training rows that is explained."""
    writer: str | None = None
    """Backbone that writes the rationales; None for the cell's own, or its instruct model where that is a
    base model, which would go on writing the prompt instead of answering it."""
    cot: Mapping[str, Any] = Field(default_factory=dict)
    """Further options of the stage ``cot``."""
    text_encoder: str = "minilm"
    """Encoder of titles and rationales: minilm, backbone, hash or a folder (the authors: bge-base)."""
    n_icl: Annotated[int, Field(ge=2, multiple_of=2)] = 4
    """Examples per query, half of them chosen items."""
    inject: NonNegativeFloat = 0.1
    """Weight of what the examples add to the user vector; 0 is SASRec."""
    rho: NonNegativeFloat = 0.0
    """Weight of the reconstruction of rationales (0 in every released retrieval configuration)."""
    user_emb: bool = True
    """Whether users have a vector of their own."""
    guard: Literal["order", "global", "released"] = "order"
    """What a query must not retrieve: the user's own later entries (``order``), anybody's later ones
    (``global``), or what the authors' rule leaves out (``released``), which lets some of the own pass."""
    objective: Literal["ce", "sampled"] = "ce"
    """Softmax over all items, or over the target and negatives that the batch shares."""
    negatives: PositiveInt = 128
    """How many negatives ``sampled`` shares."""
    icl_layers: PositiveInt = 2
    """Layers of the decoder."""
    icl_heads: PositiveInt = 2
    """Its heads."""
    icl_inner: PositiveInt = 96
    """Its feed-forward width."""
    norm_eps: PositiveFloat | None = None
    """Epsilon of its norms; null for the smallest step of the precision, as PyTorch has it."""

    @model_validator(mode="after")
    def _heads_divide_decoder(self) -> Self:
        if self.hidden_size % (2 * self.icl_heads):
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 * icl_heads ({self.icl_heads})"
            )
        return self

    @model_validator(mode="after")
    def _something_to_rebuild(self) -> Self:
        if self.rho and not self.inject:
            raise ConfigError(
                "rho needs inject above 0: without examples there is nothing to rebuild"
            )
        return self


@methods.register("llm_cf")
class LLMCF(Sequential):
    """SASRec with in-context examples and their rationales."""

    family = "enhanced"
    Config: ClassVar[type[Config]] = LLMCFConfig
    tags = frozenset({"text", "pretrained"})
    backbones = BACKBONES
    search: ClassVar = {
        "inject": (0.05, 0.1, 0.3),
        "rho": (0.0, 1.0),
        "learning_rate": (1e-3, 5e-4),
        "dropout": (0.1, 0.2, 0.5),
    }
    toy: ClassVar = {
        "backbone": "tiny",
        "epochs": 2,
        "hidden_size": 16,
        "inner_size": 32,
        "cot_source": "template",
        "text_encoder": "hash",
    }

    bank: Bank | None = None
    _seed: int = 0

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The rationales; nothing if they are not injected."""
        if not config.inject:
            return {}
        values = {
            "source": config.cot_source,
            "sample": config.sample,
            "text_encoder": config.text_encoder,
            **config.cot,
        }
        configure(methods.get("cot"), values)
        writer = config.writer or INSTRUCT.get(backbone or "", backbone)
        return {"cot": Need(method="cot", backbone=writer, config=values)}

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from llmrec.llm_cf._in_context import InContextModel

        return InContextModel

    def options(self) -> dict[str, Any]:
        """The loss and the shape of the decoder."""
        c, bank = self.config, self.bank
        users = 0 if bank is None or not c.user_emb else len(bank.users_U)
        asked = {"negatives": c.negatives} if c.objective == "sampled" else {}
        return self.trained_with(c.objective, **asked) | {
            "inject": c.inject,
            "rho": c.rho,
            "context": {
                "text": 0 if bank is None else bank.item_NT.shape[1],
                "users": users,
                "shape": (c.icl_layers, c.icl_heads, c.icl_inner),
                "norm_eps": c.norm_eps,
                "rationales": bank is not None and bank.text_MT.shape[1] > 0,
            },
        }

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Retrieve examples for every row, then train SASRec and the decoder together.

        Raises:
            ArtefactError: the rationales are missing or belong to other rows.
            DataError: no row has a history.
        """
        run.facts["variant"] = self._variant(None)
        if not self.config.inject:
            super().fit(train, valid, run)
            return
        self.bank, meta = Bank.read(run.inputs["cot"], train, self.config.max_length)
        self._seed = run.seed_for("examples")
        run.facts.update({"variant": self._variant(meta), "entries": len(self.bank.row_M)})
        run.facts.update({"text_encoder": meta["encoder"].partition(":")[0]})
        if not (train.history.lengths > 0).any():
            raise DataError(f"{self.name}: none of the {len(train)} training rows has a history")
        self._train(train, valid, run)

    def _train(self, train: Windows, valid: Exam, run: Run) -> None:
        import torch

        from baselines import training
        from llmrec.llm_cf._context_ranking import rank

        assert self.bank is not None, "the bank is read first"
        self.seen = train.seen
        columns = training.columns(train.history, train.target_W, self.width)
        example_WC = self._retrieve(Asked.rows(train))
        valid_QC = self._retrieve(Asked.queries(valid.queries))
        user_W, user_Q = map(self.bank.place_of, (train.user_W, valid.queries.user_Q))
        history, width = valid.queries.history, self.config.max_length
        with torch.random.fork_rng():
            torch.manual_seed(run.seed_for("weights"))
            config, dataset = self.build(columns, train.n_items, run.folder, run.device)
            self.model.attach(self.bank)
            self.model.attach_rows(example_WC, user_W)
            training.seed_everything(run.seed_for("dropout"))

            def ask(k: int) -> Ranking:
                return rank(self.model, history, user_Q, valid_QC, k, width)

            course = training.Course(
                valid=valid,
                train_count=train.target_count,
                width=width,
                batch_size=self.config.batch_size,
                run=run,
                ask=ask,
            )
            training.train(self.model, config, dataset, course)
        run.facts["rows_without_examples"] = int((example_WC[:, 0] < 0).sum())

    def _retrieve(self, asked: Asked) -> Any:
        assert self.bank is not None, "the bank is read first"
        c = self.config
        return self.bank.retrieve(asked, n=c.n_icl, guard=c.guard, seed=self._seed)

    def _variant(self, meta: Mapping[str, Any] | None) -> str:
        """What the row is called beside its name: who wrote the rationales."""
        if meta is None:
            return "nothing injected"
        source = SOURCES.get(meta["source"], f"CoT by {meta['model']}")
        noun = "examples" if meta["source"] == "none" else "rationales"
        return f"{source}, {meta['entries']:,} {noun}"

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Retrieve examples for the queries and rank the catalogue; the history is not excluded."""
        if self.bank is None:
            return super().recommend(queries, k)
        from llmrec.llm_cf._context_ranking import rank

        example_QC = self._retrieve(Asked.queries(queries))
        user_Q = self.bank.place_of(queries.user_Q)
        width = self.config.max_length
        return rank(self.model, queries.history, user_Q, example_QC, k, width)

    def save(self, folder: Path) -> None:
        """Write the module and the bank."""
        super().save(folder)
        if self.bank is not None:
            self.bank.save(folder / BANK)
            (folder / "seed.txt").write_text(str(self._seed))

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote."""
        if (folder / BANK).is_file():
            self.bank = Bank.load(folder / BANK)
            self._seed = int((folder / "seed.txt").read_text())
        super().load(folder, device=device)
        if self.bank is not None:
            self.model.attach(self.bank)

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """SASRec's estimate with five histories a row instead of one, and the retrieval."""
        base = super().estimate_seconds(config, size)
        if not config.inject:
            return base
        entries = 2 * config.sample * size.train_rows
        return 3 * base + (size.train_rows + size.test_rows) * (2e-4 + entries * 3e-8)
