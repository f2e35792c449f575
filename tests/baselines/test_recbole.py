"""RecBole stays where it was put: no log folders, no ray, no command line, no lasting changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]


def test_a_key_that_nobody_reads_is_found(tmp_path):
    from baselines import _recbole as rb

    config = rb.settings(rb.SASRec, {"hiden_size": 8}, folder=tmp_path, device="cpu")
    with pytest.raises(AssertionError, match="hiden_size"):
        config.check_all_read()


QUIET = """
import os, sys, numpy as np
sys.argv = ["x", "--learning_rate=7", "--seed=9"]
sys.path.insert(0, {house!r})
os.environ["CUDA_VISIBLE_DEVICES"] = "3"
old = ("float_", "complex_", "unicode_", "bool", "int", "float", "object", "str", "long")
names = {{n: vars(np).get(n) for n in old}}
import torch
from baselines import _recbole as rb
config = rb.settings(rb.SASRec, {{"learning_rate": 0.5}}, folder={folder!r}, device="cpu")
assert config["learning_rate"] == 0.5 and sys.argv[1:] == ["--learning_rate=7", "--seed=9"]
assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
assert names == {{n: vars(np).get(n) for n in old}}
assert not torch.is_anomaly_enabled()
loaded = [m for m in sys.modules if m.split(".")[0] in ("ray", "tensorboard", "wandb")]
assert not loaded and "recbole.quick_start" not in sys.modules, loaded
assert "torch.utils.tensorboard" not in sys.modules
assert not os.listdir("."), os.listdir(".")
"""


def test_recbole_is_kept_in_bounds(tmp_path):
    code = QUIET.format(house=str(HOUSE), folder=str(tmp_path / "run"))
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "empty", capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stdout, done.stderr


def test_naming_a_method_loads_neither_torch_nor_recbole():
    code = (
        "import sys; from bench.registry import methods; "
        "[methods.get(n)() for n in ('sasrec', 'bert4rec', 'dros')]; "
        "sys.exit(bool({'torch', 'recbole'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=HOUSE).returncode == 0
