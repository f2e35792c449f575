"""The part of a generative method that decodes: from a tuned model to lists, by any registered decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cell import K, Run
from bench.errors import ConfigError
from bench.evaluation import metrics
from bench.method import Method, configure
from bench.registry import decoders
from bench.types import BoolArray, Exam, FloatArray, IntArray, Queries, Ranking, Windows
from llmrec.decode import checks
from llmrec.decode.base import Decoder, WeighsByPopularity
from llmrec.decode.expert import Numbered
from llmrec.decode.rule import OF_TRAINING
from llmrec.decode.sharing import decode_shared
from llmrec.generative._config import GenerativeConfig
from llmrec.generative._expert import Expert
from llmrec.generative._layouts import layouts_for
from llmrec.generative._ranking import as_ranking, prompts_for
from llmrec.lm.backbone import Backbone
from llmrec.lm.exports import export
from llmrec.losses.base import Loss
from llmrec.prompt import Prompt, Prompter
from llmrec.support.layouts import Layouts
from llmrec.training.loop import Training, Validate
from llmrec.trie import Trie

WEIGHTS = "leaf_weight.npy"


def leaf_weights(trie: Trie, count_N: IntArray) -> FloatArray:
    """Popularity of each leaf among the training targets, scaled to [0, 1]; all 0 where it is constant.

    Args:
        trie: the catalogue.
        count_N: how often each item is a training target.
    """
    count_I = np.bincount(trie.leaf_of_item_N[1:], weights=count_N[1:], minlength=trie.n_leaves)
    span = count_I.max() - count_I.min()
    return (count_I - count_I.min()) / span if span > 0 else np.zeros_like(count_I)


class Decoding(Method):
    """A method with a model, a catalogue's trie and a decoder that may depend on the training."""

    config: GenerativeConfig
    lm: Backbone
    trie: Trie
    prompter: Prompter

    _guest: Any = None  # a decoder in place of the configured one
    _loss: Loss | None = None  # while it trains, its temperature is that of the training
    _tau: float = 1.0  # of the weights kept in the end
    _gamma: float | None = None  # what a grounding chose on validation
    _weight_I: FloatArray | None = None  # popularity, where a grounding weighs by it
    _expert: Expert | None = None  # a second model, where the decoder asks one

    def export(self, folder: Path, *, form: str) -> None:
        """Write the tuned language model for peft or transformers; soft tokens are not part of it.

        Args:
            folder: an existing folder.
            form: ``peft`` or ``hf``.

        Raises:
            ConfigError: the model cannot be written in that form; says why.
        """
        export(self.lm, folder, form=form)

    @classmethod
    def spreads(cls, config: Any, *, loss: str | None) -> bool:
        """Training and decoding, but not on TRL's trainer, which repeats rows to fill a batch."""
        return bool(config.loss_options.get("route") != "trl")

    @contextmanager
    def decoding_by(self, decoder: Any) -> Iterator[None]:
        """Within this context ``recommend`` uses this decoder instead of the configured one."""
        before, self._guest = self._guest, decoder
        try:
            yield
        finally:
            self._guest = before

    def _decoder(self) -> Any:
        """The configured decoder, with the values that training determined (temperature, gamma)."""
        if self._guest is not None:
            return self._guest
        name, options = self.decoder or "beam", dict(self.config.decoder_options)
        if options.get("tau") == OF_TRAINING:
            options["tau"] = self._tau if self._loss is None else self._loss.temperature
        kind = decoders.get(name)
        assert issubclass(kind, Decoder), f"the decoder {name!r} does not extend Decoder"
        decoder = kind(configure(kind, options, stored=True))
        if self._weight_I is not None:
            assert isinstance(decoder, WeighsByPopularity), f"{name!r} has gamma but no ``weigh``"
            decoder.weigh(self._weight_I, self._gamma)
        return decoder

    @cached_property
    def layouts(self) -> Layouts:
        """How the backbone is run, so that its numbers are its own.

        Raises:
            ConfigError: it cannot be trained or decoded as configured; says what works.
        """
        return layouts_for(self)

    def _rehearse(self, train: Windows, valid: Exam, run: Run) -> None:
        """Give the decoder what it needs of the training rows; it refuses its options here, not after them.

        Args:
            train: training rows.
            valid: the exam that may choose an option.
            run: has the artefacts of a second model.

        Raises:
            ConfigError: an option that cannot work with lists of the usual length.
            ArtefactError: the second model was trained on other rows.
        """
        decoder = self._decoder()
        options = decoder.config
        if decoder.asks is not None:
            self._expert = Expert.called(decoder.asks, train, run)
        if getattr(options, "gamma", 0):
            self._weight_I = leaf_weights(self.trie, train.target_count)
            if options.gamma == "valid" and not len(valid):
                raise ConfigError(
                    "gamma is 'valid' but there are no validation rows; give a number"
                )
        self._decoder()(self.lm, [], self.trie, self._width(K))

    def _train(self, training: Training, run: Run, validate: Validate | None) -> None:
        """Train, and keep the loss's temperature for decoders with ``tau: train``."""
        self._loss = getattr(training.batch_loss, "loss", None)
        training.run(self.lm, run, validate)
        if self._loss is not None:
            self._tau = run.facts.get("tau_of_best_epoch", self._loss.temperature)
        self._loss = None

    def _settle(self, valid: Exam) -> dict[str, Any]:
        """Let the decoder choose gamma on the validation queries if it is ``valid``; returns the facts."""
        decoder = self._decoder()
        if getattr(decoder.config, "gamma", 0) != "valid":
            return {}
        prompts, fits_Q = prompts_for(self.prompter, valid.queries, self.config.history)
        target_Q = self.trie.leaf_of_item_N[valid.target_Q[fits_Q]]
        with torch.no_grad():
            self._gamma = decoder.choose(
                self.lm.eval(), prompts, self.trie, weight_I=self._weight_I, target_Q=target_Q
            )
        return {"gamma_chosen": self._gamma}

    def _keep_decoding(self, folder: Path) -> dict[str, Any]:
        """Save the popularity; returns what belongs into the manifest."""
        if self._weight_I is not None:
            np.save(folder / WEIGHTS, self._weight_I)
        if self._expert is not None:
            self._expert.save(folder)
        return {"tau": self._tau, "gamma": self._gamma}

    def _restore_decoding(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self._tau, self._gamma = float(manifest.get("tau", 1.0)), manifest.get("gamma")
        if (folder / WEIGHTS).is_file():
            self._weight_I = np.load(folder / WEIGHTS, allow_pickle=False)
        self._expert = Expert.kept(folder, str(self.lm.device))

    def _asked(self, queries: Queries) -> tuple[Any, Sequence[Prompt], BoolArray]:
        """The decoder, the prompts of all queries that fit the cutoff, and which ones do, bool [Q]."""
        decoder = self._decoder()
        prompts, fits_Q = prompts_for(self.prompter, queries, self.config.history)
        if self._expert is None or decoder.asks is None:
            return decoder, prompts, fits_Q
        decoder.consult(self._expert.scores(queries))
        return decoder, Numbered.of(prompts, np.flatnonzero(fits_Q)), fits_Q

    def _width(self, k: int) -> int:
        return min(k, self.trie.n_leaves)

    def _decode(self, queries: Queries, k: int, progress: Any = None) -> Ranking:
        decoder, prompts, fits_Q = self._asked(queries)
        decoded = decode_shared(decoder, self.lm, prompts, self.trie, self._width(k), progress)
        facts = {
            "decoder": decoder.rule,
            "prompts_too_long": int((~fits_Q).sum()),
            "queries_history_dropped": sum(prompt.dropped for prompt in prompts),
        }
        return as_ranking(decoded, fits_Q, self.trie, k, facts)

    def _validator(self, exam: Exam, train: Windows) -> Callable[[], dict[str, float]]:
        def validate() -> dict[str, float]:
            ranking = self._decode(exam.queries, K)
            return metrics.evaluate(
                ranking, exam, train_count=train.target_count, names=self.identity
            )

        return validate

    def _doctor(self, queries: Queries) -> None:
        """Refuse a decoder that samples, repeats itself or returns invalid titles."""
        decoder, prompts, _ = self._asked(queries)
        if not prompts:
            return
        width = self._width(K)
        with torch.no_grad():
            found = checks.examine(decoder, self.lm.eval(), prompts, self.trie, width)
        checks.require(found, waived=checks.waived_by(decoder))
