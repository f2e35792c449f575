"""Set up a preference training for a generative method, on our own training loop or on TRL's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from bench.cell import Run
from bench.method import configure
from bench.types import Windows
from llmrec.lm.backbone import Backbone
from llmrec.lm.soft_tokens import SoftBackbone
from llmrec.preference.base import PreferenceConfig, PreferenceLoss
from llmrec.preference.reference import Batches, coarse, with_reference
from llmrec.preference.rows import preference_rows, without_model
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.training.loop import Recipe, Training, first_try, tune
from llmrec.training.shared_prefix import LogProbs

if TYPE_CHECKING:
    from llmrec.generative._generative import Generative


def preference_training(
    kind: type[PreferenceLoss], method: Generative, train: Windows, run: Run
) -> Training:
    """Everything a preference training of ``method.lm`` needs; the model must be the start model.

    Args:
        kind: the loss.
        method: prompts, catalogue, options and the model that is also the reference.
        train: training rows.
        run: seeds and folder.

    Raises:
        ConfigError: an option out of range, too few titles, or a route the backbone cannot take.
        DataError: a row that does not fit the cutoff even with one history item.
        ContractError: a reference log-probability is not finite.
    """
    vocabulary = min(method.lm.vocabulary, len(method.lm.tokenizer))
    config: Any = configure(kind, method.config.loss_options, stored=True)
    avt = method.trie.avt(train.target_W)
    loss = kind(config, method.trie, vocabulary=vocabulary, avt=avt)
    recipe = recipe_of(config, method, len(train)) if kind.starts_tuned else method.recipe()
    lm = _ready(method.lm, config) if kind.starts_tuned else method.lm
    shared = method.prompter.shared if method.layouts.share_opening else 0
    log_probs = LogProbs(
        loss,
        method.trie,
        shared,
        together=method.layouts.together,
        packed=method.layouts.packed,
    )
    steps = -(-len(train) // recipe.batch)
    batch_loss = PreferenceBatchLoss(loss, log_probs, steps_per_epoch=steps)
    seed = run.seed_for("negatives")
    rows = preference_rows(method, train, config, seed=seed, epochs=recipe.epochs)
    run.facts["history_dropped"] = sum(row.prompt.dropped for row in rows)
    if not kind.starts_tuned:
        loss.observe_targets(method.trie.leaf_of_item_N[train.target_W])
        return Training(without_model(rows, loss.reference_of_title()), batch_loss, recipe)
    if config.route == "trl":
        from llmrec.preference.trl_trainer import check, train_with_trl

        check(lm)
        return Training(rows, batch_loss, recipe, train_with_trl)
    wide = 1 if log_probs.together else 1 + config.negatives
    size = max(1, (recipe.micro_batch or first_try(recipe, run)) // wide)
    seed = run.seed_for("batches")
    batches = Batches(size=size, step=recipe.batch, seed=seed, room=log_probs.room)
    return Training(with_reference(lm, rows, log_probs, batches, run), batch_loss, recipe, tune)


def recipe_of(config: PreferenceConfig, method: Generative, n_rows: int) -> Recipe:
    """Hyperparameters of the optimizer: some from the loss's options, the others from the method's.

    Args:
        config: the loss's options.
        method: its batch size and reporting are taken.
        n_rows: training rows.
    """
    given = method.config
    total = -(-n_rows // given.batch) * config.epochs
    return Recipe(
        epochs=config.epochs,
        lr=config.lr if method.lm.pretrained else config.scratch_lr,
        batch=given.batch,
        warmup_steps=round(config.warmup * total),
        schedule=config.schedule,
        micro_batch=given.micro_batch,
        clip=config.clip,
        patience=given.patience,
        # policy and reference are the same numbers in 16 bits only if the same code computes both
        compile="off" if given.compile == "auto" and coarse(method.lm) else given.compile,
        tf32=given.tf32,
        report_to=given.report_to,
    )


def _ready(lm: Backbone, config: PreferenceConfig) -> Backbone:
    """The model with collaborative vectors always shown and dropout as configured."""
    # the reference was computed with the vectors, and the policy has to see the same prompts
    if isinstance(lm, SoftBackbone):
        lm.curriculum = None
    if not config.dropout:
        modules: Iterable[Any] = lm.modules()
        for module in modules:
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):  # as T5's attention has it
                module.dropout = 0.0
    return lm
