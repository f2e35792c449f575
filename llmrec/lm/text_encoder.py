"""Texts as vectors: titles and rationales, for methods that use text beside item ids.

Encoders by name (the value of a method's ``text_encoder`` key):

- ``minilm``: all-MiniLM-L6-v2, 384 dimensions, from a package that is installed by name (no hub);
- ``backbone``: the language model's own states of the last layer, averaged over the text's tokens;
- ``hash``: counts of words and letter trigrams in 256 signed buckets, a bag of words without any model;
- a local folder with a transformers encoder (its own pooling file is obeyed).

Axes: T texts, L tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.cell import digest
from bench.disk.sealed_arrays import read_array, write_array
from bench.errors import Unavailable
from llmrec.lm import minilm
from llmrec.lm.backbone import Backbone

MINILM, BACKBONE, HASH = "minilm", "backbone", "hash"
Pooling = Literal["mean", "last", "cls"]
BATCH = 64
LONGEST = 256


class TextEncoder(torch.nn.Module):
    """A differentiable map from texts to vectors.

    Attributes:
        identity: names the weights and the pooling; part of every cache key.
        width: D.
        trainable: whether it has parameters of its own that may be fine-tuned.
    """

    identity: str
    width: int
    trainable: bool = True

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch of texts, float32 [T, D], with gradients, not normalised."""
        raise NotImplementedError


class Transformer(TextEncoder):
    """A bidirectional encoder from a local folder (MiniLM, BGE, SBERT ...).

    Args:
        folder: transformers model with safetensors; ``1_Pooling/config.json`` chooses mean or CLS pooling.
        name: what messages and cache keys call it.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self.model = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as fault:
            first = str(fault).strip().splitlines()[0]
            raise Unavailable(
                f"text_encoder {name!r} cannot be loaded ({first}); give a folder with safetensors"
            ) from fault
        self.pooling = _pooling_of(folder)
        self.width = int(self.model.config.hidden_size)
        self.identity = f"{name}:{_weights_hash(folder)}:{self.pooling}"

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch of texts, float32 [T, D]."""
        longest = min(LONGEST, int(self.tokenizer.model_max_length))
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.model.device)
        return pool(self.model(**batch).last_hidden_state, batch["attention_mask"], self.pooling)


class BackboneEncoder(TextEncoder):
    """Final hidden states of a causal language model, its adapters switched off.

    Args:
        lm: the backbone.
        pooling: ``mean`` over the tokens, or ``last`` as in BIGRec's grounding.
    """

    trainable = False

    def __init__(self, lm: Backbone, *, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.lm, self.pooling = lm, pooling
        self.width = int(lm.head.weight_VD.shape[1])
        self.identity = f"{lm.name}:{_base_hash(lm)}:{pooling}"

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch of texts, float32 [T, D]."""
        ids_BL, mask_BL = left_padded(self.lm, texts)
        with adapters_off(self.lm):
            embeds_BLD = self.lm.causal.get_input_embeddings()(ids_BL)
            hidden_BLD, _ = self.lm.body(
                embeds_BLD=embeds_BLD, ids_BL=ids_BL, attention_mask=mask_BL
            )
        return pool(hidden_BLD, mask_BL, self.pooling)


class Hashed(TextEncoder):
    """Feature hashing: words and letter trigrams, each counted with a sign, in the bucket of its hash."""

    identity = "hash:256"
    width = 256
    trainable = False

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch of texts, float32 [T, 256]."""
        vectors_TD = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                marked = f"<{word}>"
                for piece in (word, *(marked[i : i + 3] for i in range(len(marked) - 2))):
                    made = hashlib.blake2b(piece.encode(), digest_size=4).digest()
                    code = int.from_bytes(made, "big")
                    vectors_TD[row, (code >> 1) % self.width] += 1 if code & 1 else -1
        return torch.from_numpy(vectors_TD)


def load_encoder(
    encoder: str, *, device: str = "cpu", lm: Backbone | None = None, key: str = "text_encoder"
) -> TextEncoder:
    """An encoder by name, in evaluation mode; call ``.train()`` to fine-tune it.

    Args:
        encoder: ``minilm``, ``backbone``, ``hash`` or a local folder.
        device: where to put it.
        lm: the language model that ``backbone`` means.
        key: the config key that named it, for the message.

    Raises:
        Unavailable: there is no such encoder on this machine; names the key.
    """
    if encoder == HASH:
        return Hashed()
    if encoder == MINILM:
        return Transformer(minilm.folder(), name=MINILM).to(device).eval()
    if encoder == BACKBONE and lm is not None:
        return BackboneEncoder(lm).eval()
    folder = Path(encoder).expanduser()
    if encoder != BACKBONE and folder.is_dir():
        return Transformer(folder, name=folder.name).to(device).eval()
    why = "needs a language model" if encoder == BACKBONE else "is neither a name nor a folder"
    raise Unavailable(
        f"{key} is {encoder!r}, which {why}; known: {MINILM}, {BACKBONE} (with a backbone), {HASH}, "
        "or a local folder with a sentence encoder in safetensors"
    )


def encode_text(
    texts: Sequence[str],
    *,
    encoder: str | TextEncoder,
    device: str = "cpu",
    cache_folder: Path | None = None,
    normalised: bool = False,
    lm: Backbone | None = None,
) -> npt.NDArray[np.float32]:
    """Vectors of many texts, each distinct text encoded once, float32 [T, D].

    Args:
        texts: any strings; an empty one has a vector of zeros.
        encoder: a name for ``load_encoder`` or an encoder already loaded.
        device: where to compute.
        cache_folder: if given, the vectors are kept there under a hash of texts and encoder.
        normalised: whether to scale each vector to length 1.
        lm: the language model that ``backbone`` means.

    Raises:
        Unavailable: there is no such encoder on this machine.
    """
    texts = [text.strip() for text in texts]
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, device=device, lm=lm)
    kept = None
    if cache_folder is not None:
        kept = Path(cache_folder) / f"text-{digest([encoder.identity, texts])[:16]}.npy"
    vectors_TD = None if kept is None else read_array(kept)
    if vectors_TD is None:
        vectors_TD = _encode_all(encoder, texts)
        if kept is not None:
            write_array(kept, vectors_TD)
    if not normalised:
        return vectors_TD
    length_T1 = np.linalg.norm(vectors_TD, axis=1, keepdims=True)
    return vectors_TD / np.where(length_T1 > 0, length_T1, 1)


