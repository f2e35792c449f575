"""S-DPO on TRL's DPOTrainer; the only file that uses private names of TRL.

DPOTrainer knows one rejected answer a row. This subclass lays out K of them and replaces its loss; the
reference is TRL's own: an adapter ``ref`` that it copies from the trained one when it is built. Rows, their
order, the optimizer, selection on validation and checkpoints are those of our own loop, so the two routes
differ in whose code does the forward passes and nothing else.
B rows, J = 1 + K answers a row, L tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from torch import Tensor
from trl.trainer import utils as trl_utils
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from bench.cell import SELECT_BY, Run
from bench.errors import ConfigError, Unavailable
from llmrec.lm.backbone import Backbone
from llmrec.preference.rows import PreferenceRow
from llmrec.preference.training import COLUMNS, PreferenceBatchLoss
from llmrec.training.arguments import arguments
from llmrec.training.loop import Recipe, Validate, drive, first_try
from llmrec.training.order import Shuffle
from llmrec.training.trainer import SelectingTrainer, Step

REFERENCE = "ref"  # the adapter's name inside DPOTrainer
# what is overridden or called, with the arguments it has to take
HOOKS: dict[str, tuple[str, ...]] = {
    "_prepare_dataset": ("self", "dataset", "processing_class", "args", "dataset_name"),
    "_set_signature_columns_if_needed": ("self",),
    "_compute_loss": ("self", "model", "inputs", "return_outputs"),
    "_save_checkpoint": ("self", "model", "trial"),
}
HELPERS: dict[str, tuple[str, ...]] = {
    "use_adapter": ("model", "adapter_name"),
    "add_fused_lm_head": ("model", "temperature", "cast_lm_head_to_fp32", "outputs"),
}


def changes() -> list[str]:
    """Names used here that the installed TRL lacks or has changed, one sentence each."""
    lost = []
    for owner, names in ((DPOTrainer, HOOKS), (trl_utils, HELPERS)):
        for name, wanted in names.items():
            found = getattr(owner, name, None)
            if found is None:
                lost.append(f"{name} is gone")
            elif tuple(inspect.signature(found).parameters) != wanted:
                lost.append(f"{name} takes {tuple(inspect.signature(found).parameters)}")
    source = inspect.getsource(DPOTrainer.__init__)
    lost += [
        f"DPOTrainer no longer says {phrase!r}"
        for phrase in (f'add_adapter("{REFERENCE}"', "add_fused_lm_head(", "self._metrics = ")
        if phrase not in source
    ]
    return lost


def check(lm: Backbone) -> None:
    """Refuse a model or a version of TRL that this route cannot work with.

    Raises:
        Unavailable: TRL has changed under us.
        ConfigError: no adapters, or soft tokens, which TRL would not embed.
    """
    other = "use the loss option route: shared_prefix"
    if lost := changes():
        raise Unavailable(f"trl {trl.__version__}: {'; '.join(lost)}; {other}, or pin trl==1.16.0")
    if not hasattr(lm.model, "peft_config"):
        raise ConfigError(
            f"route trl keeps its reference as an adapter, but all weights of {lm.name!r} are "
            f"trained; {other}"
        )
    if type(lm).embed is not Backbone.embed:
        raise ConfigError(f"route trl cannot embed collaborative vectors; {other}")


def train_with_trl(
    lm: Backbone,
    rows: Sequence[PreferenceRow],
    batch_loss: PreferenceBatchLoss,
    recipe: Recipe,
    run: Run,
    validate: Validate | None = None,
) -> None:
    """As ``llmrec.training.loop.tune``, with TRL's trainer; ``lm`` must be the start model.

    Args:
        lm: the start model, with adapters; trained in place.
        rows: training rows; their reference is left to TRL.
        batch_loss: the preference loss with its state.
        recipe: optimizer and schedule.
        run: seeds, device, folder, progress.
        validate: metrics of the model as it stands; None keeps the last epoch.

    Raises:
        ConfigError: the batch is no multiple of the micro-batch.
    """
    args = _arguments(recipe, run, len(rows), batch_loss)
    padding = lm.tokenizer.pad_token  # TRL sets it where there is none
    trainer = SeveralNegatives(
        model=lm.model,
        ref_model=None,
        args=args,
        data_collator=partial(collate, rows, batch_loss, lm.pad_id),
        train_dataset=Dataset.from_dict({"row": range(len(rows))}),
        processing_class=lm.tokenizer,
    )
    trainer.lend(lm, batch_loss, validate, Shuffle(len(rows), run.seed_for("batches")))
    trainer.micro_batch = args.per_device_train_batch_size
    try:
        drive(trainer, recipe, run, rows)
    finally:
        lm.model.delete_adapter(REFERENCE)
        lm.tokenizer.pad_token = padding


def _arguments(recipe: Recipe, run: Run, n_rows: int, batch_loss: PreferenceBatchLoss) -> Any:
    answers = 1 + batch_loss.loss.config.negatives
    micro = recipe.micro_batch or divisor(recipe.batch, first_try(recipe, run) // answers)
    if recipe.batch % micro:
        raise ConfigError(
            f"batch is {recipe.batch}; route trl needs a multiple of micro_batch ({micro})"
        )
    return arguments(
        recipe,
        run,
        n_rows,
        validating=False,  # DPOTrainer would want a dataset for it; see ``lend``
        kind=DPOConfig,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=recipe.batch // micro,
        beta=batch_loss.loss.config.beta,
        disable_dropout=not batch_loss.loss.config.dropout,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        optim="adamw_torch",
    )


def divisor(whole: int, most: int) -> int:
    """The largest divisor of ``whole`` that is at most ``most``, at least 1.

    Args:
        whole: a positive number.
        most: the bound.
    """
    return next((size for size in range(min(whole, most), 1, -1) if whole % size == 0), 1)


class SeveralNegatives(SelectingTrainer, DPOTrainer):
    """DPOTrainer for rows with K rejected answers, with the selection and checkpoints of our own loop."""

    batch_loss: PreferenceBatchLoss

    def lend(
        self,
        lm: Backbone,
        batch_loss: PreferenceBatchLoss,
        validate: Validate | None,
        order: Shuffle,
    ) -> None:
        """Give it what our own loop is built with; DPOTrainer's constructor has no arguments for these.

        Args:
            lm: the model whose weights are trained.
            batch_loss: the preference loss with its state.
            validate: metrics of the model as it stands; None for no validation.
            order: the order of the rows.
        """
        self.step_module, self.batch_loss = Step(lm, batch_loss), batch_loss
        self.validate, self.order = validate, order
        self.seconds, self.last_loss = 0.0, float("nan")
        if validate is not None:
            self.args.eval_strategy = self.args.save_strategy
            self.args.metric_for_best_model, self.args.greater_is_better = SELECT_BY, True

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # row numbers; the collator has the tokens

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]  # type: ignore[assignment]  # transformers infers None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # without TRL's model card
        self.seal_after(partial(super(DPOTrainer, self)._save_checkpoint, model, trial))

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        """Mean S-DPO loss of a micro-batch."""
        assert not return_outputs, "nobody asks for logits here"
        batch_loss = self.batch_loss
        batch_loss.tokens += int(inputs["attention_mask"].sum())
        log_prob_BJ = self._log_probs(model, inputs)
        with torch.no_grad(), trl_utils.use_adapter(self._bare(), adapter_name=REFERENCE):
            reference_BJ = self._log_probs(model, inputs)
        summed = batch_loss.judge(log_prob_BJ, reference_BJ)
        batch_loss.settle(self.step_module.lm, float(summed))
        loss = summed / self._rows_meant()
        for name, value in zip(COLUMNS[1:], batch_loss.latest[1:], strict=True):
            self._metrics["train"][name.replace("reward_", "rewards/")].append(value)
        self.last_loss = float(loss.detach())
        return loss

    def _rows_meant(self) -> float:
        """What the summed loss of a micro-batch is divided by; Trainer takes the mean over them.

        The last micro-batch of an epoch may be short, and its rows would then weigh more than the others.
        """
        args, n_all = self.args, len(self.order)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        before = self.state.global_step * batch % (-(-n_all // batch) * batch)
        return min(batch, n_all - before) / self.current_gradient_accumulation_steps

    def _bare(self) -> Any:
        return self.accelerator.unwrap_model(self.model)

    def _log_probs(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Log-probabilities of the answers, [B, J]; TRL's fused head does answer positions only."""
        ids = inputs["input_ids"]
        labels = ids.masked_fill(inputs["completion_mask"] == 0, -100)
        out = model(
            input_ids=ids,
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        size_J = 1 + self.batch_loss.loss.config.negatives
        return out.log_probs.float().sum(1).view(size_J, -1).T


def collate(
    rows: Sequence[PreferenceRow],
    batch_loss: PreferenceBatchLoss,
    pad: int,
    features: Sequence[Any],
) -> dict[str, Tensor]:
    """A batch for TRL: sequences as [positives, first negatives, ..., K-th negatives], right-padded.

    Args:
        rows: all training rows.
        batch_loss: knows the answers of the present epoch.
        pad: a token to fill up with.
        features: one mapping a row with its number under ``row``.

    Returns:
        ``input_ids``, ``attention_mask`` and ``completion_mask`` (1 at answer tokens), int64 [J * B, L]
        each.
    """
    chosen = [rows[int(feature["row"])] for feature in features]
    answer = batch_loss.log_probs.trie.answer
    size_J = len(batch_loss.answers(chosen[0]))
    pairs = [
        (row.prompt.ids, answer[int(batch_loss.answers(row)[j])])
        for j in range(size_J)
        for row in chosen
    ]
    longest = max(len(prompt) + len(tokens) for prompt, tokens in pairs)
    ids_PL = np.full((len(pairs), longest), pad, np.int64)
    real_PL, completion_PL = np.zeros_like(ids_PL), np.zeros_like(ids_PL)
    for pair, (prompt, tokens) in enumerate(pairs):
        end = len(prompt) + len(tokens)
        ids_PL[pair, :end] = np.concatenate([prompt, tokens])
        real_PL[pair, :end] = 1
        completion_PL[pair, len(prompt) : end] = 1
    names = ("input_ids", "attention_mask", "completion_mask")
    return dict(zip(names, map(torch.from_numpy, (ids_PL, real_PL, completion_PL)), strict=True))
