"""``python -m llmrec.support [FAMILY ...]``: writes docs/models.md, or prints the lines of some families."""

import sys
import warnings
from pathlib import Path

import torch
import transformers

from llmrec.support.families import families
from llmrec.support.matrix import family_line
from llmrec.support.page import markdown

PAGE = Path("docs/models.md")

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
lines = []
for name in sys.argv[1:] or families():
    lines.append(family_line(name))
    print(f"{name}: {lines[-1].outcome}; {lines[-1].said}", flush=True)
if not sys.argv[1:]:
    PAGE.write_text(markdown(lines, transformers.__version__))
