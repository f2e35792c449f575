"""``python -m tests.pinned [METHOD ...]``: write the pinned results anew."""

import sys

from tests.pinned.runs import names, write

for name in write(sys.argv[1:] or names()):
    print(name, flush=True)
