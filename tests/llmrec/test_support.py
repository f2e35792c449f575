"""Language models whose layouts are right are used as configured, others otherwise or not at all."""

import pytest
import torch

from bench.errors import ConfigError
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate, require_embeddings
from llmrec.decode.ground import Ground
from llmrec.lm.backbone import Backbone, load
from llmrec.support import parts
from llmrec.support.families import config_of
from llmrec.support.layouts import Wanted, layouts
from llmrec.support.matrix import EXACT, FALLBACK, REFUSED, family_line, judged
from llmrec.support.parts import PARTS, Case, outcomes
from llmrec.support.probe import TOLERANCE, line, support, support_of
from llmrec.support.shrunk import WINDOW, shrunk, small_model
from llmrec.training import shared_prefix

# families that gave wrong numbers, or died after all training, before they were asked
GENERATE_ONLY = (
    "rows are padded on a GPU as well; S-DPO takes the plain route; decoder `generate` only"
)
RECURRENT = f"the opening is not shared; {GENERATE_ONLY}"
KNOWN = {
    "llama": (EXACT, ""),
    "mistral": (EXACT, ""),  # a window shorter than the shared opening
    "gemma3n_text": (EXACT, ""),  # embeddings by layer, looked up by token ids
    "gpt_neo": (FALLBACK, GENERATE_ONLY),
    "mpt": (FALLBACK, GENERATE_ONLY),
    "falcon with alibi": (FALLBACK, GENERATE_ONLY),
    "falcon_h1 with a multiplier": (FALLBACK, RECURRENT),
    "qwen3_5_text": (FALLBACK, RECURRENT),
    "lfm2": (FALLBACK, RECURRENT),
    "mamba": (FALLBACK, RECURRENT),
    "bert": (REFUSED, "a training row is not what the model itself computes"),
}


def found_for(family):
    return support(config_of(family), family)


@pytest.mark.parametrize("family", KNOWN)
def test_a_known_hard_family_is_right_or_refused(family):
    made = judged(family, line(found_for(family)))
    assert (made.outcome, made.said) == KNOWN[family]
    assert set(made.results) == {"own forward", *PARTS}


def test_what_counts_as_right_is_right_on_other_prompts_and_weights(monkeypatch):
    assert family_line("llama").outcome == EXACT
    broken = dict(PARTS, generate=lambda case: 1.0 if case.seed else 0.0)
    monkeypatch.setattr(parts, "PARTS", broken)
    found_for("llama").asked.found.pop("generate")
    assert family_line("llama").outcome == "wrong"
    found_for("llama").asked.found.pop("generate")


def test_a_layout_that_is_wrong_is_replaced_and_the_row_says_by_what():
    chosen = layouts(found_for("mamba"), Wanted("preference"), Generate())
    assert not chosen.share_opening and not chosen.together
    assert "share_opening is off, as its shared opening does not run" in chosen.facts["layouts"]
    assert "route is plain" in chosen.facts["layouts"]
    assert 0 < chosen.facts["layouts_difference"] < TOLERANCE
    plain = layouts(found_for("llama"), Wanted("preference"), Beam())
    assert (plain.share_opening, plain.together) == (True, True)
    assert plain.facts["layouts"] == "as configured"


@pytest.mark.parametrize(
    ("family", "training", "decoder", "says"),
    [
        (
            "mpt",
            "tokens",
            Beam,
            r"mpt cannot be decoded by beam: its tree search is off by .*generate",
        ),
        (
            "mamba",
            "nothing",
            Exact,
            r"mamba cannot be decoded by exact: .*take the decoder generate",
        ),
        ("bert", "tokens", Generate, r"bert cannot be trained: its packed training is off by"),
        ("bart", "nothing", Ground, r"bart cannot be decoded by ground: .*take another backbone"),
    ],
)
def test_a_cell_that_would_be_wrong_is_refused_with_what_works(family, training, decoder, says):
    with pytest.raises(ConfigError, match=says):
        layouts(found_for(family), Wanted(training), decoder())


