"""Imported once by the process that heavy cells are forked from: what takes long to import and they need.

Nothing here may start threads or open a device. A library that is missing is some cell's problem, not ours.
"""

import contextlib
import importlib
import os

from bench.execution import local

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _library in filter(None, os.environ.get(local.WANTED, "").split(",")):
    for _name in local.HEAVY[_library]:
        with contextlib.suppress(Exception):
            importlib.import_module(_name)
