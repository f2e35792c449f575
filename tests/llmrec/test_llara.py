from types import SimpleNamespace

import numpy as np
import pytest
import torch
from soft_kit import TOY, Soft, Stop, fit, stop_at

from bench.cell import Run
from bench.errors import ArtefactError, ConfigError
from bench.method import configure, restore
from bench.registry import methods
from llmrec.generative.llara import Growing, LLaRA
from llmrec.training.arguments import arguments, cosine_from_start
from llmrec.training.loop import Recipe
from llmrec.training.order import Shuffle
from llmrec.training.trainer import Tuner

STEPS = 790


@pytest.fixture(scope="module")
def sasrec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sasrec")
    fit("sasrec", folder, {"epochs": 1, "hidden_size": 16, "inner_size": 32}, loss="ce")
    return {"sasrec": folder / "model"}


def test_p_grows_from_0_to_1():
    linear = Growing("linear", "step", 10, seed=0)
    assert linear.p(0, STEPS) == 0 and linear.p(STEPS, STEPS) == 1
    assert linear.p(STEPS // 2, STEPS) == 0.5
    assert not linear.hybrid(0, STEPS)
    share = np.mean([linear.hybrid(step, STEPS) for step in range(STEPS)])
    assert share == pytest.approx(0.5, abs=0.04)


def test_the_released_reset_never_reaches_the_hybrid_regime():
    reset = Growing("linear_reset", "micro", 5, seed=0)
    p = [reset.p(step, 500) for step in range(500)]
    assert max(p) < 0.2 and np.mean(p) == pytest.approx(0.1, abs=0.002)
    assert p[100] == p[200] == 0


def test_the_other_curricula():
    always, never = (Growing(kind, "step", 5, seed=0) for kind in ("hybrid", "text"))
    assert all(always.hybrid(step, 50) for step in range(50))
    assert not any(never.hybrid(step, 50) for step in range(50))


def test_a_draw_is_the_same_on_every_rank_and_after_a_resume():
    draws = [[Growing("linear", "step", 2, seed=4).hybrid(s, 90) for s in range(90)] for _ in "ab"]
    other = [Growing("linear", "step", 2, seed=5).hybrid(s, 90) for s in range(90)]
    assert draws[0] == draws[1] != other


def test_text_only_steps_leave_the_projector_without_gradients():
    setting = Soft(curriculum=Growing("linear", "step", 1, seed=0))
    lm = setting.lm

    def step(number):
        lm.zero_grad()
        lm.begin_step(number, 10)
        setting.logits([3, 1], train=True).logsumexp(0).backward()
        return [p.grad for p in lm.soft.item.parameters()]

    assert all(grad is None for grad in step(0))
    assert next(lm.model.parameters()).grad is not None, "the language model learns in every step"
    assert all(grad is not None and grad.any() for grad in step(10))


def test_vectors_show_in_hybrid_prompts_only():
    setting = Soft(curriculum=Growing("linear", "step", 1, seed=0))

    def logits(step, *, train=True):
        setting.lm.begin_step(step, 10)
        return setting.logits([3, 1], train=train).detach()

    text, hybrid, at_inference = logits(0), logits(10), logits(0, train=False)
    with torch.no_grad():
        setting.lm.soft.vector_NF[3] += 1
    assert torch.equal(logits(0), text)
    assert not torch.allclose(logits(10), hybrid)
    assert not torch.allclose(logits(0, train=False), at_inference), "inference is always hybrid"


def test_draws_for_each_micro_batch():
    setting = Soft(curriculum=Growing("linear", "micro", 1, seed=0))
    setting.lm.begin_step(5, 10)
    seen = set()
    for _ in range(20):
        setting.logits([3, 1], train=True)
        seen.add(setting.lm.hybrid)
    assert seen == {True, False}
    setting.lm.begin_step(5, 10)
    setting.lm.embed(torch.ones(1, 3).long(), torch.zeros(1, 3).long())
    assert setting.lm._micro == 0, "the shared opening has no slots and draws nothing"


def test_the_loss_falls_and_the_facts_say_how_often_vectors_were_shown(tmp_path, sasrec):
    config = {"epochs": 5, "scratch_lr": 1e-2, "valid_rows": 0}
    method, run = fit("llara", tmp_path, config, inputs=sasrec, loss="lml")
    losses = run.facts["loss_by_epoch"]
    assert losses[-1] < 0.7 * losses[0]
    assert 0 < run.facts["hybrid_steps"] < run.facts["steps"] == 25
    assert run.facts["items_without_vector"] == (~TOY.train.seen[1:]).sum()
    prompt = method.prompter.prompt(TOY.train.history[0])
    assert np.array_equal(prompt.slots[prompt.slots > 0], TOY.train.history[0])


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, sasrec):
    config = {"epochs": 3, "valid_rows": 0}
    whole, run = fit("llara", tmp_path / "whole", config, inputs=sasrec, loss="msl")
    with pytest.raises(Stop):
        fit(
            "llara",
            tmp_path / "halves",
            config,
            inputs=sasrec,
            loss="msl",
            progress=stop_at(8),
        )
    halves, resumed = fit("llara", tmp_path / "halves", config, inputs=sasrec, loss="msl")
    for name, value in whole.lm.learnt().items():
        assert torch.equal(value, halves.lm.learnt()[name]), name
    assert run.facts["hybrid_steps"] == resumed.facts["hybrid_steps"]


