"""What the soft-token tests share: a tiny model with slots, and methods fitted on the toy data."""

from __future__ import annotations

import numpy as np
import torch

from bench.cell import Run
from bench.conformance import toy_data
from bench.method import configure, keep
from bench.registry import methods
from bench.types import Catalogue
from llmrec.generative.llara import projector
from llmrec.lm import backbone
from llmrec.lm.soft_tokens import ItemVectors, SoftBackbone, SoftTokens
from llmrec.lm.soft_users import Numbering, Users
from llmrec.prompt import Style
from llmrec.trie import for_titles

TITLES = ("", *(f"The {a} {b}" for a in ("red", "blue", "green") for b in ("kite", "ball", "doll")))
UNSEEN = 9
TOY = toy_data()


class Soft:
    """A tiny model whose prompts have item slots and a user slot; item 9 is unseen."""

    def __init__(self, *, unseen="placeholder", curriculum=None, frozen=False, lora=False):
        rng = np.random.default_rng(0)
        self.vector_ND = rng.normal(size=(len(TITLES), 8)).astype(np.float32)
        seen_N = np.ones(len(TITLES), bool)
        seen_N[[0, UNSEEN]] = False
        self.encoded = []
        self.users = Users(self.encode, seen_N, np.full(8, 0.5, np.float32))
        items = ItemVectors.of(self.vector_ND, seen_N, unseen)
        lm = backbone.load("tiny", seed=0)
        if lora:
            lm.model = backbone.adapted(lm.model, backbone.Lora(dropout=0.0), seed=1)
        torch.manual_seed(2)
        maps = {"item": projector(8, 48), "user": projector(8, 48)}
        soft = SoftTokens(items, width=48, users=self.users, **maps)
        self.lm = SoftBackbone(lm, soft, curriculum=curriculum, frozen=frozen)
        self.trie = for_titles(TITLES, lm.tokenizer)
        self.prompter = Numbering(
            Catalogue(TITLES, "toy"), lm.tokenizer, style=Style(item_slots=True, user_slot=True)
        )
        self.prompter.users = self.users

    def encode(self, history):
        self.encoded += [tuple(row.tolist()) for row in history]
        return np.stack([self.vector_ND[row].mean(0) for row in history])

    def logits(self, history, *, train=False):
        """Of the last position of the prompt, by the library's own forward pass."""
        self.lm.train(train)
        prompt = self.prompter.prompt(history)
        ids, slots = (
            torch.from_numpy(x.astype(np.int64))[None] for x in (prompt.ids, prompt.slots)
        )
        return self.lm.causal(inputs_embeds=self.lm.embed(ids, slots)).logits[0, -1]


def fit(name, folder, config=None, *, inputs=None, loss=None, progress=None, train=None):
    """A method fitted on toy data and saved under ``folder / "model"``."""
    kind = methods.get(name)
    toy = {key: value for key, value in kind.toy.items() if key != "backbone"}
    decoder = "beam" if kind.decodes else None
    values = configure(kind, {**toy, **(config or {})})
    config = kind.complete(values, loss=loss, decoder=decoder)
    method = kind(config, loss=loss, decoder=decoder, backbone="tiny" if kind.decodes else None)
    folder.mkdir(parents=True, exist_ok=True)
    more = {"progress": progress} if progress else {}
    run = Run(seed=3, device="cpu", folder=folder, inputs=inputs or {}, **more)
    method.fit(train or TOY.train, TOY.valid, run)
    keep(method, folder / "model")
    return method, run


class Stop(Exception):
    pass


def stop_at(step):
    """Progress that interrupts a training."""

    def progress(done, total, **_):
        if done == step:
            raise Stop

    return progress
