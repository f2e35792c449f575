"""Pretrained language models from a package, a folder, a file or the hub, and their configurations."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from bench.errors import ConfigError, Unavailable
from llmrec.lm import smollm2
from llmrec.lm.names import EMBEDDED, SCRATCH, TINY_NAME
from llmrec.lm.scratch import TINY, llama, tiny_tokenizer


def pretrained(name: str, *, dtype: torch.dtype, device: str, quant: int | None) -> tuple[Any, Any]:
    """A Hugging Face model and its tokenizer.

    Args:
        name: ``smollm2-135m``, a folder, a ``.gguf`` file or a hub id.
        dtype: of the weights.
        device: where to put it.
        quant: 8 or 4 for quantised frozen weights.

    Raises:
        Unavailable: the weights or a package are missing; says how to get them.
        ConfigError: another number of bits.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = _source(name)
    extra: dict[str, Any] = {"use_safetensors": True}
    if quant is not None:
        extra |= {"quantization_config": _quantisation(quant, dtype), "device_map": {"": device}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, trust_remote_code=False, **extra
        )
    except (OSError, ValueError) as fault:
        first = str(fault).strip().splitlines()[0]
        raise Unavailable(
            f"backbone {name!r} cannot be loaded ({first}); give a local folder with safetensors, "
            f"a .gguf file, {EMBEDDED!r}, {SCRATCH!r}, or a hub id this machine can download"
        ) from fault
    return (model if quant is not None else model.to(device)), tokenizer


def config_named(name: str) -> Any:
    """The configuration of a backbone by name, without its weights.

    Args:
        name: as ``load`` takes it.

    Raises:
        Unavailable: there is no such model here.
    """
    from transformers import AutoConfig

    if name in {SCRATCH, TINY_NAME}:
        tokenizer = tiny_tokenizer()
        return llama(TINY, len(tokenizer), tokenizer, 0).config
    try:
        return AutoConfig.from_pretrained(_source(name), trust_remote_code=False)
    except (OSError, ValueError) as fault:
        first = str(fault).strip().splitlines()[0]
        raise Unavailable(f"backbone {name!r} cannot be read ({first})") from fault


def _source(name: str) -> str:
    """The folder or hub id that transformers opens for this name."""
    if name == EMBEDDED:
        return str(smollm2.folder())
    return str(smollm2.unpacked(Path(name).resolve())) if name.endswith(".gguf") else name


def _quantisation(bits: int, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if bits not in {4, 8}:
        raise ConfigError(f"quant is {bits}; allowed are 8, 4 and None")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Unavailable(
            f"{bits}-bit weights need bitsandbytes: pip install 'msl-bench[quant]', or quant: null"
        )
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
