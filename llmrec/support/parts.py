"""What is tried on a model: its own forward pass against each layout that trains or decodes with it.

Two prompts of different length with a common opening, and five titles of which some share a beginning and
one begins another. Every log-probability of the model's own ``forward(input_ids)``, one text at a time and
without cache or padding, is what the layouts have to give as well.

Q prompts, T tokens of a title, V vocabulary, R label tokens of several titles end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.text.plain import printable
from bench.types import IntArray
from llmrec.decode.base import Decoded
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.lm.backbone import Backbone
from llmrec.losses.lml import LML
from llmrec.prompt import Prompt
from llmrec.support.shrunk import END, VOCABULARY
from llmrec.training.documents import Room, document_states
from llmrec.training.packing import Example, lay_out, rows_end_to_end, states
from llmrec.training.shared_prefix import LogProbs
from llmrec.trie import Trie

OPENING = 10  # tokens that both prompts begin with
LENGTHS = (13, 18)  # of the prompts
TITLES = ((40, 41, 42, 43), (40, 41), (40, 50), (60, 61, 62, 63, 64, 65), (70,))
CHOSEN = (1, 3)  # title of each prompt where a row has one
BUDGET = 64  # tokens in which the rows stand end to end, more than they are
FIRST_OF_PROMPT = 80  # below it are the tokens of titles


class Ids:
    """Stands for a tokenizer where nothing is text.

    Attributes:
        eos_token_id: the end token.
        pad_token_id: None, as with most models.
    """

    eos_token_id, pad_token_id, bos_token_id = END, None, None


@dataclass(frozen=True)
class Case:
    """A model with its own log-probabilities.

    Attributes:
        lm: a backbone with a small model in float32.
        seed: of the prompts' tokens; prompts of seed 1 are five tokens longer than those of seed 0.
    """

    lm: Backbone
    seed: int = 0

    @classmethod
    def of(cls, model: Any, seed: int = 0, kind: type[Backbone] = Backbone) -> Case:
        """The case of a small model.

        Args:
            model: of Hugging Face, see ``small_model``.
            seed: see above.
            kind: how the model is run.
        """
        return cls(kind(model, Ids(), name=model.config.model_type, pretrained=False), seed)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Two prompts."""
        chance = np.random.default_rng(self.seed)
        made = []
        opening_S = chance.integers(FIRST_OF_PROMPT, VOCABULARY, OPENING)
        for length in LENGTHS:
            rest = chance.integers(FIRST_OF_PROMPT, VOCABULARY, length + 5 * self.seed - OPENING)
            ids = np.concatenate([opening_S, rest]).astype(np.int32)
            made.append(Prompt(ids, np.zeros(len(ids), np.int32)))
        return made

    @cached_property
    def trie(self) -> Trie:
        """The titles."""
        return Trie.of([[*title, END] for title in TITLES], END)

    @cached_property
    def loss(self) -> LML:
        """A loss that asks for every answer token."""
        return LML(None, self.trie, vocabulary=VOCABULARY, avt=1.0)

    @cached_property
    def examples(self) -> list[Example]:
        """Each prompt with one title."""
        return [Example(p, leaf) for p, leaf in zip(self.prompts, CHOSEN, strict=True)]

    def own(self, prompt: Prompt, leaf: int) -> Tensor:
        """The model's own log-probabilities where each token of a title is chosen, [T, V].

        Args:
            prompt: what the title follows.
            leaf: the title.
        """
        answer = self.trie.answer[leaf]
        return self.lm.own_logits(prompt.ids, answer[:-1]).float().log_softmax(-1)

    @cached_property
    def chosen(self) -> Tensor:
        """``own`` of the examples end to end, [R, V], with gradients."""
        return torch.cat([self.own(e.prompt, e.leaf) for e in self.examples])

    @cached_property
    def gradient(self) -> Tensor:
        """Of the examples' labels in the input embeddings, by the model's own forward pass."""
        return self.gradient_of(self.chosen)

    def gradient_of(self, log_prob_RV: Tensor) -> Tensor:
        """Gradient of the summed log-probability of the labels in the input embeddings.

        Args:
            log_prob_RV: of the examples, every token of the vocabulary.
        """
        label_R = np.concatenate([self.trie.answer[leaf] for leaf in CHOSEN]).astype(np.int64)
        label_R1 = torch.as_tensor(label_R, device=log_prob_RV.device)[:, None]
        weight = self.lm.causal.get_input_embeddings().weight
        summed = log_prob_RV.gather(1, label_R1).sum()
        return torch.autograd.grad(summed, weight, retain_graph=True)[0]

    @cached_property
    def own_QL(self) -> list[list[Tensor]]:
        """``own`` of every prompt with every title, without gradients."""
        with torch.no_grad():
            return [[self.own(p, leaf) for leaf in range(len(TITLES))] for p in self.prompts]

    def score(self, query: int, leaf: int, *, among: str = "full") -> float:
        """Summed log-probability of a title by the model's own forward pass.

        Args:
            query: number of the prompt.
            leaf: the title.
            among: ``full`` for all tokens, ``valid`` for those that some title has there.
        """
        total, trie = 0.0, self.trie
        for place, token in enumerate(trie.answer[leaf]):
            row_V = self.own_QL[query][leaf][place]
            if among == "valid":
                valid = trie.children(trie.path[leaf][place])[0].astype(np.int64)
                row_V = row_V - row_V[torch.as_tensor(valid, device=row_V.device)].logsumexp(0)
            total += float(row_V[int(token)])
        return total


