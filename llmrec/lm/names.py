"""Names of the language models that need neither a folder nor the hub."""

EMBEDDED, SCRATCH, TINY_NAME = "smollm2-135m", "scratch", "tiny"
BACKBONES = frozenset({EMBEDDED, SCRATCH, TINY_NAME})
