import numpy as np
import pytest
from decode_kit import dull_scores
from soft_kit import TOY, fit

from llmrec import recipes
from llmrec.decode.rule import Rule


def test_a_titles_log_probability_is_that_of_the_models_own_forward_pass(tmp_path):
    method, _ = fit("bigrec", tmp_path, loss="lml")
    exam = TOY.valid.take(np.arange(3))
    method.lm.eval()
    prompts = [method.prompter.prompt(history) for history in exam.queries.history]
    score_QL = dull_scores(method.lm, prompts, method.trie, Rule())
    leaf_Q = method.trie.leaf_of_item_N[exam.target_Q]
    found_Q = recipes.title_nll(method, exam)
    np.testing.assert_allclose(found_Q, -score_QL[np.arange(3), leaf_Q], rtol=1e-5)
    assert (found_Q > 0).all()
    np.testing.assert_allclose(np.exp(score_QL).sum(1), 1, rtol=1e-5)


def test_an_unknown_recipe_is_named_with_those_that_are_known(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recipes", "--data", "office", "--recipes", "paper,huge"])
    assert recipes.main() == 2
    said = capsys.readouterr().err
    assert "'huge'" in said and "whole_1e-4" in said and "'paper'" not in said


def test_every_recipe_is_a_configuration_of_bigrec():
    kind = recipes.methods.get("bigrec")
    for values in recipes.RECIPES.values():
        assert kind.Config(**values).lr == pytest.approx(values["lr"])
