"""Whether a language model can be had here, told before anything runs and without loading it."""

from __future__ import annotations

import re
from functools import cache

from bench.errors import Unavailable
from bench.method import Method
from bench.results.model_files import model_content

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WAIT = 10.0  # seconds for an answer of the hub


def require_backbone(method: type[Method], name: str, *, look: bool) -> None:
    """Check that a backbone is known to the method, is on this machine, or is a model of the hub.

    Args:
        method: knows the names of models that come with the suite.
        name: of the backbone.
        look: ask the hub, as the user named the model; else any id of its form is taken.

    Raises:
        Unavailable: it is none of these; says what would do.
    """
    if name in method.backbones or model_content(name):
        return
    why = _missing(name) if look or not HUB_ID.fullmatch(name) else ""
    if why:
        known = ", ".join(sorted(method.backbones))
        raise Unavailable(
            f"backbone {name!r} {why}; give one of {known}, a folder with config.json and safetensors, a "
            ".gguf file, or the id of a model on the hub"
        )


@cache
def _missing(name: str) -> str:
    """Why a model cannot be had from the hub or its cache; empty if it can."""
    if not HUB_ID.fullmatch(name):
        return "is neither a known name nor a folder or file with a model"
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return ""
    if constants.HF_HUB_OFFLINE:
        return "is not in the hub's cache, and HF_HUB_OFFLINE is set"
    try:
        HfApi().model_info(name, timeout=WAIT)
    except RepositoryNotFoundError:
        return "is not on the hub, or not for your token"
    except HfHubHTTPError as fault:
        return f"cannot be looked up on the hub ({str(fault).splitlines()[0]})"
    except Exception as fault:  # whichever library carries the request has errors of its own
        return f"is not in the hub's cache, and the hub cannot be reached ({type(fault).__name__})"
    return ""
