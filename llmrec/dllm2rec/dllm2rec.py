"""DLLM2Rec: a small recommender distilled from a language model (Cui et al., RecSys 2024).

The student is the suite's SASRec; the teacher, any LLM row of the suite, works only while artefacts are made.
Equations: ``_distill`` (ranking distillation), ``_student`` (embedding distillation). Departures from the
authors' code: the epoch is chosen on validation instead of test, dropout is off in evaluation, and the
enriched item table also scores, which is the only way an item never trained on gets a meaningful score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from baselines.dros import RobustConfig, robust_options
from baselines.sequential import Sequential
from bench.cell import Need, Run, Size
from bench.config import Config
from bench.errors import ConfigError
from bench.method import configure
from bench.registry import methods
from bench.types import Exam, Windows
from llmrec.lm.names import BACKBONES


class DLLM2RecConfig(RobustConfig):
    """The configuration of the student's network and what is distilled into it."""

    k: PositiveInt = 10
    """How many of the teacher's items are distilled."""
    eta: NonNegativeFloat = 0.3
    """Weight of the title vectors in the item table."""
    lambda_d: NonNegativeFloat = 0.7
    """Weight of the ranking distillation."""
    gamma: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (0.3, 0.5, 0.1)
    """Weights of position, confidence and consistency."""
    beta: PositiveFloat = 1.0
    """Position weight at rank k is exp(-k / beta)."""
    dro_alpha: NonNegativeFloat = 0.0
    """Weight of the DROS term (the authors' default of 1 makes the student DROS, not SASRec)."""
    objective: Literal["ce", "bce", "bce_last"] = "ce"
    """Recommendation loss: ``ce`` or ``bce`` of SASRec, or ``bce_last``, at the last position only with a
    negative outside the row's window."""
    confidence: Literal["candidate", "target"] = "candidate"
    """Distance to each candidate (code) or to the true target (paper)."""
    conf_norm: Literal["rowmin", "none"] = "rowmin"
    """Distances are rescaled by row (``rowmin``), or raw."""
    ed_apply: Literal["both", "input"] = "both"
    """Title vectors stand in history and scores (``both``), or in the history only."""
    neg_term: Literal["correct", "code", "none"] = "correct"
    """Negative term of the distillation: -log s(-y) (``correct``), -log s(1 - y) (``code``) or none."""
    exclude_target: bool = False
    """Leave the true target out of the teacher's list."""
    teacher: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the teacher (see ``bench list teacher``): loss, rank, rows ..."""
    folder: str = ""
    """A folder with teacher artefacts made elsewhere, instead of the suite's own teacher."""
    folder_hash: str = ""
    """What is in the folder, filled in: a path alone does not say which artefacts a row rests on."""

    @model_validator(mode="after")
    def _some_importance(self) -> Self:
        if not sum(self.gamma) > 0:
            raise ConfigError(f"gamma is {list(self.gamma)}; at least one weight must be above 0")
        return self

    @model_validator(mode="after")
    def _target_has_a_distance(self) -> Self:
        if self.confidence == "target" and self.teacher.get("rank") == "beam":
            raise ConfigError("confidence 'target' needs a teacher with rank 'l2', not 'beam'")
        return self

    @model_validator(mode="after")
    def _output_layer_is_trained(self) -> Self:
        if not self.tied and (self.objective == "bce" or self.ed_apply == "both"):
            raise ConfigError(
                f"tied is False with objective {self.objective!r} and ed_apply {self.ed_apply!r}: an output "
                "layer of its own needs objective 'bce_last' or 'ce' and ed_apply 'input'"
            )
        return self


