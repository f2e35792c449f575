"""A record of a training for the paper's Figures 3, 4, 5 and 8 and for the course of the temperature.

A few training rows, always the same ones, are looked at before the first step and after some others: both
parts of the language-modelling loss with the norms of their gradients, the weights 1 - P, the valid logits,
and what the loss says of itself (``Loss.watch``). Any registered loss over answer tokens and any preference
loss can be looked at, the latter by its right answers. A look draws no random numbers and changes no
gradient, so the training is the same with it and without; dropout is off in it. R answer tokens, V
vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from bench import ranks
from bench.cell import Run
from bench.disk.sealed import read_note, set_aside, write_note
from bench.errors import DamagedError
from llmrec.lm.backbone import Backbone
from llmrec.losses.base import Answers
from llmrec.losses.lml import LML
from llmrec.training.packing import Example, lay_out, states
from llmrec.training.split import gradient_norm, histogram, moments, quantiles, split, weights
from llmrec.trie import Trie

FACT, FILE = "microscope", "microscope.json"
ROWS, LEAST_ROWS = 16, 2
LOOKS, LEAST_LOOKS = 60, 3
SHARE = 0.01  # of the row passes of a training that looks may cost; 2 % are promised
COST = 2.0  # of a row in a look (one forward, two backward passes), in training passes
PICTURES = 3  # looks with weights and histogram: first, middle, last
COURSE = 200  # steps at most whose own numbers of the loss are kept; they cost nothing


def valid_tokens(trie: Trie, answers: Answers, vocabulary: int) -> Tensor:
    """Which tokens continue some title at each row, bool [R, V].

    Args:
        trie: the catalogue.
        answers: the rows.
        vocabulary: V, rows of the head.
    """
    valid_RV = torch.zeros(len(answers), vocabulary, dtype=torch.bool)
    for row, node in enumerate(answers.node_R.tolist()):
        valid_RV[row, torch.from_numpy(trie.children(node)[0].astype(np.int64))] = True
    return valid_RV.to(answers.node_R.device)


def schedule(batch: int, steps: int, looks: int) -> tuple[int, list[int]]:
    """How many rows are looked at, and after which steps.

    Args:
        batch: rows of an optimizer step.
        steps: of the whole training.
        looks: how often, at all rows and whatever it costs; 0 for as often as ``SHARE`` of the training
            allows, three times at least and then at fewer rows.
    """
    passes = SHARE * batch * steps / COST
    wanted = looks or int(min(max(passes // ROWS, LEAST_LOOKS), LOOKS))
    rows = ROWS if looks else int(min(max(passes // wanted, LEAST_ROWS), ROWS))
    return rows, sorted({round(step) for step in np.linspace(0, steps, max(wanted, 2))})


class Microscope(TrainerCallback):
    """Callback that looks at a training and writes what it saw to ``run.facts``.

    Args:
        tuner: the trainer, with model and loss.
        rows: all training rows.
        run: its option ``microscope``, seed and folder.
    """

    def __init__(self, tuner: Any, rows: Sequence[Any], run: Run) -> None:
        self.tuner, self.rows, self.run = tuner, rows, run
        self.at: list[int] = []
        self.record: dict[str, Any] = {}
        self.examples: list[Example] = []
        self.done = False

    @property
    def path(self) -> Path:
        """Where the record is kept until the training has ended."""
        return self.run.folder / FILE

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Choose rows and steps; take up the record of a training that is resumed."""
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        n_rows, self.at = schedule(
            min(batch, len(self.rows)), state.max_steps, self.run.microscope or 0
        )
        rows = self.tuner.step_module.batch_loss.right_answers(self.rows)
        order = np.random.default_rng(self.run.seed_for("microscope")).permutation(len(rows))
        self.examples = [rows[row] for row in order[:n_rows]]
        self.record = {"rows": len(self.examples), "steps": state.max_steps, "seconds": 0.0}
        self.record |= {"looks": [], "course": []}
        if state.global_step and (earlier := self._earlier()):
            self.record = earlier
            for part in ("looks", "course"):
                kept = [one for one in self.record[part] if one["step"] <= state.global_step]
                self.record[part] = kept
        if state.global_step == 0:
            self._look(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what the loss says of itself, and look if it is time to; called behind the optimizer."""
        if state.global_step % -(-state.max_steps // COURSE) == 0:
            watched = self.tuner.step_module.batch_loss.loss.watch()
            numbers = {name: _short(value) for name, value in watched.items()}
            self.record["course"].append({"step": state.global_step, **numbers})
        self._look(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the record beside the checkpoint that a resumed training begins with."""
        self._keep()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell what part of the training's time the looks took, and hand the record over."""
        spent, trained = self.record["seconds"], self.tuner.seconds
        self.record["share_of_step_time"] = round(spent / trained, 5) if trained else None
        self.record["seconds"] = round(spent, 3)
        self.run.facts[FACT] = self.record

    def _look(self, state: Any) -> None:
        step = state.global_step
        seen = {look["step"] for look in self.record["looks"]}
        if self.done or step not in self.at or step in seen or not state.is_world_process_zero:
            return
        began = time.perf_counter()
        module = self.tuner.step_module
        training = module.training
        compiled = self.tuner.compiled
        try:
            with compiled.paused() if compiled else nullcontext():
                now = self._seen(self._picture(step))
            self.record["looks"].append({"step": step, **now})
        except Exception as fault:  # a look is no reason to lose a training
            self.done = True
            self.record["stopped"] = f"at step {step}: {' '.join(str(fault).split())[:200]}"
        finally:
            module.train(training)
        self.record["seconds"] += time.perf_counter() - began
        self._keep()

    def _earlier(self) -> dict[str, Any] | None:
        """The record of the training that is resumed; None if there is none, or none that can be used."""
        try:
            return read_note(self.path)
        except FileNotFoundError:
            return None
        except DamagedError as damage:
            set_aside(damage)
            return None

    def _keep(self) -> None:
        if ranks.rank() == 0:
            write_note(self.path, self.record)

    def _picture(self, step: int) -> bool:
        return step in {self.at[round(x)] for x in np.linspace(0, len(self.at) - 1, PICTURES)}

    def _seen(self, picture: bool) -> dict[str, Any]:
        module = self.tuner.step_module
        module.eval()  # without dropout nothing is drawn from the generators of the training
        return look(module.lm, module.batch_loss, self.examples, picture=picture)


def look(
    lm: Backbone, batch_loss: Any, examples: Sequence[Example], *, picture: bool = True
) -> dict[str, Any]:
    """What a model and a loss look like on these rows.

    Args:
        lm: the model, in evaluation mode.
        batch_loss: gives trie, shared opening and the loss's own numbers.
        examples: training rows.
        picture: whether weights and histogram are wanted.
    """
    trie: Trie = batch_loss.trie
    every = LML(None, trie, vocabulary=lm.vocabulary, avt=1.0)  # it reaches all answer tokens
    layout = lay_out(examples, trie, every, pad=lm.pad_id, shared=batch_loss.shared).to(lm.device)
    watched = dict(batch_loss.loss.watch())
    with torch.enable_grad():
        logits_RV = lm.head.logits(states(lm, layout))
        token_R = layout.answers.token_R
        valid_RV = valid_tokens(trie, layout.answers, logits_RV.shape[1])
        parts = split(logits_RV, valid_RV, token_R)
        trained = lm.trainable().values()
        norms = [gradient_norm(part_R.mean(), trained) for part_R in parts]
    logits_RV, first_R, second_R = logits_RV.detach(), *(part_R.detach() for part_R in parts)
    gap, variance = moments(logits_RV, valid_RV, token_R)
    numbers = {
        "first": float(first_R.mean()),
        "second": float(second_R.mean()),
        "first_norm": norms[0],
        "second_norm": norms[1],
        "valid_mass": float((-first_R).exp().mean()),
        "gap": gap,
        "variance": variance,
        **watched,
    }
    found: dict[str, Any] = {name: _short(value) for name, value in numbers.items()}
    if picture:
        weight = weights(logits_RV, valid_RV, token_R, watched.get("tau", 1.0))
        found["weights"] = {name: quantiles(values_S) for name, values_S in weight.items()}
        found["logits"] = histogram(logits_RV, valid_RV)
    return found


def _short(value: float) -> float:
    return float(f"{value:.6g}")
