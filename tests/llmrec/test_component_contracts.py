"""A loss or a decoder with one thing wrong is caught by the question about it."""

import numpy as np
import pytest

from baselines.losses.ce import CE
from bench.component import Component
from bench.conformance import examine_component
from llmrec.decode.exact import Exact
from llmrec.losses.lml import LML
from llmrec.preference.s_dpo import SDPO


class NoMean(CE):
    def __call__(self, trained):
        return super().__call__(trained) * len(trained)


class TrainsPadding(CE):
    def __call__(self, trained):
        return super().__call__(trained) + trained.scorer.item_table()[0].sum()


class OddKind(CE):
    kind = "items"


class Overflows(LML):
    def per_row(self, hidden_RD, head, answers):
        logits_RV = head.logits(hidden_RD)
        share_RV = logits_RV.exp() / logits_RV.exp().sum(1, keepdim=True)
        return -share_RV.gather(1, answers.token_R[:, None])[:, 0].log()


class Forgets(LML):
    tau = 1.0

    def step(self):
        self.tau += 1

    def per_row(self, hidden_RD, head, answers):
        return super().per_row(hidden_RD, head, answers) * self.tau


class FirstNegative(SDPO):
    def of_rewards(self, reward_BJ):
        return super().of_rewards(reward_BJ[:, :2])


class Upside(SDPO):
    def of_rewards(self, reward_BJ):
        return -super().of_rewards(reward_BJ)


class Crowd(Exact):
    def __call__(self, lm, prompts, trie, k, *, progress=None):
        found = super().__call__(lm, prompts, trie, k, progress=progress)
        found.leaf_QK[0] = np.roll(found.leaf_QK[0], len(prompts) % 2)
        return found


FAULTS = {
    NoMean: "is the mean of its micro-batches",
    TrainsPadding: "has no gradient at padding",
    OddKind: "is of a known kind",
    Overflows: "stays finite with its gradient",
    Forgets: "goes on from a saved state",
    FirstNegative: "does not depend on the order of the negatives",
    Upside: "falls with the positive's reward",
    Crowd: "does not depend on how many queries",
}


@pytest.mark.parametrize("broken", FAULTS, ids=lambda kind: kind.__name__)
def test_each_fault_is_caught_by_its_own_question(broken):
    found = [finding.question for finding in examine_component(broken) if not finding.ok]
    assert any(question.startswith(FAULTS[broken]) for question in found), found


def test_a_stranger_without_a_contract_is_told():
    class Bare(Component):
        """Nothing but a name."""

    found = [finding for finding in examine_component(Bare) if not finding.ok]
    assert [f.question for f in found] == ["says what its contract is"]