@methods.register("dllm2rec")
class DLLM2Rec(Sequential):
    """SASRec distilled from a language model's rankings and title vectors."""

    family = "enhanced"
    Config: ClassVar[type[Config]] = DLLM2RecConfig
    tags = frozenset({"text", "pretrained"})
    backbones = BACKBONES
    search: ClassVar = {
        "lambda_d": (0.3, 0.7, 1.0),
        "eta": (0.1, 0.3),
        "weight_decay": (1e-4, 1e-5, 1e-6, 1e-7, 0.0),
        "learning_rate": (1e-3, 5e-4),
        "dropout": (0.1, 0.2, 0.5),
    }
    toy: ClassVar = {
        "backbone": "tiny",
        "epochs": 2,
        "hidden_size": 16,
        "inner_size": 32,
        "k": 5,
    }

    _teacher: Any = None

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The teacher's artefacts, unless a folder is given."""
        if config.folder:
            return {}
        kind = methods.get("teacher")
        teacher = configure(kind, config.teacher)
        if config.k > teacher.k:
            raise ConfigError(
                f"k is {config.k}, but its teacher lists {teacher.k}; lower k or raise teacher.k"
            )
        return {"teacher": Need(method="teacher", backbone=backbone, config=dict(config.teacher))}

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from llmrec.dllm2rec._student import StudentModel

        return StudentModel

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """What the teacher's folder holds is written in."""
        if not config.folder:
            return config
        return config.replace(folder_hash=_meta_hash(Path(config.folder)))

    def options(self) -> dict[str, Any]:
        """The loss, the network with its robust term, and the distillation."""
        c = self.config
        position, confidence, consistency = c.gamma
        keys = ("eta", "lambda_d", "ed_apply", "neg_term", "exclude_target")
        return {
            **self.trained_with(c.objective),
            **robust_options(c),
            **{key: getattr(c, key) for key in keys},
            "teacher_width": 0 if self._teacher is None else self._teacher.point_ND.shape[1],
            "importance": {
                "position": position,
                "confidence": confidence,
                "consistency": consistency,
                "beta": c.beta,
                "per": c.confidence,
            },
        }

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Train the student on the artefacts in ``run.inputs["teacher"]``.

        Raises:
            TeacherArtifactsMissing: they are absent or belong to other rows.
            ConfigError: ``confidence`` is ``target`` but the teacher knows no distance to it, or ``k`` asks
                for more items than the teacher lists.
        """
        from llmrec.dllm2rec import _teacher_files as files

        folder = Path(self.config.folder) if self.config.folder else run.inputs["teacher"]
        self._teacher = files.read(folder, train)
        if self.config.folder_hash not in {"", _meta_hash(folder)}:
            raise files.TeacherArtifactsMissing(
                f"the teacher in {folder} is another one than when this run was planned; plan it again"
            )
        if self.config.confidence == "target" and np.isnan(self._teacher.target_distance_T).all():
            raise ConfigError("confidence 'target' needs a teacher with rank 'l2', not 'beam'")
        self._check_length(train.n_items)
        super().fit(train, valid, run)
        self.model.fold()
        run.facts.update(self._facts(train))
        self._teacher = None

    def _check_length(self, n_items: int) -> None:
        k, listed = min(self.config.k, n_items), int(self._teacher.meta["k"])
        if k > listed:
            raise ConfigError(
                f"k is {k}, but the teacher lists {listed} items a row (a beam list has as many as beams); "
                "lower k, or let it list more"
            )

    def prepare(self, model: Any, train: Windows, run: Run) -> None:
        """Attach the teacher's artefacts to the module."""
        rescale = self.config.conf_norm == "rowmin"
        model.attach(
            self._teacher, len(train), rescale=rescale, k=min(self.config.k, train.n_items)
        )

    def _facts(self, train: Windows) -> dict[str, Any]:
        teacher = self._teacher
        hit_T = teacher.item_TK[:, 0] == train.target_W[teacher.row_T]
        meta = teacher.meta
        plain = (meta["method"], meta["loss"]) == ("bigrec", "lml")
        loss = f"+{meta['loss']}" if meta["loss"] else ""
        from_teacher = "" if plain else f" {meta['method']}{loss}"
        coverage = f"teacher{from_teacher} on {len(teacher.row_T):,} of {len(train):,} rows"
        return {
            "variant": coverage,
            "teacher": f"{meta['method']}{loss} [{meta['backbone']}]",
            "teacher_rank": meta["rank"],
            "teacher_rows": len(teacher.row_T),
            "teacher_rows_share": len(teacher.row_T) / len(train),
            "teacher_hit@1": float(hit_T.mean()) if len(hit_T) else 0.0,
        }

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """SASRec's estimate and half as much again for the enriched table and the distillation."""
        return 1.5 * super().estimate_seconds(config, size)


def _meta_hash(folder: Path) -> str:
    """Sixteen hex digits of what a teacher's folder says of itself, empty if it says nothing."""
    from llmrec.dllm2rec._teacher_files import files_hash

    path = folder / "meta.json"
    return files_hash([path])[:16] if path.is_file() else ""
