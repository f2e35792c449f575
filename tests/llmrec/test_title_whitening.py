"""Whitening on random vectors against the covariance that it promises, and on titles that can be read."""

import numpy as np
import pytest

from bench.errors import ConfigError, DataError
from bench.types import Catalogue
from llmrec.title_whitening import (
    EPS,
    fit_titles,
    fit_whitening,
    mean_cosine,
    require_finite,
)

TITLES = ("", "red car", "blue car", "  ", "red car ", "ant farm", "unseen")
SEEN = np.array([False, True, True, True, True, True, False])


def vectors(rows, dims, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, dims)) @ rng.normal(size=(dims, dims)) + 3).astype(np.float32)


def shrunk(vector_FD):
    """l / (l + eps) of the covariance, largest first: what is left of a variance of 1."""
    variance_D = np.linalg.eigvalsh(np.cov(vector_FD.astype(np.float64).T, ddof=0))[::-1]
    return variance_D / (variance_D + EPS * variance_D.mean())


@pytest.mark.parametrize("width", [None, 3])
def test_pca_leaves_the_covariance_it_promises(width):
    vector_FD = vectors(50, 6)
    found = fit_whitening(vector_FD, "pca", width)
    white_FR = (vector_FD - found.mean_D) @ found.matrix_DR
    expected = np.diag(shrunk(vector_FD)[:width])
    np.testing.assert_allclose(np.cov(white_FR.T, ddof=0), expected, atol=1e-6)
    np.testing.assert_allclose(found(vector_FD), white_FR, atol=1e-5)


def test_zca_is_pca_turned_back_and_center_only_moves():
    vector_FD = vectors(50, 6)
    pca_FD, zca_FD = (fit_whitening(vector_FD, kind)(vector_FD) for kind in ("pca", "zca"))
    np.testing.assert_allclose(pca_FD @ pca_FD.T, zca_FD @ zca_FD.T, atol=1e-4)
    moved_FD = fit_whitening(vector_FD, "center")(vector_FD)
    np.testing.assert_allclose(moved_FD, vector_FD - vector_FD.mean(0), atol=1e-5)
    np.testing.assert_array_equal(fit_whitening(vector_FD, "none")(vector_FD), vector_FD)


def test_fewer_titles_than_numbers_stay_finite():
    vector_FD = vectors(4, 6)
    assert fit_whitening(vector_FD, "pca")(vector_FD).shape == (4, 3)
    assert np.abs(fit_whitening(vector_FD, "zca")(vectors(9, 6, seed=1))).max() < 1e3


def test_a_row_depends_on_no_other_and_no_title_stays_none():
    vector_ND = vectors(700, 48)
    vector_ND[5] = 0
    whitening = fit_whitening(vector_ND[:300], "pca")
    white_NR = whitening(vector_ND)
    order_N = np.random.default_rng(1).permutation(700)
    np.testing.assert_array_equal(whitening(vector_ND[order_N]), white_NR[order_N])
    np.testing.assert_array_equal(whitening(vector_ND[690:]), white_NR[690:])
    assert not white_NR[5].any()
    assert white_NR[6].any()


def test_the_fit_set_holds_each_title_once_in_the_order_of_the_text():
    assert fit_titles(Catalogue(TITLES), SEEN).tolist() == [5, 2, 1]
    assert fit_titles(Catalogue(TITLES), None).tolist() == [5, 2, 1, 6]


def test_mean_cosine_is_that_of_a_loop():
    vector_ND = np.concatenate([np.zeros((1, 6), np.float32), vectors(7, 6)])
    unit = vector_ND[1:] / np.linalg.norm(vector_ND[1:], axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(7) for j in range(7) if i != j]
    assert mean_cosine(vector_ND) == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "width", "words"),
    [("pca", 7, "width is 7, but 50 distinct titles of 6"), ("zca", 3, "only pca chooses a width")],
)
def test_widths_that_cannot_be(kind, width, words):
    with pytest.raises(ConfigError, match=words):
        fit_whitening(vectors(50, 6), kind, width)


def test_bad_vectors_are_named():
    with pytest.raises(DataError, match="two distinct titles, the fit set has 1"):
        fit_whitening(vectors(1, 6), "pca")
    vector_ND = vectors(7, 6)
    vector_ND[2, 1] = np.nan
    with pytest.raises(DataError, match=r"'blue car' \(item 2\) is not finite"):
        require_finite(vector_ND, TITLES)
