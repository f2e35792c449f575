"""The base class of methods that answer with semantic ids instead of titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.cell import Need, Run
from bench.method import configure
from bench.registry import methods
from bench.types import Catalogue, Exam, Windows
from llmrec.generative._config import GenerativeConfig
from llmrec.generative._generative import Generative
from llmrec.sid.codes import Codes
from llmrec.trie import Trie

TOY: Mapping[str, Any] = {
    **Generative.toy,
    "batch": 80,
    "sid": {"text_encoder": "hash", "codes": 6},
    "decoder_options": {"ground": {"max_new_tokens": 5, "beams": 1}},
}


class SemanticConfig(GenerativeConfig):
    """Configuration of methods that answer with semantic ids."""

    sid: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the stage that makes the semantic ids, ``sid_tokens``."""


class Semantic(Generative):
    """Prompts and answers hold the codes of items; losses and decoders see the trie of all semantic ids.

    Subclasses say in ``first`` which token the first code is.

    Attributes:
        codes: the semantic ids, from the needed stage or from the folder of a saved model.
    """

    Config = SemanticConfig
    toy = TOY
    config: Any
    codes: Codes

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The semantic ids, shared by all cells that ask for the same; and a preference loss's start.

        Args:
            config: the method's configuration.
            loss: name of its loss.
            backbone: name of its language model, if any.

        Raises:
            ConfigError: ``sid_tokens`` does not know an option.
        """
        configure(methods.get("sid_tokens"), config.sid)
        first = super().needs(config, loss=loss, backbone=backbone)
        return {**first, "sid": Need(method="sid_tokens", config=dict(config.sid))}

    @classmethod
    def foresee(cls, config: Any, train: Windows, **axes: str | None) -> Iterable[str]:
        """Nothing: its trie is known only once the codes are made."""
        return ()

    @property
    def first(self) -> int:
        """Token of the first code."""
        raise NotImplementedError

    @property
    def base(self) -> str:
        """Names the tokens below the first code; part of what identifies the trie."""
        return ""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Tune as every method here, on semantic ids; notes what was measured of them.

        Raises:
            ArtefactError: the semantic ids are of another catalogue.
        """
        stage: Any = run.load("sid")
        stage.codes.require(train.catalogue.titles)
        self.codes = stage.codes
        run.facts["sid"] = stage.measured
        super().fit(train, valid, run)

    def make_trie(self, catalogue: Catalogue) -> Trie:
        """The trie of all semantic ids.

        Raises:
            ArtefactError: they are of another catalogue.
        """
        self.codes.require(catalogue.titles)
        return self.codes.trie(self.first, self.lm.tokenizer.eos_token_id, self.base)

    def undress(self, folder: Path) -> None:
        """Save the semantic ids beside the weights."""
        self.codes.save(folder)

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the folder holds something else.
        """
        self.codes = Codes.load(folder)  # the model's vocabulary depends on them
        super().load(folder, device=device)
