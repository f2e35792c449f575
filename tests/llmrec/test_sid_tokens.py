"""Semantic ids against k-means, against gradients by hand, and against what must not move them."""

import numpy as np
import pytest
import sid_kit
import torch
from torch.nn.functional import mse_loss

from bench.cell import Run
from bench.errors import ArtefactError, ConfigError, DataError
from llmrec.sid._collisions import balanced, matched, sinkhorn_plan, with_suffix
from llmrec.sid._measures import measures
from llmrec.sid._quantise import kmeans_codebooks, quantise
from llmrec.sid._rqvae import BETA, RQVAE, Schedule, start_codebooks, train_rqvae
from llmrec.sid.codes import Codes

ROW_FD = np.random.default_rng(1).normal(size=(70, 5))
KINDS = [{"tokenizer": "rqkmeans"}, {"tokenizer": "rqvae", "epochs": 3}]
IDS = ["rqkmeans", "rqvae"]


def identity(codes=6, levels=1):
    """An RQ-VAE whose encoder and decoder do nothing."""
    model = RQVAE(5, levels=levels, codes=codes).double()
    model.encoder = model.decoder = torch.nn.Identity()
    model.centre_LKE = torch.nn.Parameter(torch.zeros(levels, codes, 5, dtype=torch.float64))
    return model


def test_one_level_is_k_means():
    from sklearn.cluster import KMeans

    books = kmeans_codebooks(ROW_FD, levels=1, codes=6, seed=4)
    own = KMeans(6, n_init=4, max_iter=100, random_state=4).fit(ROW_FD)
    assert quantise(ROW_FD, books).code_TL[:, 0].tolist() == own.labels_.tolist()


def test_an_autoencoder_that_does_nothing_and_learns_nothing_is_k_means(tmp_path):
    model = identity()
    start_codebooks(model, ROW_FD, seed=4)
    run = Run(seed=0, device="cpu", folder=tmp_path)
    train_rqvae(model, ROW_FD, Schedule(epochs=2, lr=0.0, batch=32), run)
    found = quantise(model.latent(ROW_FD), model.centres).code_TL
    books = kmeans_codebooks(ROW_FD, levels=1, codes=6, seed=4)
    np.testing.assert_array_equal(found, quantise(ROW_FD, books).code_TL)


def test_each_level_leaves_less_to_describe():
    found = quantise(ROW_FD, kmeans_codebooks(ROW_FD, levels=4, codes=6, seed=0))
    assert (np.diff(found.error_L) <= 0).all() and found.error_L[-1] < 0.5 * found.error_L[0]


def test_a_row_does_not_depend_on_its_batch():
    model = RQVAE(5, levels=2, codes=6)
    start_codebooks(model, ROW_FD, seed=0)
    whole = quantise(model.latent(ROW_FD), model.centres).code_TL
    alone = [quantise(model.latent(row[None]), model.centres).code_TL[0] for row in ROW_FD]
    np.testing.assert_array_equal(whole, alone)


def test_ties_go_to_the_lower_code():
    books = np.array([[[1.0], [-1.0], [1.0]]])
    assert quantise(np.array([[0.0], [2.0]]), books).code_TL.tolist() == [[0], [0]]


def test_each_part_of_the_loss_has_its_own_gradient():
    """Two levels by hand: codebooks learn from the quantisation term, the encoder from the other two."""
    model = RQVAE(5, levels=2, codes=6).double()
    start_codebooks(model, ROW_FD, seed=0)
    row_BD = torch.from_numpy(ROW_FD[:9])
    loss, code_BL, _ = model.loss(row_BD)
    loss.backward()
    encoder = [p.grad.clone() for p in model.encoder.parameters()]
    books = model.centre_LKE.grad.clone()

    model.zero_grad()
    first_BE = model.encoder(row_BD)
    chosen = [model.centre_LKE[level, code_BL[:, level]] for level in (0, 1)]
    residual = [first_BE, first_BE - chosen[0].detach()]
    pairs = list(zip(residual, chosen, strict=True))
    through = first_BE + (sum(chosen) - first_BE).detach()  # its gradient is that of the identity
    commitment = sum(mse_loss(r, e.detach()) for r, e in pairs) / 2
    (mse_loss(model.decoder(through), row_BD) + BETA * commitment).backward()
    assert model.centre_LKE.grad is None
    for got, p in zip(encoder, model.encoder.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad)
    (sum(mse_loss(e, r.detach()) for r, e in pairs) / 2).backward()
    torch.testing.assert_close(books, model.centre_LKE.grad)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_leaves_are_the_distinct_titles(tmp_path, config):
    names = list(sid_kit.titles())
    names[5] = names[9] = " "
    vector_ND = sid_kit.vectors()
    vector_ND[[5, 9]] = 0
    made, facts = sid_kit.stage(tmp_path, sid_kit.windows(tuple(names)), vector_ND, **config)
    trie = made.codes.trie(10, 3)
    assert trie.n_leaves == facts["titles"] == sid_kit.N - 2
    assert trie.leaf_of_item_N[3] == trie.leaf_of_item_N[7]
    assert trie.leaf_of_item_N[5] == trie.leaf_of_item_N[9]
    assert facts["sizes"][:3] == [6, 6, 6] and facts["sizes"][3] == facts["largest_group"]


