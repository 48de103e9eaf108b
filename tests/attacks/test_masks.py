"""A mask says what may change: every attack honours it, and on a linear model the best masked step is known."""

import numpy as np
import pytest

import tfdefense as td
from tests.attacks.conftest import leads, linear
from tests.attacks.test_contract import EVERY, attack_named, model_for

A = td.attacks
UPPER = np.arange(8)[:, None, None] < 4


@pytest.fixture(scope="module")
def two():
    """Two classes whose difference is the same everywhere, a lead that no step makes up for, and a mask a sample."""
    rng = np.random.default_rng(1)
    difference = rng.normal(size=16).astype("float32")
    model = linear(np.stack([difference / 2, -difference / 2], -1), np.array([40.0, 0.0]))
    x = rng.uniform(0.4, 0.6, (20, 4, 4, 1)).astype("float32")
    mask = rng.random((20, 4, 4, 1)) < 0.5
    mask[:, 0, 0] = True
    return model, difference.reshape(4, 4, 1), x, np.zeros(20, int), mask


@pytest.mark.parametrize("name", EVERY)
def test_nothing_outside_the_mask_moves(name, request, held_out):
    attack, size = attack_named(name)
    x, y = held_out.x[:16], held_out.y[:16]
    mask = np.zeros(x.shape, bool)
    mask[::2, :5], mask[1::2, :, 2:] = True, True
    result = attack(model_for(name, request), x, y, mask=mask)
    np.testing.assert_array_equal(result.x_adv[~mask], x[~mask])
    assert np.abs(result.x_adv - x).max() > 1e-3
    assert result.x_adv.min() >= 0 and result.x_adv.max() <= 1 and result.distance.max() <= size * (1 + 1e-6) + 1e-6
    label = td.view.decide(model_for(name, request), result.x_adv).label
    np.testing.assert_array_equal(label, result.label)


@pytest.mark.parametrize("name", ["pgd-linf", "pgd-l2", "apgd-l2", "deepfool-l2", "carlini", "jsma", "selective-l2"])
def test_masked_attacks_still_fool_the_model(name, classifier, held_out):
    attack, _ = attack_named(name)
    assert attack(classifier, held_out.x[:30], held_out.y[:30], mask=np.arange(8)[:, None, None] < 6).success.mean() > 0.5


@pytest.mark.parametrize(
    "attack", [A.FGSM(0.1), A.BIM(0.1), A.PGD(0.1, steps=7), A.PGD(0.1, random_start=True), A.APGD(0.1, steps=7)], ids=str
)
def test_best_masked_step_in_linf_is_the_sign_inside(two, attack):
    model, difference, x, y, mask = two
    wanted = np.where(mask, x - 0.1 * np.sign(difference), x)
    np.testing.assert_allclose(attack(model, x, y, mask=mask).x_adv, wanted, atol=1e-6)


def test_random_squares_end_at_the_best_masked_step(two):
    model, difference, x, y, mask = two
    wanted = np.where(mask[0], x - 0.1 * np.sign(difference), x)
    np.testing.assert_allclose(A.Square(0.1, queries=600)(model, x, y, mask=mask[0]).x_adv, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "attack", [A.FGSM(0.5, norm="l2"), A.PGD(0.5, norm="l2", steps=7), A.APGD(0.5, norm="l2", steps=7)], ids=str
)
def test_best_masked_step_in_l2_spends_all_of_the_ball_inside(two, attack):
    model, difference, x, y, mask = two
    inside = np.where(mask, difference, 0)
    wanted = x - 0.5 * inside / np.sqrt((inside**2).sum((1, 2, 3), keepdims=True))
    np.testing.assert_allclose(attack(model, x, y, mask=mask).x_adv, wanted, atol=1e-5)


def test_l1_budget_goes_to_the_steepest_pixel_that_is_free(two):
    model, difference, x, y, _ = two
    mask = np.abs(difference) < np.abs(difference).max()
    change = A.PGD(0.3, norm="l1", steps=10)(model, x, y, mask=mask).x_adv - x
    steepest = np.where(mask, np.abs(difference), 0).argmax()
    np.testing.assert_allclose(np.abs(change.reshape(20, -1)[:, steepest]), 0.3, atol=1e-5)


