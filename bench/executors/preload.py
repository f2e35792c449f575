"""Imported once by the process that cells are forked from: everything heavy that a cell may need.

Nothing here may start threads or open a device. A library that is missing is some cell's problem, not ours.
"""

import contextlib
import importlib
import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in (
    "torch",
    "bench.runner",
    "bench.data",
    "baselines._recbole",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "peft",
):
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
