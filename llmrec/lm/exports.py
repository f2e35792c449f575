"""A tuned language model as a folder that peft or transformers opens."""

from __future__ import annotations

import copy
from pathlib import Path

from bench.errors import ConfigError
from llmrec.lm.backbone import Backbone

PEFT, HF = "peft", "hf"
FORMS = (PEFT, HF)


def export(lm: Backbone, folder: Path, *, form: str) -> None:
    """Write the model.

    ``peft`` writes the adapters alone, for ``PeftModel.from_pretrained(base, folder)``; ``hf`` the whole
    model with the adapters folded into its weights, and the tokenizer, for ``AutoModelForCausalLM``.

    Args:
        lm: the model after training.
        folder: an existing folder.
        form: ``peft`` or ``hf``.

    Raises:
        ConfigError: the model has no adapters, its vocabulary is cut to the tokens that occur, or its weights
            are quantised, so that no folder of that form says what it is.
    """
    if form not in FORMS:
        raise ConfigError(f"form {form!r} of a model is not known; allowed: {', '.join(FORMS)}")
    if not lm.pretrained:
        raise ConfigError(
            f"{lm.name} was trained from random weights over the tokens that occur; no standard tokenizer "
            "reads its vocabulary, so it cannot be exported"
        )
    if form == PEFT:
        if not hasattr(lm.model, "peft_config"):
            raise ConfigError(
                "all weights were trained (lora_r: 0), there are no adapters; use --hf"
            )
        lm.model.save_pretrained(folder)
        return
    if lm.quant is not None:
        raise ConfigError(f"weights of {lm.quant} bits cannot be merged; use --peft")
    # merging changes the weights in place, and the caller's model is to stay as it is
    whole = copy.deepcopy(lm.model)
    plain = whole.merge_and_unload() if hasattr(whole, "peft_config") else whole
    plain.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