def test_a_model_that_looks_ahead_is_refused():
    config = config_of("bert")
    config.is_decoder = False
    with pytest.raises(ConfigError, match=r"what it says of a token depends on later ones"):
        layouts(support(config, "bert"), Wanted("nothing"), Generate())


def no_positions(monkeypatch):
    dull = Backbone.body
    monkeypatch.setattr(
        Backbone, "body", lambda self, **more: dull(self, **{**more, "position_ids": None})
    )


def no_padding(monkeypatch):
    dull = Backbone.body

    def body(self, **more):
        mask = more["attention_mask"]
        if mask.ndim == 2:
            more["attention_mask"] = torch.ones_like(mask)
        return dull(self, **more)

    monkeypatch.setattr(Backbone, "body", body)


def wrong_column(monkeypatch):
    dull = parts.lay_out

    def lay_out(*rows, **more):
        layout = dull(*rows, **more)
        layout.column_R[-1] -= 1
        return layout

    monkeypatch.setattr(parts, "lay_out", lay_out)


def no_slope(monkeypatch):
    from transformers.cache_utils import DynamicLayer

    dull = DynamicLayer.batch_repeat_interleave

    def repeat(self, repeats):
        self.keys, self.values = self.keys.detach(), self.values.detach()
        dull(self, repeats)

    monkeypatch.setattr(DynamicLayer, "batch_repeat_interleave", repeat)


def no_forks(monkeypatch):
    dull = shared_prefix._mask

    def mask(lm, rows, dtype):
        rows.part_BL[:] = rows.part_BL.clamp(max=1)
        return dull(lm, rows, dtype)

    monkeypatch.setattr(shared_prefix, "_mask", mask)


def no_left_padding(monkeypatch):
    from transformers import LlamaForCausalLM

    dull = LlamaForCausalLM.generate

    def generate(self, *given, attention_mask, **more):
        return dull(self, *given, attention_mask=torch.ones_like(attention_mask), **more)

    monkeypatch.setattr(LlamaForCausalLM, "generate", generate)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("body", no_padding),
        ("shared opening", no_slope),
        ("packed training", wrong_column),
        ("tree search", no_positions),
        ("preference", no_positions),
        ("preference", no_forks),
        ("generate", no_left_padding),
    ],
)
def test_a_fault_in_any_part_is_found(monkeypatch, part, fault):
    case = Case.of(small_model(config_of("llama")))
    assert outcomes(case, [part])[part] < TOLERANCE / 10
    fault(monkeypatch)
    assert outcomes(case, [part])[part] > 10 * TOLERANCE


def test_windows_are_crossed_where_texts_can_cross_them():
    config = config_of("mistral")
    assert config.sliding_window == 4096
    assert shrunk(config, 512).sliding_window == 4096
    assert shrunk(config, 8192).sliding_window == shrunk(config).sliding_window == WINDOW


def test_asking_leaves_the_generators_and_the_model_alone():
    lm = load("tiny", seed=7)
    before, weights = torch.get_rng_state(), [p.clone() for p in lm.parameters()]
    small_model(lm.causal.config)
    layouts(support_of(lm), Wanted("tokens"), Beam())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, lm.parameters(), strict=True))
    assert not lm.causal.training or lm.training


def test_soft_tokens_are_refused_where_generate_needs_token_ids():
    require_embeddings(load("tiny"))
    with pytest.raises(
        ConfigError, match=r"'gemma3n_text', whose generate\(\) needs token ids.*beam"
    ):
        require_embeddings(found_for("gemma3n_text").asked.case.lm)


def test_a_pad_token_without_a_row_is_not_used():
    lm = load("tiny")
    lm.tokenizer.pad_token_id = lm.vocabulary
    assert lm.pad_id == lm.tokenizer.eos_token_id
    lm.tokenizer.pad_token_id = 3
    assert lm.pad_id == 3
