"""Training losses, one a file: a plain function, and a class with the state it carries."""

from llmrec.losses.base import Answers, Loss

__all__ = ["Answers", "Loss"]