def looks_ahead(case: Case) -> float:
    """How far later tokens move what the model says of earlier ones; 0 for a causal model."""
    worst = 0.0
    for rows in case.own_QL:
        first_LV = torch.stack([row[0] for row in rows])
        worst = max(worst, float((first_LV - first_LV[-1]).abs().max()))
    return worst


def body(case: Case) -> float:
    """Prompts padded on the left, as ``generate`` has them."""
    lm, width = case.lm, max(map(len, case.prompts))
    ids_BP, mask_BP = np.full((2, width), lm.pad_id, np.int64), np.zeros((2, width), np.int64)
    for row, prompt in enumerate(case.prompts):
        ids_BP[row, width - len(prompt) :], mask_BP[row, width - len(prompt) :] = prompt.ids, 1
    ids, mask = (torch.as_tensor(x, device=lm.device) for x in (ids_BP, mask_BP))
    with torch.no_grad():
        hidden_BPD, _ = lm.body(embeds_BLD=lm.embed(ids), ids_BL=ids, attention_mask=mask)
        found_BV = lm.head.logits(hidden_BPD[:, -1]).log_softmax(-1)
    own_BV = torch.stack([rows[0][0] for rows in case.own_QL])
    return _apart(found_BV, own_BV)


def packed(case: Case, shared: int = 0) -> float:
    """Training rows behind each other in a padded batch, values and gradients."""
    layout = lay_out(case.examples, case.trie, case.loss, pad=case.lm.pad_id, shared=shared)
    hidden_RD = states(case.lm, layout.to(case.lm.device))
    found_RV = case.lm.head.logits(hidden_RD).log_softmax(-1)
    return max(_apart(found_RV, case.chosen), _slopes_apart(case, case.gradient_of(found_RV)))


def opening(case: Case) -> float:
    """The same with the common opening computed once."""
    return packed(case, OPENING)


def end_to_end(case: Case) -> float:
    """Training rows end to end in one row of tokens, with one title each and with several."""
    lm, room = case.lm, Room(BUDGET, OPENING)
    rows = rows_end_to_end(case.examples, case.trie, case.loss, pad=lm.pad_id, room=room)
    found_RV = lm.head.logits(document_states(lm, rows.to(lm.device))).log_softmax(-1)
    one = max(_apart(found_RV, case.chosen), _slopes_apart(case, case.gradient_of(found_RV)))
    return max(one, preference(case, packed=BUDGET))