@pytest.mark.parametrize("config", [*KINDS, {"collisions": "sinkhorn"}], ids=[*IDS, "sinkhorn"])
def test_numbering_the_items_otherwise_moves_no_code(tmp_path, config):
    was, _ = sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors(), **config)
    new_N = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(sid_kit.N)])
    old_N = np.argsort(new_N)
    names = tuple(sid_kit.titles()[old] for old in old_N)
    items = [int(new_N[item]) for item in range(1, sid_kit.SEEN + 1)]
    (tmp_path / "b").mkdir()
    now, _ = sid_kit.stage(
        tmp_path / "b", sid_kit.windows(names, items), sid_kit.vectors()[old_N], **config
    )
    np.testing.assert_array_equal(now.codes.code_NL, was.codes.code_NL[old_N])


@pytest.mark.parametrize("collisions", ["suffix", "match", "sinkhorn"])
@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_titles_never_trained_on_move_no_code_of_the_others(tmp_path, config, collisions):
    config = {**config, "collisions": collisions, "codes": 12}
    was, _ = sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors(), **config)
    noise_ND = sid_kit.vectors()
    noise_ND[sid_kit.SEEN + 1 :] = sid_kit.vectors(seed=9)[sid_kit.SEEN + 1 :]
    (tmp_path / "b").mkdir()
    now, _ = sid_kit.stage(tmp_path / "b", sid_kit.windows(), noise_ND, **config)
    seen = slice(1, sid_kit.SEEN + 1)
    np.testing.assert_array_equal(now.codes.code_NL[seen], was.codes.code_NL[seen])
    assert (now.codes.code_NL != was.codes.code_NL).any()


def test_shuffled_codes_keep_the_tree_and_lose_their_meaning(tmp_path):
    plain, _ = sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors())
    mixed, _ = sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors(), shuffled=True)
    one, other = (np.unique(made.codes.code_NL, axis=0) for made in (plain, mixed))
    np.testing.assert_array_equal(one, other)
    assert (plain.codes.code_NL != mixed.codes.code_NL).any(1).mean() > 0.8


def test_a_suffix_counts_seen_titles_first():
    code_TL = np.array([[1, 2], [0, 0], [1, 2], [1, 2]])
    seen_T = np.array([False, True, True, True])
    assert with_suffix(code_TL, seen_T)[:, -1].tolist() == [2, 0, 0, 1]


def test_a_match_gives_the_nearest_free_code():
    """Three titles at 0, 0.1 and 5 that share code 0 of level 1; centroids at 0, 1, 5."""
    code_TL, centre_KD = np.array([[0, 0], [0, 0], [0, 2]]), np.array([[0.0], [1.0], [5.0]])
    residual_TD = np.array([[0.0], [0.1], [5.0]])
    found = matched(code_TL, np.array([True] * 3), residual_TD, centre_KD)
    assert found[:, 1].tolist() == [0, 1, 2]
    late = matched(code_TL, np.array([False, True, True]), residual_TD, centre_KD)
    assert late[:, 1].tolist() == [1, 0, 2]
    with pytest.raises(ConfigError, match=r"3 titles share .* which has 2; take 'suffix'"):
        matched(code_TL, np.array([True] * 3), residual_TD, centre_KD[:2])