def test_text_only_training_keeps_its_projector_and_is_read_out_text_only(tmp_path, sasrec):
    config = {"epochs": 1, "curriculum": "text", "valid_rows": 0}
    method, _ = fit("llara", tmp_path, config, inputs=sasrec, loss="lml")
    assert not method.lm.hybrid, "the last step was text-only"
    back = restore(tmp_path / "model", device="cpu")
    for name, value in method.lm.soft.state_dict().items():
        assert torch.equal(value, back.lm.soft.state_dict()[name]), name
    assert torch.equal(method.lm.soft.vector_NF, back.lm.soft.vector_NF)
    lists = method.recommend(TOY.queries, 5).item_QK
    with torch.no_grad():
        method.lm.soft.vector_NF += 5
    assert np.array_equal(method.recommend(TOY.queries, 5).item_QK, lists)


def test_a_sasrec_of_other_data_is_refused(tmp_path, sasrec):
    few = TOY.train.take(np.arange(12))
    config = {"epochs": 1, "hidden_size": 16, "inner_size": 32}
    fit("sasrec", tmp_path / "few", config, loss="ce", train=few)
    with pytest.raises(ArtefactError, match="trained on other rows"):
        fit("llara", tmp_path, inputs={"sasrec": tmp_path / "few" / "model"}, loss="lml")


def test_draws_for_each_micro_batch_keep_to_one_process():
    assert LLaRA.spreads(configure(LLaRA, {}), loss="lml")
    assert not LLaRA.spreads(configure(LLaRA, {"curriculum_unit": "micro"}), loss="lml")


def test_its_sasrec_is_the_one_asked_for():
    config = configure(LLaRA, {"sasrec": {"n_layers": 1, "n_heads": 1}})
    need = LLaRA.needs(config, loss="lml", backbone=None)["sasrec"]
    assert need.config == {"n_layers": 1, "n_heads": 1} and need.loss == "ce"
    assert not LLaRA.needs(configure(LLaRA, {}), loss="lml", backbone=None)["sasrec"].config


def rates(recipe, folder, total):
    """Shares of the peak learning rate by step, as the trainer sets them."""
    run = Run(seed=1, device="cpu", folder=folder)
    args = arguments(recipe, run, total * recipe.batch, validating=False)
    rate = cosine_from_start(recipe.floor) if recipe.schedule == "cosine_from_start" else None
    step = torch.nn.Linear(1, 1)
    groups = [{"params": list(step.parameters())}]
    step.lm = SimpleNamespace(parameter_groups=lambda: groups, device=torch.device("cpu"))
    tuner = Tuner(step, range(8), None, Shuffle(8, 0), micro_batch=1, rate=rate, args=args)
    tuner.create_optimizer_and_scheduler(total)
    found = []
    for _ in range(total):
        found.append(tuner.optimizer.param_groups[0]["lr"] / recipe.lr)
        tuner.optimizer.step()
        tuner.lr_scheduler.step()
    return found


def test_the_papers_learning_rate_goes_from_a_hundredth_to_the_peak_and_back(tmp_path):
    recipe, total = Recipe(epochs=1, schedule="cosine", floor=0.01, warmup_steps=0.05), 800
    found = rates(recipe, tmp_path, total)
    assert found[0] == pytest.approx(0.01) and max(found) == pytest.approx(1)
    assert int(np.argmax(found)) == pytest.approx(total / 20, abs=2)
    assert found[-1] == pytest.approx(0.01, abs=1e-4)


def test_the_released_cosine_has_begun_when_the_warm_up_ends(tmp_path):
    """Step 40 of 800 ends the warm-up; the cosine stands at (1 + cos(pi / 20)) / 2 of its way there."""
    method = LLaRA({"schedule": "cosine_from_start", "epochs": 1}, loss="lml")
    method.lm = SimpleNamespace(pretrained=True)
    found = rates(method.recipe(), tmp_path, 800)
    assert found[0] == pytest.approx(0.01) and found[20] == pytest.approx(0.505)
    assert max(found) == found[40] == pytest.approx(0.01 + 0.99 * 0.9938, abs=1e-4)
    assert found[400] == pytest.approx(0.505) and found[799] == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [("curriculum", "slow"), ("curriculum_unit", "row"), ("unseen", "zero"), ("schedule", "flat")],
)
def test_values_nobody_knows_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} is '{value}'; allowed: one of"):
        configure(LLaRA, {key: value})
    with pytest.raises(ConfigError, match="there is no key 'hiden'"):
        LLaRA.needs(configure(LLaRA, {"sasrec": {"hiden": 3}}), loss="lml", backbone=None)


def test_a_preference_loss_is_always_hybrid():
    kind = methods.get("llara")
    assert kind(None, loss="s_dpo").curriculum().p(0, 10) == 1
    assert kind(None, loss="lml").curriculum().p(0, 10) == 0