def preference(case: Case, shared: int = OPENING, packed: int = 0) -> float:
    """Several titles behind one prompt, each seeing the prompt and itself."""
    leaf_BJ: IntArray = np.array([[1, 0, 3], [3, 4, 1]])
    found = LogProbs(case.loss, case.trie, shared, together=True, packed=packed)
    log_prob_BJ, _ = found(case.lm, case.prompts, leaf_BJ)
    own = [[case.score(q, leaf) for leaf in row] for q, row in enumerate(leaf_BJ.tolist())]
    own_BJ = torch.tensor(own, device=log_prob_BJ.device)
    weight = case.lm.causal.get_input_embeddings().weight
    slope = torch.autograd.grad(log_prob_BJ[:, 0].sum(), weight)[0]
    return max(_apart(log_prob_BJ, own_BJ), _slopes_apart(case, slope))


def tree(case: Case) -> float:
    """The search of this suite, in both spaces."""
    n = len(TITLES)
    exact = Exact()(case.lm, case.prompts, case.trie, n)
    full = Beam({"beams": n, "space": "full", "audit": 0})(case.lm, case.prompts, case.trie, n)
    return max(_lists(case, exact, "valid", n), _lists(case, full, "full", n))


def generate(case: Case) -> float:
    """The search of transformers itself, from embeddings and with prompts padded on the left."""
    n = len(TITLES)
    decoder = Generate({"beams": n, "length_penalty": 0.0})
    return _lists(case, decoder(case.lm, case.prompts, case.trie, n), "full", 1)


PARTS: Mapping[str, Callable[[Case], float]] = {
    "body": body,
    "shared opening": opening,
    "packed training": packed,
    "tree search": tree,
    "preference": preference,
    "rows end to end": end_to_end,
    "generate": generate,
}
TRAINED = (
    "shared opening",
    "packed training",
    "preference",
    "rows end to end",
)  # run in training mode


def _lists(case: Case, decoded: Decoded, among: str, least: int) -> float:
    """The largest difference of a list's scores from the model's own."""
    worst = 0.0
    for query, leaves in enumerate(decoded.leaf_QK.tolist()):
        found = [leaf for leaf in leaves if leaf >= 0]
        if len(set(found)) < least:
            return float("inf")
        for place, leaf in enumerate(found):
            own = case.score(query, leaf, among=among)
            worst = max(worst, abs(own - float(decoded.score_QK[query, place])))
        best = max(range(len(TITLES)), key=lambda leaf: case.score(query, leaf, among=among))
        if case.score(query, best, among=among) - case.score(query, found[0], among=among) > 1e-2:
            return float("inf")
    return worst


def _apart(found: Tensor, own: Tensor) -> float:
    gap = (found.detach().float() - own.detach().float()).abs().max()
    return float(gap) if torch.isfinite(gap) else float("inf")


def _slopes_apart(case: Case, found: Tensor) -> float:
    """The largest difference of two gradients, as a share of the largest gradient."""
    return _apart(found, case.gradient) / max(float(case.gradient.abs().max()), 1e-12)


def said_by(fault: BaseException) -> str:
    """Kind and first line of what an architecture's own code raised."""
    first = (str(fault).strip().splitlines() or [""])[0]
    return f"{type(fault).__name__}: {printable(first[:120])}"


def outcomes(case: Case, parts: Sequence[str] = tuple(PARTS)) -> dict[str, float | str]:
    """The largest difference of each part, or what it died of.

    Args:
        case: the model.
        parts: names of the parts to try.
    """
    found: dict[str, float | str] = {}
    for name in parts:
        case.lm.train(name in TRAINED)
        try:
            found[name] = PARTS[name](case)
        except Exception as fault:  # an architecture's own code may fail in any way
            found[name] = said_by(fault)
    case.lm.eval()
    return found