@pytest.mark.parametrize("epsilon", [0.003, 0.5])
def test_a_sinkhorn_plan_is_that_of_plain_loops(epsilon):
    """Shares of 4 rows and 3 codes; where 50 normalisations are enough, all rows and columns are even."""
    cost = np.random.default_rng(3).random((4, 3)) * 7
    low, high = cost.min(), cost.max()
    share = [
        [np.exp(-(2 * c - low - high) / (high - low + 2e-5) / epsilon) for c in row] for row in cost
    ]
    for _ in range(50):
        share = [[s / sum(row) / 4 for s in row] for row in share]
        sums = [sum(row[k] for row in share) for k in range(3)]
        share = [[s / total / 3 for s, total in zip(row, sums, strict=True)] for row in share]
    plan_BK = sinkhorn_plan(cost, epsilon)
    np.testing.assert_allclose(plan_BK, 4 * np.array(share), rtol=1e-9)
    np.testing.assert_allclose(plan_BK.sum(0), 4 / 3)
    if epsilon == 0.5:
        np.testing.assert_allclose(plan_BK.sum(1), 1, rtol=1e-6)


def test_sinkhorn_gives_the_second_code_to_who_loses_least():
    """Titles at .1 and .3 share the code at 0; a plan of two rows and two codes is a permutation."""
    residual_TD, centre_KD = np.array([[0.3], [0.1], [5.0]]), np.array([[0.0], [1.0]])
    code_TL, seen_T = np.array([[2, 0], [2, 0], [1, 1]]), np.array([True, True, True])
    assert balanced(code_TL, seen_T, residual_TD, centre_KD)[:, 1].tolist() == [1, 0, 1]
    # what a title that was trained on has, another one cannot take
    for seen, wanted in (([False, True, True], [1, 0, 1]), ([True, False, True], [0, 1, 1])):
        late = balanced(code_TL, np.array(seen), residual_TD, centre_KD)
        assert late[:, 1].tolist() == wanted
    full = balanced(code_TL[:2], np.array([True, False]), residual_TD[:2], centre_KD[:1])
    assert full[:, 1].tolist() == [0, 0]


def test_of_equal_sinkhorn_shares_the_nearest_code_is_taken():
    """Titles at 0 and 10: the first has codes 0 and 1 all to itself, the second 2 and 3."""
    code_TL, centre_KD = np.zeros((2, 1), int), np.array([[-9.0], [-3.0], [20.0], [13.0]])
    found = balanced(code_TL, np.array([True, True]), np.array([[0.0], [10.0]]), centre_KD)
    assert found[:, 0].tolist() == [1, 3]


def test_equal_vectors_get_a_suffix_behind_a_sinkhorn_repair(tmp_path):
    vector_ND = sid_kit.vectors()
    apart, facts = sid_kit.stage(tmp_path, sid_kit.windows(), vector_ND, collisions="sinkhorn")
    assert facts["collision_rate"] > 0 == facts["collision_rate_after_sinkhorn"]
    assert apart.codes.sizes == (6, 6, 6)
    vector_ND[11] = vector_ND[10]
    (tmp_path / "b").mkdir()
    made, facts = sid_kit.stage(tmp_path / "b", sid_kit.windows(), vector_ND, collisions="sinkhorn")
    assert facts["collision_rate_after_sinkhorn"] == 1 / (sid_kit.N - 1)
    assert made.codes.sizes == (6, 6, 6, 2)
    assert made.codes.trie(10, 3).n_leaves == sid_kit.N - 1


def test_measures_can_be_read_off():
    code_TL = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [0, 3]])
    found = measures(code_TL, (2, 4), np.array([True, True, True, False, False]))
    assert found["titles"] == 5 and found["collision_rate"] == pytest.approx(1 / 5)
    assert found["largest_group"] == 2 and found["used"] == [1.0, 0.75]
    assert found["cold_prefix"] == [0.5, 0.0]  # (0, ..) is shared, (1, 0) and (0, 3) are not
    assert found["perplexity"][0] == pytest.approx(0.8**-0.8 * 0.2**-0.2)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"codes is 64, .* 39 distinct vectors"):
        sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors(), codes=64)
    with pytest.raises(DataError, match="code 2 of item 1 at level 2"):
        Codes(np.array([[-1, -1], [0, 2]]), (1, 2), "")
    made, _ = sid_kit.stage(tmp_path, sid_kit.windows(), sid_kit.vectors())
    with pytest.raises(ArtefactError, match="of other titles"):
        made.codes.require(["", "another"])
