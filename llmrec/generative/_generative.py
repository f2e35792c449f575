"""The base class of methods in which a language model writes the title of the next item.

Methods with soft tokens override ``style`` (where the slots are), ``dress`` (wraps the backbone so that it
embeds them) and ``undress``/``redress`` (save and restore what they added).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from bench.cell import Need, Run, Size
from bench.errors import ArtefactError
from bench.method import configure
from bench.registry import losses
from bench.types import Catalogue, Exam, IntArray, Queries, Ranking, Windows
from llmrec.generative._building import Order, build, facts_of, kept_tokens
from llmrec.generative._config import ZERO_SHOT, GenerativeConfig, completed, recipe_of
from llmrec.generative._decoding import Decoding
from llmrec.generative._estimate import estimate
from llmrec.generative._expert import expert_need
from llmrec.generative._foresee import foresee
from llmrec.generative._ranking import examples_of
from llmrec.generative._search import search_space
from llmrec.lm.backbone import Backbone
from llmrec.lm.names import BACKBONES, EMBEDDED, SCRATCH
from llmrec.lm.scratch import CompactTokenizer
from llmrec.losses.base import Loss
from llmrec.preference.base import PreferenceLoss
from llmrec.preference.setup import preference_training
from llmrec.prompt import Prompter, Style
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.loop import Recipe, Training
from llmrec.training.packing import Example
from llmrec.trie import Trie, for_titles

START = "start"  # the need of a preference loss
OPTIONS = ("loss_options", "decoder_options")  # belong to one loss and one decoder
MANIFEST, KEPT = "llm.json", "kept_tokens.npy"


def prefers(loss: str | None) -> bool:
    """Whether this is a loss whose training starts from a tuned model."""
    kind: Any = None if loss in {None, ZERO_SHOT} else losses.get(loss)
    return kind is not None and bool(kind.starts_tuned)


class Generative(Decoding):
    """Base class: prompts, tuning with any registered loss, decoding with any registered decoder."""

    family = "llm"
    takes: ClassVar[frozenset[str]] = frozenset({"token", "preference"})
    default_loss = "lml"
    decodes = True
    identity = "title"
    Config = GenerativeConfig
    toy: ClassVar[Mapping[str, Any]] = {
        "backbone": "tiny",
        "epochs": 1,
        "batch": 32,
        "scratch_lr": 3e-3,
        "valid_rows": 8,
        # the toy catalogue offers few valid tokens, and few titles to draw
        "loss_options": {"msl_ats": {"eta": 0.95}, "title_softmax": {"negatives": 3}},
    }
    tags: ClassVar[frozenset[str]] = frozenset({"text", "pretrained"})
    backbones = BACKBONES

    _reloaded = False
    _seed = 0
    _fingerprint: str | None = None
    _catalogue: Catalogue | None = None
    _progress: Callable[..., None] | None = None

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """The config with every option of its loss and decoder written out."""
        return completed(config, loss=loss, decoder=decoder)

    @classmethod
    def search_space(
        cls, config: Any, *, loss: str | None, backbone: str | None
    ) -> Mapping[str, tuple[Any, ...]]:
        """The learning rate in force and what the loss declares."""
        return search_space(cls.Config, loss=loss, backbone=backbone)

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """What a decoder asks; and a preference loss starts from the same method tuned with LML."""
        asked = expert_need(config.decoder_options)
        if not prefers(loss):
            return asked
        values = {k: v for k, v in config.as_dict().items() if k not in OPTIONS}
        start = Need(method=cls.name, loss="lml", backbone=backbone, config=values)
        return {START: start, **asked}

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """From the size of the language model and the length of the prompts; None for an unknown model."""
        return estimate(config, size)

    @classmethod
    def foresee(cls, config: Any, train: Windows, **axes: str | None) -> Iterable[str]:
        """What a loss makes of a small catalogue."""
        return foresee(config, train, **axes)

    def style(self) -> Style:
        """Layout of the prompts; with slots in methods that have soft tokens."""
        c = self.config
        return Style(infer_extra_space=c.infer_extra_space, fit_history=c.fit_history)

    def make_trie(self, catalogue: Catalogue) -> Trie:
        """The answers of a catalogue: its titles, quoted."""
        return for_titles(catalogue.titles, self.lm.tokenizer)

    def make_prompter(self, catalogue: Catalogue, **options: Any) -> Prompter:
        """Makes the prompts; a method with user slots numbers its users here."""
        return Prompter(catalogue, self.lm.tokenizer, **options)

    def dress(self, lm: Backbone, train: Windows, run: Run) -> Backbone:
        """The backbone with the parts that this method adds to it, before training.

        Args:
            lm: the backbone.
            train: training rows.
            run: seeds, device and needed artefacts.
        """
        return lm

    def undress(self, folder: Path) -> None:
        """Save what ``dress`` added and training did not change."""

    def redress(self, lm: Backbone, folder: Path) -> Backbone:
        """The backbone with the parts that this method adds to it, read from a folder.

        Args:
            lm: the backbone.
            folder: where ``undress`` wrote.
        """
        return lm

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Tune the backbone on the training rows; ``zero_shot`` leaves it as it is.

        A preference loss goes on from the weights that LML left.

        Raises:
            Unavailable: weights or packages are missing.
            DataError: a training row that cannot be a prompt.
            ConfigError: the backbone cannot be trained or decoded as configured; says what works.
        """
        from llmrec.training.checkpoint import load_weights

        self._progress = run.progress
        self._seed = run.seed_for("weights")
        kept_V = kept_tokens(train.catalogue) if self.backbone == SCRATCH else None
        self.lm = self.dress(self._bare(run.device, kept_V), train, run)
        if prefers(self.loss):
            load_weights(self.lm, run.inputs[START])
        self._index(train.catalogue)
        run.facts.update(facts_of(self.lm, self.trie, train))
        run.facts.update(self.layouts.facts)
        exam = valid.sample(self.config.valid_rows)
        self._rehearse(train, exam, run)
        if self.loss == ZERO_SHOT:
            self.lm.requires_grad_(False).eval()
        else:
            validate = self._validator(exam, train) if len(exam) else None
            self._train(self._training(train, run), run, validate)
        run.facts.update(self._settle(exam))
        self._doctor(valid.queries)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` best titles, each named by its smallest item id."""
        self._index(queries.catalogue)
        anew = self._reload_for_inference()
        if not getattr(self._decoder(), "reads_base", False):
            # merging cannot be undone, and a decoder that reads the base weights needs them apart
            self.lm.merge(rounding=anew)
        self.lm.eval()
        with torch.no_grad():
            return self._decode(queries, k, self._progress)

    def save(self, folder: Path) -> None:
        """Write adapters (or all weights if all were trained) and how to find the rest."""
        self._write_model(folder)
        known = {"backbone": self.lm.name, "seed": self._seed, "trie": self.trie.fingerprint}
        manifest = {**known, **self._keep_decoding(folder)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))

    def _write_model(self, folder: Path) -> None:
        from llmrec.training.checkpoint import save_weights

        save_weights(self.lm, folder)
        if isinstance(self.lm.tokenizer, CompactTokenizer):
            np.save(folder / KEPT, self.lm.tokenizer.kept_V)
        self.undress(folder)

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the folder holds something else.
        """
        if not (folder / MANIFEST).is_file():
            raise ArtefactError(f"no {MANIFEST} in {folder}; run the cell again with --reuse never")
        manifest = json.loads((folder / MANIFEST).read_text())
        self._fingerprint = manifest["trie"]
        self._seed = manifest["seed"]  # an untuned model without pretraining is its seed
        self._read_model(folder, device, self.config)
        self._restore_decoding(folder, manifest)

    def _read_model(self, folder: Path, device: str, config: GenerativeConfig) -> None:
        from llmrec.training.checkpoint import load_weights

        kept = np.load(folder / KEPT) if (folder / KEPT).is_file() else None
        self.lm = self.redress(self._bare(device, kept, config), folder)
        if self.loss == ZERO_SHOT:
            self.lm.requires_grad_(False)
        load_weights(self.lm, folder)

    def _reload_for_inference(self) -> bool:
        """Load the model in the precision that it decodes in, once; returns whether it has one of its own."""
        dtype = self.config.inference_dtype
        if dtype is None or not self.lm.pretrained:
            return False
        if not self._reloaded:
            device = str(self.lm.device)
            with tempfile.TemporaryDirectory() as folder:
                self._write_model(Path(folder))
                del self.lm  # before the other one is loaded: a GPU may not hold both
                torch.cuda.empty_cache()
                plain = self.config.replace(quant=None, dtype=dtype)
                self._read_model(Path(folder), device, plain)
            self._reloaded = True
        return True

    def _bare(
        self, device: str, kept_V: IntArray | None, config: GenerativeConfig | None = None
    ) -> Backbone:
        """The backbone before training, without anything a method adds."""
        adapters = self.loss != ZERO_SHOT
        order = Order(self.backbone or EMBEDDED, device, self._seed, adapters)
        return build(config or self.config, order, kept_V)

    def _index(self, catalogue: Catalogue) -> None:
        """Tokenise a catalogue, once.

        Raises:
            ArtefactError: a model that was tuned for another catalogue or tokenizer.
        """
        if self._catalogue is catalogue:
            return
        self.trie = self.make_trie(catalogue)
        if self._fingerprint not in {None, self.trie.fingerprint}:
            raise ArtefactError(
                "this model was tuned for other titles or another tokenizer; run the cell again "
                "with --reuse never"
            )
        self._fingerprint, self._catalogue = self.trie.fingerprint, catalogue
        budget = min(self.config.answer_budget, int(self.trie.answer.lengths.max()))
        self.prompter = self.make_prompter(
            catalogue, cutoff=self.config.cutoff, answer_budget=budget, style=self.style()
        )

    def examples(self, train: Windows) -> list[Example]:
        """Training rows as prompts with the leaf of their answer.

        Raises:
            DataError: a row that does not fit the cutoff even with one history item.
        """
        return examples_of(self.prompter, self.trie, train, self.config)

    def _training(self, train: Windows, run: Run) -> Training:
        kind = losses.get(self.loss or "lml")
        if issubclass(kind, PreferenceLoss):
            return preference_training(kind, self, train, run)
        assert issubclass(kind, Loss), f"{kind.name} is no loss over answer tokens"
        rows = self.examples(train)
        run.facts["history_dropped"] = sum(row.prompt.dropped for row in rows)
        run.facts["prompt_tokens"] = float(np.mean([len(row.prompt) for row in rows]))
        avt = self.trie.avt(train.target_W)
        options = configure(kind, self.config.loss_options, stored=True)
        vocabulary = min(self.lm.vocabulary, len(self.lm.tokenizer))
        loss = kind(options, self.trie, vocabulary=vocabulary, avt=avt)
        loss.observe_targets(self.trie.leaf_of_item_N[train.target_W])
        shared = self.prompter.shared if self.layouts.share_opening else 0
        batch_loss = TokenBatchLoss(loss, self.trie, shared=shared, packed=self.layouts.packed)
        return Training(rows, batch_loss, self.recipe())

    def recipe(self) -> Recipe:
        """Hyperparameters of the optimizer, from the configuration."""
        return recipe_of(self.config, pretrained=self.lm.pretrained)
