"""The parts of RecBole 1.2.1 that are used, imported so that they work here and have no side effects.

RecBole fails as installed on numpy 2 (names gone), pandas 3 (changed ``agg``) and torch 2.6
(``weights_only``), reads our command line, ``eval``s strings, sets CUDA_VISIBLE_DEVICES, opens TensorBoard
folders and takes any misspelt key. Here

- its modules are imported with stand-ins for the packages it needs for its logs only, which are taken out of
  ``sys.modules`` again; ``recbole.quick_start``, the one part that imports ray, is never imported;
- autograd's anomaly mode, which RecBole's import switches on for the whole process (its module ``sine``) and
  which costs every backward pass a scan for NaN, is put back as it was;
- ``Config`` is built with a bare ``sys.argv``; numpy's names and the environment are put back afterwards;
- the dataset is made from arrays, so that neither pandas nor RecBole's pickled checkpoints are involved, and
  its internal ids are the suite's ids by construction (``field2id_token`` says so and is checked);
- every key we pass must be read by the model, the trainer or the dataset.

Axes: B batch, W training rows, H history, N items.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator, Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import Unavailable

LOG_PACKAGES = {"colorlog": (), "colorama": ("init",), "texttable": ("Texttable",)}
CONSUMED = {  # read inside Config itself, before a model can ask for them
    "gpu_id",
    "metrics",
    "topk",
    "valid_metric",
    "eval_args",
    "train_neg_sample_args",
    "repeatable",
}
NUMPY_NAMES = (  # removed from numpy 2 and needed by Config, or overwritten by it
    *("float_", "complex_", "unicode_"),
    *("bool", "int", "float", "complex", "object", "str", "long", "unicode"),
)
USER, ITEM, HISTORY, LENGTH, ROW = "user_id", "item_id", "item_id_list", "item_length", "row"


class _NoLog:
    """Stands in for TensorBoard's writer and ignores every call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules for RecBole's logging needs, in ``sys.modules`` only while RecBole is imported."""
    wanted: dict[str, tuple[str, ...]] = {"torch.utils.tensorboard": ("SummaryWriter",)}
    wanted |= {n: names for n, names in LOG_PACKAGES.items() if not importlib.util.find_spec(n)}
    before = {name: sys.modules.get(name) for name in wanted}
    anomaly = torch.is_anomaly_enabled()
    for name, names in wanted.items():
        module = types.ModuleType(name)
        for attribute in names:
            setattr(module, attribute, _NoLog)
        sys.modules[name] = module
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(
            anomaly
        )  # one of RecBole's models turns it on for everybody
        for name, old in before.items():
            if old is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = old


if importlib.util.find_spec("recbole") is None:
    raise Unavailable(
        "the package recbole is not installed; `pip install recbole==1.2.1` "
        "(on Python 3.12 or newer: `pip install --no-deps recbole==1.2.1`)"
    )
with _stand_ins():
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset
    from recbole.data.interaction import Interaction
    from recbole.data.transform import construct_transform
    from recbole.model.sequential_recommender.bert4rec import BERT4Rec
    from recbole.model.sequential_recommender.sasrec import SASRec
    from recbole.trainer.trainer import Trainer
    from recbole.utils.enum_type import FeatureSource, FeatureType

__all__ = [
    "HISTORY",
    "ITEM",
    "LENGTH",
    "ROW",
    "USER",
    "ArrayDataset",
    "BERT4Rec",
    "Config",
    "Interaction",
    "SASRec",
    "SequentialDataset",
    "Settings",
    "Trainer",
    "bounded",
    "construct_transform",
    "settings",
]


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Hides the command line from RecBole's ``Config`` and restores numpy's names and the environment."""
    argv, devices = sys.argv, os.environ.get("CUDA_VISIBLE_DEVICES")
    names = {name: vars(np)[name] for name in NUMPY_NAMES if name in vars(np)}
    sys.argv = argv[:1] or [""]
    for old, new in (("float_", "float64"), ("complex_", "complex128"), ("unicode_", "str_")):
        if old not in names:
            setattr(np, old, getattr(np, new))
    try:
        yield
    finally:
        sys.argv = argv
        for name in NUMPY_NAMES:
            if name in names:
                setattr(np, name, names[name])
            elif name in vars(np):
                delattr(np, name)
        if devices is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = devices


