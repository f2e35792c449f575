"""The errors a user can cause, and nothing else.

Each carries the wrong value, what is allowed and the next step in one line; the CLI prints that line
and exits with 2. What we did wrong ourselves stays an assertion or a plain exception with its trace.
"""

from pathlib import Path


class BenchError(Exception):
    """Base of everything the command line reports as one line instead of a trace."""


class DataError(BenchError, ValueError):
    """A dataset that cannot be read as it stands: names the file, the line and the repair."""


class SuiteError(BenchError, ValueError):
    """A suite with faults; the message lists every one of them."""


class UnknownName(BenchError, KeyError):
    """A name no registry knows, with the nearest known ones."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConfigError(BenchError, ValueError):
    """A configuration value out of range, or a key that the configuration does not have."""


class ArtefactError(BenchError, RuntimeError):
    """An artefact that is missing or belongs to other data, with the command that makes it."""


class DamagedError(ArtefactError):
    """An artefact whose bytes are not those that were written; it is set aside and made again.

    Args:
        path: what is to be set aside, a file or a folder.
        why: what is wrong with it.
        mend: the next step for whoever reads the message.
    """

    def __init__(
        self, path: Path, why: str, mend: str = "run the same command again, it is made anew"
    ) -> None:
        super().__init__(path, why, mend)
        self.path, self.why, self.mend = path, why, mend

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; {self.mend}"


# how libraries under torch say that a GPU's memory ran out, beside torch's own OutOfMemoryError
NO_MEMORY = ("CUDA error: out of memory", "ALLOC_FAILED", "mha_graph.execute")


def out_of_memory(fault: BaseException) -> bool:
    """Whether a fault says that the memory of a GPU ran out."""
    # by name, as torch may not be loaded
    return type(fault).__name__ == "OutOfMemoryError" or any(x in str(fault) for x in NO_MEMORY)


class ContractError(BenchError, RuntimeError):
    """A method that broke its contract (shape, range, repeats, non-finite loss)."""


class Unavailable(BenchError, RuntimeError):
    """Something this machine lacks (an extra, a GPU, a file), with how to get it.

    A cell that raises it is *left out* with the reason, not failed.
    """


class StorageError(BenchError, OSError):
    """Nothing can be written where rows or artefacts go: names the path and what to do; the run stops."""
