"""What the decoder tests share: a small random model, random prompts and tries, and the dull scorer."""

from __future__ import annotations

import numpy as np
import torch

from llmrec.decode.rule import Rule
from llmrec.lm.backbone import Backbone, load
from llmrec.prompt import Prompt
from llmrec.trie import Trie, for_titles

TITLES = (
    "",
    "Dune",
    "Dune Messiah",
    "Dune",
    "Emma",
    "The Read",
    "The Reader",
    "The Reader of Books",
    "",
    "A Context, Provided",
    "A Context",
    "Instruction Manual",
    "Input: Output",
)


def model(seed: int = 0, gain: float = 8.0) -> Backbone:
    """The tiny backbone with sharper predictions, so that neighbours in a list are no ties."""
    lm = load("tiny", seed=seed)
    with torch.no_grad():
        for parameter in lm.model.model.layers.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
        lm.model.get_input_embeddings().weight.mul_(gain)
    return lm.eval()


def title_trie(lm: Backbone) -> Trie:
    return for_titles(TITLES, lm.tokenizer)


def random_trie(lm: Backbone, seed: int, *, n_items: int = 60, longest: int = 9) -> Trie:
    """Random answers over few tokens: repeated titles, prefixes of one another, unary chains, tails."""
    chance = np.random.default_rng(seed)
    tokens = chance.choice(np.arange(10, 400), 14, replace=False)
    paths = []
    for _ in range(n_items):
        if paths and chance.random() < 0.3:  # a known title, or its beginning, and more of the same
            paths.append([*paths[chance.integers(len(paths))]])
            paths[-1] = paths[-1][: chance.integers(len(paths[-1]) + 1)]
        else:
            paths.append([])
        paths[-1] += chance.choice(tokens, chance.integers(0, longest)).tolist()
    eos = lm.tokenizer.eos_token_id
    return Trie.of([[*path, eos] for path in paths], eos)


def random_prompts(n: int, seed: int = 0) -> list[Prompt]:
    chance = np.random.default_rng(seed)
    prompts = []
    for _ in range(n):
        ids = np.concatenate([[20, 21, 22], chance.integers(10, 400, chance.integers(2, 15))])
        prompts.append(Prompt(ids.astype(np.int32), np.zeros(len(ids), np.int32)))
    return prompts


@torch.no_grad()
def dull_scores(lm: Backbone, prompts: list[Prompt], trie: Trie, rule: Rule) -> np.ndarray:
    """Every answer behind every prompt on its own, through the model's own forward pass, [Q, leaves]."""
    score_QL = np.zeros((len(prompts), trie.n_leaves))
    for query, prompt in enumerate(prompts):
        for leaf in range(trie.n_leaves):
            ids = np.concatenate([prompt.ids, trie.answer[leaf]])[None].astype(np.int64)
            slots = np.concatenate([prompt.slots, 0 * trie.answer[leaf]])[None].astype(np.int64)
            embeds = lm.embed(torch.as_tensor(ids), torch.as_tensor(slots))
            logits_LV = lm.model(inputs_embeds=embeds).logits[0, len(prompt) - 1 : -1] / rule.tau
            for row, token in enumerate(trie.answer[leaf]):
                choice = trie.children(trie.path[leaf][row])[0].astype(np.int64)
                rivals = logits_LV[row] if rule.space == "full" else logits_LV[row, choice]
                score_QL[query, leaf] += float(logits_LV[row, int(token)] - rivals.logsumexp(0))
    return score_QL / trie.answer.lengths**rule.length_penalty


def top(score_QL: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` best leaves of each row, ties to the smaller, -1 where there are fewer."""
    best = np.argsort(-score_QL, axis=1, kind="stable")[:, :k]
    missing = np.full((len(score_QL), max(0, k - best.shape[1])), -1)
    return np.concatenate([best, missing], 1)