class Settings(Config):  # type: ignore[misc]  # RecBole has no types
    """RecBole's Config that remembers which keys were asked for.

    Attributes:
        asked: keys read so far.
        given: keys we passed.
    """

    asked: set[str]
    given: frozenset[str]

    def __getitem__(self, key: str) -> Any:
        """The value of a key, None if there is none, as in RecBole."""
        self.__dict__.setdefault("asked", set()).add(key)
        return super().__getitem__(key)

    def check_all_read(self) -> None:
        """Fail if RecBole read one of our keys nowhere, as it would a misspelt one."""
        unread = sorted(self.given - self.__dict__.get("asked", set()) - CONSUMED)
        assert not unread, f"nobody in RecBole reads the key {', '.join(unread)}"


def settings(model: type, options: Mapping[str, Any], *, folder: Path, device: str) -> Settings:
    """The configuration of one model.

    Args:
        model: a subclass of RecBole's SequentialRecommender.
        options: keys of the model and the trainer; the evaluation and logging keys are set here.
        folder: where RecBole may create its checkpoint folder.
        device: ``cpu``, ``cuda`` ...
    """
    fixed = {
        "gpu_id": "",  # the device is set below: RecBole would overwrite CUDA_VISIBLE_DEVICES
        "checkpoint_dir": str(folder),
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "group_by": None,
            "order": "TO",
            "mode": "full",
        },
        "repeatable": True,
        "metrics": ["NDCG", "Hit"],
        "topk": [5],
        "valid_metric": "NDCG@5",
    }
    given = {**fixed, **options}
    with bounded():
        config = Settings(model=model, dataset="suite", config_dict=dict(given))
    config["device"] = torch.device(device)
    config.given = frozenset(given)
    return config


class ArrayDataset(SequentialDataset):  # type: ignore[misc]  # RecBole has no types
    """RecBole's dataset made from arrays instead of benchmark files.

    Holds the same fields as the files would give (``item_id_list`` left-aligned and padded with 0,
    ``item_length``, ``item_id``), the whole catalogue in the item index, and the number of each row.
    """

    def __init__(self, config: Settings, columns: Mapping[str, torch.Tensor], n_items: int) -> None:
        # the parents' constructors read files; what they set up besides is repeated here
        self.config = config
        self.dataset_name, self.logger = config["dataset"], getLogger()
        self.max_item_list_len = config["MAX_ITEM_LIST_LENGTH"]
        self.item_list_length_field = config["ITEM_LIST_LENGTH_FIELD"]
        self._get_preset()
        self._get_field_from_config()
        for field, column in columns.items():
            kind = FeatureType.TOKEN_SEQ if column.ndim > 1 else FeatureType.TOKEN
            width = column.shape[1] if column.ndim > 1 else 1
            self.set_field_property(field, kind, FeatureSource.INTERACTION, width)
        tokens = np.array(["[PAD]", *map(str, range(1, n_items + 1))])
        self.field2id_token = {ITEM: tokens, HISTORY: tokens, USER: np.array(["[PAD]"])}
        self.field2token_id = {ITEM: {token: i for i, token in enumerate(tokens)}}
        self.user_feat = self.item_feat = None
        self.inter_feat = Interaction(dict(columns))

    def check_identity(self) -> None:
        """Fail unless RecBole's internal item ids are the suite's."""
        names = self.field2id_token[self.iid_field]
        assert [int(name) for name in names[1:]] == list(range(1, len(names))), (
            "item ids were remapped"
        )
