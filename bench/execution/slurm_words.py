"""The words of ``--slurm`` as options of sbatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import ConfigError

# words of --slurm and the options of sbatch; time is in minutes
WORDS = {
    "partition": "--partition", "time": "--time", "cpus": "--cpus-per-task", "mem": "--mem",
    "gpus": "--gpus-per-node", "account": "--account", "qos": "--qos", "constraint": "--constraint",
    "at_once": "",
}  # fmt: skip
LEAST = {"time": 1, "cpus": 1, "gpus": 0, "at_once": 1}  # of those that are whole numbers


@dataclass(frozen=True)
class Queue:
    """How jobs are asked for.

    Attributes:
        words: what --slurm says, its defaults filled in.
    """

    words: Mapping[str, str]

    @property
    def at_once(self) -> int:
        """Most jobs in the queue at a time."""
        return int(self.words["at_once"])

    @property
    def gpus(self) -> int:
        """GPUs of a job."""
        return int(self.words.get("gpus", "0"))

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``, where the jobs run."""
        return "cuda" if self.gpus else "cpu"

    @property
    def there(self) -> dict[str, Any]:
        """What an order says of where the jobs run, see ``bench.api.Order``."""
        cores = int(self.words["cpus"])
        return {
            "device": self.device,
            "gpus_there": self.gpus,
            "at_once": self.at_once,
            "cores_there": cores,
        }

    @property
    def options(self) -> list[str]:
        """The same words as options of sbatch."""
        given = {WORDS[name]: value for name, value in self.words.items() if value != "0"}
        return [f"{option}={value}" for option, value in given.items() if option]


def read_words(words: str) -> Queue:
    """Read ``partition=gpu,time=240,cpus=8,gpus=1,mem=32GB,at_once=16``.

    Raises:
        ConfigError: a word that is not understood.
    """
    found = {"time": "240", "cpus": "1", "at_once": "64"}
    for word in filter(None, map(str.strip, words.split(","))):
        name, _, value = map(str.strip, word.partition("="))
        if name not in WORDS or not value:
            known = ", ".join(WORDS)
            raise ConfigError(f"--slurm does not know {word!r}; it knows {known}, as name=value")
        least = LEAST.get(name)
        if least is not None and not (value.isdecimal() and int(value) >= least):
            raise ConfigError(f"--slurm {word}: it must be a whole number from {least} up")
        found[name] = value
    return Queue(found)