@torch.inference_mode()
def _encode_all(encoder: TextEncoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    # texts of similar length share a batch, which saves padding
    distinct = sorted(set(texts) - {""}, key=lambda text: (len(text), text))
    table = {"": np.zeros(encoder.width, np.float32)}
    for start in range(0, len(distinct), BATCH):
        part = distinct[start : start + BATCH]
        table |= dict(zip(part, encoder(part).float().cpu().numpy(), strict=True))
    for module in training:
        module.training = True
    found = [table[text] for text in texts]
    return np.stack(found) if found else np.zeros((0, encoder.width), np.float32)


def pool(hidden_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    """One vector a row: mean over the tokens, the last token or the first one, float32 [B, D].

    Args:
        hidden_BLD: final hidden states.
        mask_BL: 1 at tokens, 0 at padding.
        pooling: ``mean``, ``last`` or ``cls``.
    """
    hidden_BLD, weight_BL1 = hidden_BLD.float(), mask_BL[..., None].float()
    if pooling == "mean":
        return (hidden_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)
    place_BL = torch.arange(mask_BL.shape[1], device=mask_BL.device) * mask_BL
    rows_B = torch.arange(len(mask_BL), device=mask_BL.device)
    if pooling == "last":
        return hidden_BLD[rows_B, place_BL.argmax(1)]
    return hidden_BLD[rows_B, mask_BL.int().argmax(1)]


def left_padded(lm: Backbone, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and mask of plain texts, as this model's tokenizer starts a text, int64 [B, L] each.

    Args:
        lm: the model whose tokenizer reads the texts.
        texts: any strings; an empty one becomes the padding token.
    """
    from llmrec.prompt import bos_of
    from llmrec.trie import text_tokens

    front, rows = bos_of(lm.tokenizer), text_tokens(lm.tokenizer, texts)
    rows = [[*front, *row][: LONGEST * 2] or [lm.pad_id] for row in rows]
    longest = max(map(len, rows))
    ids_BL = torch.tensor([[lm.pad_id] * (longest - len(row)) + row for row in rows])
    mask_BL = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids_BL.to(lm.device), mask_BL.to(lm.device)


@contextmanager
def adapters_off(lm: Backbone) -> Iterator[None]:
    """The base model without its adapters; nothing changes for a model that has none."""
    with lm.model.disable_adapter() if hasattr(lm.model, "disable_adapter") else nullcontext():
        yield


def _pooling_of(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    return "cls" if json.loads(path.read_text()).get("pooling_mode_cls_token") else "mean"


def _weights_hash(folder: Path) -> str:
    made = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                made.update(block)
    return made.hexdigest()[:12]


def _base_hash(lm: Backbone) -> str:
    """A hash that tells two sets of base weights apart: sums over each tensor, adapters left out."""
    sums = {
        name.replace(".base_layer", ""): (list(p.shape), float(p.detach().double().sum()))
        for name, p in lm.causal.named_parameters()
        if "lora_" not in name and p.is_floating_point()
    }
    return digest(sums)[:12]