@pytest.mark.parametrize(
    "attack", [A.DeepFool(), A.MinimumNorm(), A.CarliniWagner(steps=300, binary_search_steps=8, early_stop=False)], ids=str
)
def test_smallest_masked_distance_is_found(line, attack):
    model, weights, x, y = line
    mask = np.arange(4)[:, None, None] < 3
    # The lead counts all pixels, the way to the boundary the free ones alone.
    exact = np.full(len(x), np.inf)
    for row, lead, difference in leads(weights, x, y):
        exact[row] = min(exact[row], lead / np.linalg.norm(difference[:12]))
    result = attack(model, x, y, mask=mask)
    far = exact > 0.01
    assert result.success.all() and far.sum() > 20
    longer = result.distance[far] / exact[far]
    assert longer.min() > 1 - 1e-3 and longer.mean() < 1.03 and np.median(longer) < 1.021


def test_random_start_uses_the_whole_ball_of_what_is_free(two):
    model, _, x, y, _ = two
    mask = np.arange(4)[:, None, None] < 1
    attack = A.PGD(0.5, norm="l2", steps=1, step_size=1e-6, random_start=True)
    length = attack(model, x, y, mask=mask).distance
    assert np.median(length) > 0.35, "in four directions the points of a ball lie near its surface"


def test_one_mask_for_all_and_one_a_sample_are_the_same(classifier, held_out):
    x, y = held_out.x[:10], held_out.y[:10]
    one, each = (A.PGD(0.3, steps=3)(classifier, x, y, mask=m) for m in (UPPER, np.tile(UPPER, (10, 1, 8, 1))))
    np.testing.assert_array_equal(one.x_adv, each.x_adv)
    everything = A.PGD(0.3, steps=3)(classifier, x, y, mask=True)
    np.testing.assert_array_equal(everything.x_adv, A.PGD(0.3, steps=3)(classifier, x, y).x_adv)


def test_masks_follow_samples_through_batches_starts_and_attacks_of_attacks(defended, held_out):
    x, y = held_out.x[:12], held_out.y[:12]
    mask = np.random.default_rng(0).random(x.shape) < 0.6
    search = A.PGD(0.3, steps=4, starts="all", early_stop=True)
    for attack in (search, A.WorstCase([A.FGSM(0.1), search], until_success=True), A.Transfer(search)):
        result = attack(defended, x, y, mask=mask, batch_size=5)
        np.testing.assert_array_equal(result.x_adv[~mask], x[~mask])
        assert result.success.any()


def test_search_through_a_surrogate_honours_the_mask(classifier, digits, held_out):
    x, y = held_out.x[:8], held_out.y[:8]
    defended = td.SafetyNet(["features"], threshold=0.0).attach(classifier)
    x_adv = A.BIM(0.2)(classifier, digits.x[:200], digits.y[:200]).x_adv
    td.adapt(defended, digits.x[:200], digits.y[:200], adversarial=x_adv, max_rejected=None)
    mask = np.zeros(x.shape, bool)
    mask[::2, :5], mask[1::2, :, 2:] = True, True
    result = A.BPDA(A.PGD(0.3, steps=5), exact_forward=False)(defended, x, y, mask=mask)
    np.testing.assert_array_equal(result.x_adv[~mask], x[~mask])
    assert np.abs(result.x_adv - x).max() > 1e-3


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((3, 8, 8, 1)), r"`mask` must broadcast to one sample, \(8, 8, 1\), or to all, \(4, 8, 8, 1\). Received \(3, 8"),
        (np.full((8, 8, 1), 0.5), "`mask` must hold booleans, True where a value may change. Received dtype float64"),
        ("depth", "`mask` must hold booleans"),
        (np.arange(4).reshape(4, 1, 1, 1) > 0, "leave something of each sample to change. It is False in all of sample 0"),
    ],
)
def test_wrong_masks_are_one_sentence(classifier, held_out, mask, words):
    x, y = held_out.x[:4], held_out.y[:4]
    for attack in (A.PGD(0.1), A.WorstCase([A.FGSM(0.1)]), A.Transfer(A.FGSM(0.1), source=classifier)):
        with pytest.raises(ValueError, match=words):
            attack(classifier, x, y, mask=mask)
